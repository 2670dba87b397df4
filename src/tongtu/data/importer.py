"""From a user's log to a `Dataset`: streamed, in canonical order, with every dropped row counted by its reason.

Memory is bounded by the codes and times of the events (about 60 bytes an event at the peak) and the distinct ids; the text of the log is never held.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.core import Codes, Offsets, Times
from tongtu.data import times
from tongtu.data.dataset import Dataset
from tongtu.data.interning import Interner
from tongtu.data.item_text import build_text
from tongtu.data.ordering import canonical_order, repeated
from tongtu.data.readers import TableFile, open_table, reading
from tongtu.data.tables import SideTable, as_id, match, read_side, typed
from tongtu.errors import DataError
from tongtu.progress import progress
from tongtu.vocab import Vocab

_BATCH = 1 << 20
_NO_USER, _NO_ITEM, _AGAIN = "missing user id", "missing item id", "exact duplicate"
_NO_TIME, _NO_ORDER = "missing or unreadable time", "missing or unreadable order"

Mask = npt.NDArray[np.bool_]


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

    @property
    def all(self) -> list[str]:
        """Every column that is read."""
        return [name for name in (self.user, self.item, self.time, self.order, self.rating, *self.fields) if name is not None]


@dataclass
class ImportReport:
    """What became of the rows: `read == kept + sum(dropped.values())`.

    Attributes:
        dropped: Rows left out, by the first reason that applies.
        time_unit: What the numbers of the time column were taken for.
        items, users: Rows of the side tables that were of no use, and ids without a row, by reason.
        notes: What else a person should know.
    """

    read: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    time_unit: str | None = None
    items: dict[str, int] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Log:
    """The columns of a log as they were read: provisional codes, numbers not yet judged."""

    user: Codes
    item: Codes
    time: pl.Series | None
    order: pl.Series | None
    fields: pl.DataFrame
    users: Interner
    items: Interner


def import_log(
    files: Path | Sequence[Path],
    columns: Columns,
    items: SideTable | None = None,
    users: SideTable | None = None,
    name: str | None = None,
    quiet: bool = False,
) -> tuple[Dataset, ImportReport]:
    """Read a log and its side tables.

    Args:
        files: One file, or several that continue each other and have the same columns.
        columns: What the columns mean; `time` or `order` must be given.
        items, users: The catalogue and the users' attributes.
        name: What to call the data set; the file's name if None.
        quiet: Whether to show no progress.

    Raises:
        DataError: If a file cannot be read, a column is missing, most times cannot be read, or no row is left.
    """
    paths = [Path(f) for f in ([files] if isinstance(files, Path) else files)]
    if columns.time is None and columns.order is None:
        raise DataError("what orders the events? name a column of times with --time, or of positions with --order")
    tables = [open_table(path) for path in paths]
    for table in tables:
        table.require(columns.all)
    report = ImportReport()
    parts, offset, user_ids, item_ids = _ordered(read_log(tables, columns, quiet), columns, paths[0], report)
    source: dict[str, Any] = {"files": [path.name for path in paths], "columns": asdict(columns), "rows": asdict(report)}
    data = Dataset(
        name=name or paths[0].name.split(".")[0],
        users=Vocab(user_ids),
        items=Vocab(item_ids),
        offset=offset,
        source=source,
        **parts,
    )
    return _with_sides(data, items, users, columns, report), report


def read_log(tables: Sequence[TableFile], columns: Columns, quiet: bool) -> Log:
    """Stream the files batch by batch into codes and numbers."""
    users, items = Interner(), Interner()
    parts: dict[str, list[Any]] = {"user": [], "item": [], "rest": []}
    with progress("reading", None, "events", quiet) as bar:
        for table in tables:
            for batch in _batches(table, columns):
                parts["user"].append(users.codes(batch["user"]))
                parts["item"].append(items.codes(batch["item"]))
                parts["rest"].append(batch.drop("user", "item"))
                bar.advance(batch.height)
    if not parts["user"]:
        raise DataError(f"{tables[0].path} has a header and no rows: check how it was written")
    rest: pl.DataFrame = pl.concat(parts.pop("rest"), how="vertical_relaxed")
    fields = rest.select(pl.col(f"field {f}").alias(f) for f in _field_names(columns))
    fields = pl.DataFrame([typed(column) if column.name != "rating" else column for column in fields])
    return Log(
        user=np.concatenate(parts.pop("user")),
        item=np.concatenate(parts.pop("item")),
        time=rest["time"] if columns.time else None,
        order=rest["order"] if columns.order else None,
        fields=fields,
        users=users,
        items=items,
    )


def _batches(table: TableFile, columns: Columns) -> Iterable[pl.DataFrame]:
    """The wanted columns of a file, renamed: user, item, time, order and each "field NAME"."""
    numbers: dict[str, type[pl.DataType]] = {}
    if table.format != "parquet":
        for column in (columns.time, columns.order):
            if column is not None and (kind := times.number_kind(table.head(column))) is not None:
                numbers[column] = kind
        if columns.rating is not None:
            numbers[columns.rating] = pl.Float32
    with reading(table.path, table.format):
        lazy = table.lazy(numbers)
        schema = lazy.collect_schema()
        wanted = [as_id(columns.user, schema[columns.user]).alias("user"), as_id(columns.item, schema[columns.item]).alias("item")]
        if columns.time is not None:
            wanted.append(times.moment(columns.time, schema[columns.time]).alias("time"))
        if columns.order is not None:
            wanted.append(_rank_number(columns.order, schema[columns.order]).alias("order"))
        if columns.rating is not None:
            wanted.append(pl.col(columns.rating).cast(pl.Float32, strict=False).alias("field rating"))
        wanted += [pl.col(name).alias(f"field {name}") for name in columns.fields]
        yield from (batch for batch in lazy.select(wanted).collect_batches(chunk_size=_BATCH, maintain_order=True) if batch.height)


def _field_names(columns: Columns) -> list[str]:
    return (["rating"] if columns.rating else []) + list(columns.fields)


def _rank_number(column: str, dtype: pl.DataType) -> pl.Expr:
    value = pl.col(column)
    if dtype.is_integer():
        return value.cast(pl.Int64, strict=False)
    return value.cast(pl.Float64, strict=False).fill_nan(None)


def _ordered(log: Log, columns: Columns, path: Path, report: ImportReport) -> tuple[dict[str, Any], Offsets, pl.Series, pl.Series]:
    """Drop what is unusable, sort, drop exact duplicates, and give ids their codes."""
    report.read = len(log.user)
    good = np.ones(report.read, np.bool_)
    _drop(good, log.user != 0, _NO_USER, report)
    _drop(good, log.item != 0, _NO_ITEM, report)
    time, timed = _times(log, report)
    order, key = _order(log), time
    if order is not None:
        key, ranked = order
        _drop(good, ranked, _NO_ORDER, report)
        remedy = "--order needs a column of numbers; use --time for dates"
        _mostly(report.dropped.get(_NO_ORDER, 0), report.read, f"{path}: column {columns.order!r} holds no number", remedy)
    elif timed is not None:
        _drop(good, timed, _NO_TIME, report)
        remedy = "give seconds or milliseconds since 1970 or ISO 8601 text, or name another column with --time"
        _mostly(report.dropped.get(_NO_TIME, 0), report.read, f"{path}: column {columns.time!r} cannot be read as times", remedy)
    assert key is not None
    return _sorted(log, (good, key, time, timed), path, report)


def _sorted(
    log: Log, judged: tuple[Mask, Times, Times | None, Mask | None], path: Path, report: ImportReport
) -> tuple[dict[str, Any], Offsets, pl.Series, pl.Series]:
    good, key, time, timed = judged
    if not good.any():
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in report.dropped.items())
        raise DataError(f"{path} has no usable row ({report.read:,} read: {reasons}): check the columns that were named")
    user_ids, user_code = log.users.finish(_used(log.user[good]))
    item_ids, item_code = log.items.finish(_used(log.item[good]))
    rows = np.flatnonzero(good)
    place, offset = canonical_order(user_code[log.user[rows]], key[rows], len(user_ids))
    rows = rows[place]
    owner = np.repeat(np.arange(len(user_ids), dtype=np.int32), np.diff(offset))
    item = item_code[log.item[rows]]
    again = _duplicates(log, rows, owner, key[rows], item, time if time is not key else None)
    if again.any():
        report.dropped[_AGAIN] = int(again.sum())
        rows, item, owner = rows[~again], item[~again], owner[~again]
        offset = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(owner, minlength=len(user_ids)))])
    report.kept = len(rows)
    parts: dict[str, Any] = {"item": item, "event_fields": log.fields[rows] if log.fields.width else pl.DataFrame()}
    if time is not None and timed is not None:
        parts["time"] = _filled(time[rows], timed[rows], owner, report)
    return parts, offset, user_ids, item_ids


def _duplicates(log: Log, rows: npt.NDArray[np.int64], owner: Codes, key: Times, item: Codes, time: Times | None) -> Mask:
    same = np.zeros(len(rows), np.bool_)
    same[1:] = (owner[1:] == owner[:-1]) & (key[1:] == key[:-1])
    if not same.any():
        return same
    frame = pl.DataFrame({"item code": item} | ({} if time is None else {"time": time[rows]}))
    return repeated(pl.concat([frame, log.fields[rows]], how="horizontal") if log.fields.width else frame, same)


def _times(log: Log, report: ImportReport) -> tuple[Times | None, Mask | None]:
    if log.time is None:
        return None, None
    known = log.time.is_not_null().to_numpy()
    value, usable, report.time_unit = times.seconds(log.time.fill_null(0).to_numpy(), known)
    return value, usable


def _order(log: Log) -> tuple[Times, Mask] | None:
    if log.order is None:
        return None
    known = log.order.is_not_null().to_numpy()
    if log.order.dtype.is_integer():
        return log.order.fill_null(0).to_numpy(), known
    return np.unique(log.order.fill_null(0).to_numpy(), return_inverse=True)[1].astype(np.int64), known


def _filled(time: Times, known: Mask, owner: Codes, report: ImportReport) -> Times | None:
    """Times in canonical order; where the order column decided and a time is missing, the user's time before it, else the one after it."""
    if known.all():
        return time
    place = np.arange(len(time))
    before = np.maximum.accumulate(np.where(known, place, -1))
    after = np.minimum.accumulate(np.where(known, place, len(time))[::-1])[::-1]
    ok_before = (before >= 0) & (owner[np.maximum(before, 0)] == owner)
    ok_after = (after < len(time)) & (owner[np.minimum(after, len(time) - 1)] == owner)
    if not (ok_before | ok_after).all():
        report.notes.append(f"times left out: {int((~(ok_before | ok_after)).sum()):,} events belong to users without any readable time")
        return None
    report.notes.append(f"{int((~known).sum()):,} events without a readable time got that of the event before or after them")
    return time[np.where(ok_before, before, after)]


