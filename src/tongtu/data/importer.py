"""From a user's log to a `Dataset`: streamed, in canonical order, with every dropped row counted by its reason.

Memory is bounded by the codes and times of the events (about 60 bytes an event at the peak) and by the distinct ids.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.core import Codes, Times
from tongtu.data import times
from tongtu.data.dataset import Dataset
from tongtu.data.item_text import build_text
from tongtu.data.log import Columns, Log, read_log
from tongtu.data.ordering import Rows, canonical_order, gathered, repeated
from tongtu.data.readers import open_table
from tongtu.data.tables import SideTable, match, read_side, with_others
from tongtu.errors import DataError
from tongtu.vocab import Vocab

_NO_USER, _NO_ITEM, _AGAIN = "missing user id", "missing item id", "exact duplicate"
_NO_TIME, _NO_ORDER = "missing or unreadable time", "missing or unreadable order"

Mask = npt.NDArray[np.bool_]


@dataclass
class ImportReport:
    """What became of the rows: `read == kept + sum(dropped.values())`.

    Attributes:
        read, kept: Rows.
        dropped: Rows left out, by the first reason that applies.
        time_unit: What the numbers of the time column were taken for.
        in_order: The share of neighbouring events of a user that stood in the file in the same order; 1 for a file in time order.
        items, users: Rows of the side tables that were of no use, and ids without a row, by reason.
        notes: What else a person should know.
    """

    read: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    time_unit: str | None = None
    in_order: float | None = None
    items: dict[str, int] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


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
    paths = [Path(f) for f in ([files] if isinstance(files, str | Path) else files)]
    if columns.time is None and columns.order is None:
        raise DataError("what orders the events? name a column of times with --time, or of positions with --order")
    tables = [open_table(path) for path in paths]
    for table in tables:
        table.require(columns.all)
    report = ImportReport()
    log = read_log(tables, columns, quiet)
    judged = _judge(log, columns, paths[0], report)
    parts = _arrange(log, judged, report)
    data = Dataset(name=name or paths[0].name.partition(".")[0], **parts)
    changes = _sides(data, items, users, columns, report)
    source = {
        "files": [path.name for path in paths],
        "columns": asdict(columns),
        "items": items and {"file": items.path.name, "text": list(items.text)} | ({"all": True} if items.all else {}),
        "users": users and {"file": users.path.name},
        "rows": asdict(report),
    }
    return dataclasses.replace(data, source=source, **changes), report


@dataclass(frozen=True)
class _Judged:
    """Which rows are usable, what orders them, and their seconds where those are known."""

    usable: Mask
    key: Times
    time: Times | None
    timed: Mask | None


def _judge(log: Log, columns: Columns, path: Path, report: ImportReport) -> _Judged:
    """Find the rows that cannot be used and count them."""
    report.read = len(log.user)
    usable = np.ones(report.read, np.bool_)
    _drop(usable, log.user != 0, _NO_USER, report)
    _drop(usable, log.item != 0, _NO_ITEM, report)
    time, timed = _times(log, report)
    if log.order is not None:
        key, ranked = _order(log.order)
        _drop(usable, ranked, _NO_ORDER, report)
        remedy = "--order needs a column of numbers; use --time for dates"
        _mostly(_NO_ORDER, report, f"{path}: column {columns.order!r} holds no number", remedy)
    else:
        assert time is not None and timed is not None
        key = time
        _drop(usable, timed, _NO_TIME, report)
        remedy = "give seconds or milliseconds since 1970 or ISO 8601 text, or name another column with --time"
        _mostly(_NO_TIME, report, f"{path}: column {columns.time!r} cannot be read as times", remedy)
    if not usable.any():
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in report.dropped.items())
        raise DataError(f"{path} has no usable row ({report.read:,} read: {reasons}): check the columns that were named")
    return _Judged(usable, key, time, timed)


def _arrange(log: Log, judged: _Judged, report: ImportReport) -> dict[str, Any]:
    """Give ids their codes, sort, and drop exact duplicates."""
    whole = bool(judged.usable.all())
    pick: Any = slice(None) if whole else judged.usable
    user, item, key = log.user[pick], log.item[pick], judged.key[pick]
    user_ids, user_code = log.users.finish(_used(user))
    item_ids, item_code = log.items.finish(_used(item))
    rows, offset, key = canonical_order(user_code[user], key, len(user_ids))
    item = item_code[gathered(item, rows)]
    if not whole:
        rows = np.flatnonzero(judged.usable)[rows]
    owner = np.repeat(np.arange(len(user_ids), dtype=np.int32), np.diff(offset))
    by_order = judged.time is not judged.key
    again = repeated(owner, key, lambda places: _identity(log, rows[places], item[places], judged.time if by_order else None))
    if len(again):
        report.dropped[_AGAIN] = len(again)
        rows, item, owner, key = (np.delete(column, again) for column in (rows, item, owner, key))
        offset = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(owner, minlength=len(user_ids)))])
    report.kept = len(rows)
    report.in_order = _in_order(rows, owner)
    time = None if judged.time is None or judged.timed is None else key
    if time is not None and by_order:
        time = _filled(judged.time[rows], judged.timed[rows], owner, report)  # type: ignore[index]
    return {
        "users": Vocab(user_ids),
        "items": Vocab(item_ids),
        "item": item,
        "offset": offset,
        "time": time,
        "event_fields": log.fields[rows] if log.fields.width else pl.DataFrame(),
    }


def _identity(log: Log, rows: Rows, item: Codes, time: Times | None) -> pl.DataFrame:
    """What two events of one user and key must have in common to be duplicates: item, time where the order decides, and all fields."""
    frame = pl.DataFrame({"item code": item} | ({} if time is None else {"time": time[rows]}))
    return pl.concat([frame, log.fields[rows]], how="horizontal") if log.fields.width else frame


def _in_order(rows: Rows, owner: Codes) -> float | None:
    neighbours = owner[1:] == owner[:-1]
    return round(float((rows[1:] > rows[:-1])[neighbours].mean()), 4) if neighbours.any() else None


def _times(log: Log, report: ImportReport) -> tuple[Times | None, Mask | None]:
    if log.time is None:
        return None, None
    known = log.time.is_not_null().to_numpy()
    value, usable, report.time_unit = times.seconds(log.time.fill_null(0).to_numpy(), known)
    return value, usable


def _order(order: pl.Series) -> tuple[Times, Mask]:
    """Integers that order like the column does, and where it holds a number."""
    known = order.is_not_null().to_numpy()
    values = order.fill_null(0).to_numpy()
    return values if order.dtype.is_integer() else np.unique(values, return_inverse=True)[1].astype(np.int64), known


def _filled(time: Times, known: Mask, owner: Codes, report: ImportReport) -> Times | None:
    """Times in canonical order; where the order column decided and a time is missing, the user's time before it, else the one after it."""
    if known.all():
        return time
    place = np.arange(len(time))
    before = np.maximum.accumulate(np.where(known, place, -1))
    after = np.minimum.accumulate(np.where(known, place, len(time))[::-1])[::-1]
    has_before = (before >= 0) & (owner[np.maximum(before, 0)] == owner)
    has_after = (after < len(time)) & (owner[np.minimum(after, len(time) - 1)] == owner)
    never = ~(has_before | has_after)
    if never.any():
        report.notes.append(f"times are left out: {int(never.sum()):,} events belong to users without any readable time")
        return None
    report.notes.append(f"{int((~known).sum()):,} events without a readable time got the time of the same user's event before or after them")
    return time[np.where(has_before, before, after)]


