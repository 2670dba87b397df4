"""The columns of a log, streamed from its files into codes and numbers; its text is never held whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from tongtu.core import Codes
from tongtu.data import times
from tongtu.data.interning import Interner
from tongtu.data.readers import TableFile, reading
from tongtu.data.tables import as_id, typed
from tongtu.errors import ConfigError, DataError
from tongtu.progress import progress

_BATCH = 1 << 17
"""Rows handled at once: few enough that their hashes stay in the processor's cache."""


@dataclass(frozen=True)
class Columns:
    """What the columns of a log mean.

    Attributes:
        user, item: Columns of ids.
        time: Column of times, or None.
        order: Column of numbers that order each user's events, or None; it decides where both are given, and the time is kept.
        rating: Column kept as the event field "rating", or None.
        fields: Further columns kept as event fields under their own names.
    """

    user: str
    item: str
    time: str | None = None
    order: str | None = None
    rating: str | None = None
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kept = ["rating", *self.fields] if self.rating else list(self.fields)
        for names in (self.all, kept):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ConfigError(f"column {twice[0]!r} is named twice: each column can mean one thing, and each field needs a name of its own")

    @property
    def all(self) -> list[str]:
        """Every column that is read."""
        return [name for name in (self.user, self.item, self.time, self.order, self.rating, *self.fields) if name is not None]


@dataclass(frozen=True)
class Log:
    """A log as it was read, row by row: provisional codes, and numbers not yet judged.

    Attributes:
        user, item: int32[n], codes that `users` and `items` gave; `PAD` where the id is missing.
        time, order: Numbers[n], null where the column held none; None where there is no such column.
        fields: One row an event.
    """

    user: Codes
    item: Codes
    time: pl.Series | None
    order: pl.Series | None
    fields: pl.DataFrame
    users: Interner
    items: Interner


def read_log(tables: Sequence[TableFile], columns: Columns, quiet: bool) -> Log:
    """Stream files that continue each other.

    Raises:
        DataError: If one cannot be read, or there is no row.
    """
    users, items = Interner(), Interner()
    user, item, rest = [], [], []
    with progress("reading", None, "events", quiet) as bar, ThreadPoolExecutor(1) as beside:
        for table in tables:
            for batch in _batches(table, columns):
                codes = beside.submit(items.codes, batch["item"])
                user.append(users.codes(batch["user"]))
                item.append(codes.result())
                rest.append(batch.drop("user", "item"))
                bar.advance(batch.height)
    if not user:
        raise DataError(f"{tables[0].path} has a header and no rows: check how it was written")
    others: pl.DataFrame = pl.concat(rest, how="vertical_relaxed")
    fields = [typed(others[_field(name)]).rename(name) for name in (*(["rating"] if columns.rating else []), *columns.fields)]
    return Log(
        user=np.concatenate(user),
        item=np.concatenate(item),
        time=others["time"] if columns.time else None,
        order=others["order"] if columns.order else None,
        fields=pl.DataFrame(fields),
        users=users,
        items=items,
    )


def _batches(table: TableFile, columns: Columns) -> Iterator[pl.DataFrame]:
    """The wanted columns of a file: user, item, time, order, and the fields."""
    numbers: dict[str, type[pl.DataType]] = {}
    if table.format != "parquet":
        for column in (columns.time, columns.order):
            if column is not None and (kind := times.number_kind(table.head(column))) is not None:
                numbers[column] = kind
        if columns.rating is not None:
            numbers[columns.rating] = pl.Float32
    with reading(table.path, table.format):
        lazy = table.lazy(numbers)
        batches: Any = lazy.select(_wanted(columns, lazy.collect_schema())).collect_batches(chunk_size=_BATCH, maintain_order=True)
        for batch in batches:
            if batch.height:
                yield batch


def _wanted(columns: Columns, schema: pl.Schema) -> list[pl.Expr]:
    wanted = [as_id(columns.user, schema[columns.user]).alias("user"), as_id(columns.item, schema[columns.item]).alias("item")]
    if columns.time is not None:
        wanted.append(times.moment(columns.time, schema[columns.time]).alias("time"))
    if columns.order is not None:
        whole = schema[columns.order].is_integer()
        place = pl.col(columns.order).cast(pl.Int64 if whole else pl.Float64, strict=False)
        wanted.append((place if whole else place.fill_nan(None)).alias("order"))
    if columns.rating is not None:
        wanted.append(pl.col(columns.rating).cast(pl.Float32, strict=False).alias(_field("rating")))
    return wanted + [pl.col(name).alias(_field(name)) for name in columns.fields]


def _field(name: str) -> str:
    return f"field {name}"