def _with_sides(data: Dataset, items: SideTable | None, users: SideTable | None, columns: Columns, report: ImportReport) -> Dataset:
    changes: dict[str, Any] = {}
    if items is not None:
        frame, id_name = read_side(items, [columns.item, "item_id", "id"])
        frame, report.items = match(frame, data.items)
        changes["item_fields"] = frame
        text = [name if name != "id" or id_name == "id" else "id_2" for name in items.text]
        changes["item_text"] = build_text(frame, text)
    if users is not None:
        frame, _ = read_side(users, [columns.user, "user_id", "id"])
        changes["user_attributes"], report.users = match(frame, data.users)
    source: Mapping[str, Any] = {**data.source, "rows": asdict(report), "items_file": items and items.path.name, "users_file": users and users.path.name}
    if items is not None:
        source = {**source, "text": list(items.text)}
    return dataclasses.replace(data, source=source, **changes)


def _drop(good: Mask, usable: Mask, reason: str, report: ImportReport) -> None:
    count = int((good & ~usable).sum())
    if count:
        report.dropped[reason] = count
        good &= usable


def _mostly(bad: int, read: int, what: str, remedy: str) -> None:
    if bad * 2 > read:
        raise DataError(f"{what} in {bad:,} of {read:,} rows: {remedy}")


def _used(codes: Codes) -> Mask:
    return np.bincount(codes) > 0