def _sides(data: Dataset, items: SideTable | None, users: SideTable | None, columns: Columns, report: ImportReport) -> Mapping[str, Any]:
    """The catalogue, item texts and user attributes, one row a code."""
    changes: dict[str, Any] = {}
    if items is not None:
        frame, renamed = read_side(items, [columns.item, "item_id", "id"])
        known = with_others(data.items, frame) if items.all else data.items
        if len(known) > len(data.items):
            changes["items"] = known
            report.notes.append(f"{len(known) - len(data.items):,} items of the catalogue have no event and were kept")
        changes["item_fields"], report.items = match(frame, known)
        changes["item_text"] = build_text(changes["item_fields"], [renamed.get(name, name) for name in items.text])
    if users is not None:
        frame, _ = read_side(users, [columns.user, "user_id", "id"])
        changes["user_attributes"], report.users = match(frame, data.users)
    return changes


def _drop(usable: Mask, good: Mask, reason: str, report: ImportReport) -> None:
    count = int((usable & ~good).sum())
    if count:
        report.dropped[reason] = count
        usable &= good


def _mostly(reason: str, report: ImportReport, what: str, remedy: str) -> None:
    bad = report.dropped.get(reason, 0)
    if bad * 2 > report.read:
        raise DataError(f"{what} in {bad:,} of {report.read:,} rows: {remedy}")


def _used(codes: Codes) -> Mask:
    used = np.zeros(int(codes.max()) + 1, np.bool_)
    used[codes] = True
    return used
