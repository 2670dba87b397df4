"""Amazon reviews of 2014, 2018 and 2023 (McAuley et al. SIGIR 2015; Ni et al. EMNLP 2019; Hou et al. 2024), 5-core files.

Only ratings and times of the reviews are kept; import the files by hand with `--field` to keep review texts.
"""

from __future__ import annotations

import ast
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from tongtu.data.dataset import Dataset
from tongtu.data.fetch import Download, find
from tongtu.data.importer import ImportReport, import_log
from tongtu.data.log import Columns
from tongtu.data.public import PublicSet
from tongtu.data.readers import open_table, reading
from tongtu.data.tables import SideTable
from tongtu.errors import DataError

_LICENCE = "UCSD: research use with citation"
_SNAP = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"
_UCSD = "https://mcauleylab.ucsd.edu/public_datasets/data/"
_OLD_UCSD = "https://datarepo.eng.ucsd.edu/mcauley_group/data/"

_SHORT = {
    "beauty": "Beauty",
    "sports": "Sports_and_Outdoors",
    "toys": "Toys_and_Games",
    "clothing": "Clothing_Shoes_and_Jewelry",
    "musical-instruments": "Musical_Instruments",
    "video-games": "Video_Games",
    "office": "Office_Products",
    "tools": "Tools_and_Home_Improvement",
    "home": "Home_and_Kitchen",
    "pets": "Pet_Supplies",
    "grocery": "Grocery_and_Gourmet_Food",
    "automotive": "Automotive",
    "electronics": "Electronics",
    "books": "Books",
}
_RENAMED = {  # what later editions call a category
    "2018": {"beauty": "All_Beauty", "scientific": "Industrial_and_Scientific", "arts": "Arts_Crafts_and_Sewing"},
    "2023": {"beauty": "All_Beauty", "scientific": "Industrial_and_Scientific", "arts": "Arts_Crafts_and_Sewing", "cds": "CDs_and_Vinyl"},
}


@dataclass(frozen=True)
class _Edition:
    """What differs between the years: file names, column names and where the files are."""

    year: str
    page: str
    log: str
    catalogue: str
    places: tuple[tuple[str, str], ...]
    columns: Columns
    id: str
    text: tuple[str, ...]
    kept: tuple[str, ...]


_V1 = Columns("reviewerID", "asin", time="unixReviewTime", rating="overall")
_EDITIONS = (
    _Edition(
        year="2014",
        page="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
        log="reviews_{}_5.json.gz",
        catalogue="meta_{}.json.gz",
        places=((_SNAP, _SNAP),),
        columns=_V1,
        id="asin",
        text=("title", "brand", "categories"),
        kept=("title", "brand", "categories", "price", "description"),
    ),
    _Edition(
        year="2018",
        page="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/",
        log="{}_5.json.gz",
        catalogue="meta_{}.json.gz",
        places=tuple((f"{root}amazon_v2/categoryFilesSmall/", f"{root}amazon_v2/metaFiles2/") for root in (_UCSD, _OLD_UCSD)),
        columns=_V1,
        id="asin",
        text=("title", "brand", "category"),
        kept=("title", "brand", "category", "price", "description"),
    ),
    _Edition(
        year="2023",
        page="https://amazon-reviews-2023.github.io/",
        log="{}.csv.gz",
        catalogue="meta_{}.jsonl.gz",
        places=tuple((f"{root}amazon_2023/benchmark/5core/rating_only/", f"{root}amazon_2023/raw/meta_categories/") for root in (_UCSD, _OLD_UCSD)),
        columns=Columns("user_id", "parent_asin", time="timestamp", rating="rating"),
        id="parent_asin",
        text=("title", "store", "categories"),
        kept=("title", "store", "categories", "price", "description"),
    ),
)


def sets() -> list[PublicSet]:
    """Every edition and category."""
    return [_set(edition, short, name) for edition in _EDITIONS for short, name in sorted((_SHORT | _RENAMED.get(edition.year, {})).items())]


def _set(edition: _Edition, short: str, name: str) -> PublicSet:
    log, catalogue = edition.log.format(name), edition.catalogue.format(name)
    return PublicSet(
        f"amazon{edition.year}-{short}",
        f"Amazon reviews {edition.year}, {name.replace('_', ' ')}, 5-core: ratings, titles, categories",
        edition.page,
        _LICENCE,
        (Download(log, tuple(place + log for place, _ in edition.places)), Download(catalogue, tuple(place + catalogue for _, place in edition.places))),
        partial(_build, edition, f"amazon{edition.year}-{short}", (log, catalogue)),
    )


def _build(edition: _Edition, name: str, files: tuple[str, str], folder: Path, work: Path, quiet: bool) -> tuple[Dataset, ImportReport]:
    log, catalogue = (_either(folder, file) for file in files)
    if log is None:
        raise DataError(f"{folder} holds no {files[0]}: give the file or folder that was downloaded with --from")
    items = None
    if catalogue is not None:
        _write_catalogue(edition, log, catalogue, work / "items.parquet")
        items = SideTable(work / "items.parquet", edition.id, edition.text)
    data, report = import_log(log, edition.columns, items, name=name, quiet=quiet)
    if catalogue is None:
        report.notes.append(f"no {files[1]} beside the reviews, so items have no text")
    return data, report


def _either(folder: Path, name: str) -> Path | None:
    """The file, packed or unpacked."""
    unpacked = name.removesuffix(".gz")
    found = find(folder, [name, unpacked])
    return found.get(name) or found.get(unpacked)


def _write_catalogue(edition: _Edition, log: Path, catalogue: Path, target: Path) -> None:
    """The catalogue's rows of items that the log holds, one type a column."""
    table = open_table(log)
    with reading(log, table.format):
        wanted = set(table.lazy().select(pl.col(edition.columns.item).cast(pl.String).unique()).collect().to_series().to_list())
    rows: list[dict[str, Any]] = []
    for entry in _entries(catalogue, wanted, edition.id):
        rows.append({edition.id: entry[edition.id], **{key: _plain(entry.get(key), key) for key in edition.kept}})
    schema: dict[str, Any] = {edition.id: pl.String, **{key: pl.List(pl.String) if _is_list(key) else pl.String for key in edition.kept}}
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(target)


def _entries(path: Path, wanted: set[str], key: str) -> Iterator[dict[str, Any]]:
    """The catalogue's entries for `wanted` ids. The 2014 files hold Python literals instead of JSON; lines of other items are not parsed."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            marked = _quoted_after(line, key)
            if marked is not None and marked not in wanted:
                continue
            try:
                entry = json.loads(line) if line.startswith('{"') else ast.literal_eval(line)
            except (ValueError, SyntaxError):
                raise DataError(f"{path}, line {number} is neither JSON nor a Python literal: download it again") from None
            if entry.get(key) in wanted:
                yield entry


def _quoted_after(line: str, key: str) -> str | None:
    """The text after `"key": ` where it is plainly there once; None sends the line to the parser."""
    for quote in "\"'":
        mark = f"{quote}{key}{quote}: {quote}"
        if line.count(mark) == 1:
            return line.partition(mark)[2].partition(quote)[0]
    return None


def _is_list(key: str) -> bool:
    return key in ("categories", "category", "description")


def _plain(value: Any, key: str) -> Any:
    """Text, or for list columns a flat list of texts (2014 nests category paths)."""
    if not _is_list(key):
        return None if value is None else str(value)
    if isinstance(value, list):
        return [str(part) for entry in value for part in (entry if isinstance(entry, list) else [entry])]
    return None if value is None else [str(value)]
