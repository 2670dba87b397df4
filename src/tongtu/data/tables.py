"""Catalogue and user tables: read, matched with the log, one row for each code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tongtu.data.readers import TableFile, open_table, reading
from tongtu.errors import DataError
from tongtu.vocab import Vocab


@dataclass(frozen=True)
class SideTable:
    """A file with one row an item or one row a user.

    Attributes:
        path: The file.
        id: Its column of ids, or None to find it: the log's own column name, the atomic name, or "id".
        text: Columns the item text is built from, in this order; nothing for users.
        all: Whether ids that are not in the log are kept too, as items without events; for catalogues.
    """

    path: Path
    id: str | None = None
    text: tuple[str, ...] = ()
    all: bool = False


def read_side(table: SideTable, known_as: Sequence[str]) -> tuple[pl.DataFrame, dict[str, str]]:
    """The table with its id column first, called "id" and written as text.

    Args:
        table: Which file and columns.
        known_as: Names the id column may have where `table.id` does not say.

    Returns:
        The frame, and the columns that are called otherwise in it: the ids are "id", and another column of that name is "id_2".
    """
    file = open_table(table.path)
    name = table.id or next((known for known in known_as if known in file.columns), None)
    if name is None:
        raise DataError(f"{table.path}: which column holds the ids? None is called {' or '.join(known_as)}; its columns are: {', '.join(file.columns)}")
    file.require([name, *table.text])
    with reading(file.path, file.format):
        frame = file.lazy().collect()
    ids = frame.select(as_id(name, frame.schema[name]).alias("id"))
    rest = frame.drop(name)
    if file.format != "parquet":
        rest = pl.DataFrame([typed(_sequence(column, file)) for column in rest])
    renamed = {"id": "id_2"} if "id" in rest.columns else {}
    rest = rest.rename(renamed)
    return (pl.concat([ids, rest], how="horizontal") if rest.width else ids), renamed | {name: "id"}


def match(frame: pl.DataFrame, ids: Vocab) -> tuple[pl.DataFrame, dict[str, int]]:
    """One row for each id in code order, and how many rows were of no use and why.

    Args:
        frame: As `read_side` gives it.
        ids: The ids that occur in the log.
    """
    usable = frame.filter(pl.col("id").is_not_null())
    first = usable.unique("id", keep="first", maintain_order=True)
    place = pl.DataFrame({"code": ids.encode(first["id"])}).with_row_index("row").filter(pl.col("code") != 0).sort("code")
    rows = pl.DataFrame({"code": pl.int_range(1, ids.size, dtype=pl.Int32, eager=True)}).join(place, on="code", how="left", maintain_order="left")["row"]
    counts = {
        "missing id": frame.height - usable.height,
        "repeated id": usable.height - first.height,
        "id not in the log": first.height - place.height,
        "id of the log without a row": rows.null_count(),
    }
    return first[rows].drop("id") if first.width > 1 else pl.DataFrame(), {reason: count for reason, count in counts.items() if count}


def with_others(ids: Vocab, frame: pl.DataFrame) -> Vocab:
    """The ids, and behind them those of a table that are not among them, in its order: codes that were given stay.

    Args:
        ids: The ids that occur in the log.
        frame: As `read_side` gives it.
    """
    listed = frame["id"].drop_nulls().unique(maintain_order=True)
    return Vocab(pl.concat([ids.ids, listed.filter(pl.Series(ids.encode(listed) == 0))]))


def as_id(column: str, dtype: pl.DataType) -> pl.Expr:
    """Ids as text, exactly as written; numbers that a table holds as floats lose their ".0", and "" is missing."""
    value = pl.col(column)
    if dtype.is_float():
        whole = value.cast(pl.Int64, strict=False)
        return pl.when(whole.cast(dtype) == value).then(whole.cast(pl.String)).otherwise(value.fill_nan(None).cast(pl.String))
    text = value if dtype == pl.String else value.cast(pl.String)
    return pl.when(text != "").then(text)


def typed(column: pl.Series) -> pl.Series:
    """A text column as numbers where every value is one and none would be written differently ("007" stays text)."""
    if column.dtype != pl.String or column.null_count() == len(column):
        return column
    if not column.str.contains(r"^[+-]?0\d").any():
        for kind in (pl.Int64, pl.Float64):
            number = column.cast(kind, strict=False)
            if number.null_count() == column.null_count():
                return number
    return column


def _sequence(column: pl.Series, file: TableFile) -> pl.Series:
    """RecBole's lists of numbers become lists; its token lists stay text with spaces, because titles are token lists too."""
    return column.str.split(" ").cast(pl.List(pl.Float64)) if file.types.get(column.name) == "float_seq" else column

