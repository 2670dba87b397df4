"""Small logs in files of every format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from tongtu.data.dataset import Dataset
from tongtu.data.importer import ImportReport, import_log
from tongtu.data.log import Columns

FORMATS = ("csv", "tsv", "jsonl", "parquet")
COLUMNS = Columns("user", "item", time="time")


def write(path: Path, table: pl.DataFrame) -> Path:
    """A table in the format that the ending tells."""
    if path.suffix == ".parquet":
        table.write_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table.iter_rows(named=True)), encoding="utf-8")
    else:
        table.write_csv(path, separator="," if path.suffix == ".csv" else "\t")
    return path


def table(rows: Sequence[Sequence[Any]], columns: Sequence[str] = ("user", "item", "time")) -> pl.DataFrame:
    return pl.DataFrame([list(row) for row in rows], schema=list(columns), orient="row", infer_schema_length=None)


def imported(path: Path, text: str | bytes, columns: Columns = COLUMNS) -> tuple[Dataset, ImportReport]:
    """Import what is written to `path`."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return import_log(path, columns, quiet=True)


def histories(data: Dataset) -> dict[str, list[str]]:
    """Item ids of each user, in canonical order."""
    return {user: data.items.decode(data.history(code)) for code, user in enumerate(data.users.ids, start=1)}


def dataset(histories: dict[str, str], times: Sequence[int] | None = None, **more: Any) -> Dataset:
    """A data set of one-letter items: dataset({"u": "abc"})."""
    import numpy as np

    from tongtu.vocab import Vocab

    items = Vocab(sorted(set("".join(histories.values()))))
    lengths = [len(letters) for letters in histories.values()]
    return Dataset(
        name="letters",
        users=Vocab(list(histories)),
        items=items,
        item=items.encode("".join(histories.values())),
        offset=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        time=None if times is None else np.array(times, np.int64),
        **more,
    )
