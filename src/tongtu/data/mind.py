"""MIND (Wu et al., ACL 2020): news.tsv and behaviors.tsv as a data set with impressions.

A user's events are the clicks listed as their history, whose order is known and whose times are not; the longest history of a
user is taken. Impressions carry their time, what was shown and what was clicked; `seen` is the length of the history that the row lists.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from tongtu.core import Offsets
from tongtu.data.dataset import Dataset, Impressions
from tongtu.data.fetch import Download
from tongtu.data.importer import ImportReport
from tongtu.data.item_text import build_text
from tongtu.data.public import PublicSet
from tongtu.errors import DataError
from tongtu.vocab import Vocab

_PLACES = ("https://recodatasets.z20.web.core.windows.net/newsrec/", "https://huggingface.co/datasets/Recommenders/MIND/resolve/main/")
_NEWS = ["id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities"]
_BEHAVIOURS = ["impression", "user", "time", "history", "shown"]


def sets() -> list[PublicSet]:
    """The small and the large set, training and development parts together."""
    return [
        PublicSet(
            f"mind-{size}",
            f"MIND {size}: news clicks with impressions, titles and abstracts",
            "https://msnews.github.io/",
            "Microsoft Research licence: non-commercial research",
            tuple(Download(f"MIND{size}_{part}.zip", tuple(f"{place}MIND{size}_{part}.zip" for place in _PLACES)) for part in ("train", "dev")),
            partial(read_mind, f"mind-{size}"),
        )
        for size in ("small", "large")
    ]


def read_mind(name: str, folder: Path, work: Path, quiet: bool) -> tuple[Dataset, ImportReport]:
    """Every news.tsv and behaviors.tsv in `folder` or below it."""
    behaviours = _tables(folder, "behaviors.tsv", _BEHAVIOURS)
    news = _tables(folder, "news.tsv", _NEWS).unique("id", keep="first", maintain_order=True).drop("url", "title_entities", "abstract_entities")
    report = ImportReport(read=behaviours.height, time_unit="seconds")
    behaviours = behaviours.with_row_index("row").with_columns(
        pl.col("history").fill_null("").str.split(" ").list.eval(pl.element().filter(pl.element() != "")),
        pl.col("shown").fill_null("").str.split(" ").list.eval(pl.element().filter(pl.element() != "")),
        pl.col("time").str.to_datetime("%m/%d/%Y %I:%M:%S %p", strict=False).dt.epoch("s"),
    )
    usable = behaviours.filter(pl.col("user").is_not_null() & pl.col("time").is_not_null())
    report.kept = usable.height
    if report.kept < report.read:
        report.dropped["missing user id or unreadable time"] = report.read - report.kept
    shown = usable.select("row", pl.col("shown")).explode("shown", empty_as_null=False).with_columns(
        pl.col("shown").str.replace(r"-[01]$", "").alias("item"),
        pl.col("shown").str.ends_with("-1").alias("clicked"),
    )
    items = Vocab(pl.concat([news["id"], usable["history"].explode(empty_as_null=False), shown["item"]]).drop_nulls().unique().sort())
    users = Vocab(usable["user"].unique().sort())
    longest = usable.sort(pl.col("history").list.len(), descending=True, maintain_order=True).unique("user", keep="first", maintain_order=True).sort("user")
    titled = pl.DataFrame({"id": items.ids}).join(news, on="id", how="left", maintain_order="left").drop("id")
    data = Dataset(
        name=name,
        users=users,
        items=items,
        item=items.encode(longest["history"].explode(empty_as_null=False)),
        offset=_offset(longest["history"].list.len()),
        item_text=build_text(titled, ["title", "category", "subcategory", "abstract"]),
        item_fields=titled,
        impressions=_impressions(usable, shown, users, items),
        source={"files": ["behaviors.tsv", "news.tsv"], "rows": {"read": report.read, "kept": report.kept, "dropped": report.dropped}},
    )
    return data, report


def _impressions(rows: pl.DataFrame, shown: pl.DataFrame, users: Vocab, items: Vocab) -> Impressions:
    return Impressions(
        user=users.encode(rows["user"]),
        seen=rows["history"].list.len().cast(pl.Int64).to_numpy(),
        time=rows["time"].cast(pl.Int64).to_numpy(),
        item=items.encode(shown["item"]),
        clicked=shown["clicked"].to_numpy(),
        offset=_offset(rows["shown"].list.len()),
    )


def _tables(folder: Path, name: str, columns: list[str]) -> pl.DataFrame:
    """All files called `name`, one below the other; MIND's files have no header and never quote."""
    files = sorted(file for file in folder.rglob(name) if file.is_file())
    if not files:
        raise DataError(f"{folder} holds no {name}: give the archive or folder that was downloaded with --from")
    try:
        parts = [
            pl.read_csv(file, separator="\t", has_header=False, quote_char=None, schema=dict.fromkeys(columns, pl.String), truncate_ragged_lines=True)
            for file in files
        ]
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{name} in {folder} cannot be read ({' '.join(str(error).split())[:120]}): download it again") from None
    return pl.concat(parts)


def _offset(lengths: pl.Series) -> Offsets:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths.to_numpy(), dtype=np.int64)])
