"""Warnings of leaks and traps: what makes a comparison on this data say less than it seems to, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from tongtu.data.dataset import Dataset
from tongtu.data.stats import ties
from tongtu.vocab import Vocab

_DAY = 86_400
_NULL_WORDS = ("nan", "null", "none", "na", "n/a", "nil", "undefined", "unknown", "<na>")


@dataclass(frozen=True)
class Trap:
    """One trap.

    Attributes:
        name: A short name of the kind of trap.
        text: What was found.
        remedy: What to do.
    """

    name: str
    text: str
    remedy: str


def check(data: Dataset) -> list[Trap]:
    """Every trap that was found, in the order of the functions below."""
    return [trap for look in _LOOKS for trap in look(data)]


def _tied_targets(data: Dataset) -> Iterator[Trap]:
    """The last two events share a second, so which of them is the test target is an accident of the file."""
    long = np.flatnonzero(data.lengths >= 3)
    if data.time is None or not len(long) or _column(data, "order"):
        return
    share = float(ties(data)[data.offset[long + 1] - 1].mean())
    if share > 0.01:
        where = "" if _in_order(data) else "; the file's rows are not in time order, so the tie order means nothing"
        yield Trap(
            "tied targets",
            f"for {share:.1%} of the users the last two events share a second, so leave-one-out picks their target by the order of the file{where}",
            "import a column that knows the true order with --order, use times of finer resolution, or split by global time",
        )


def _file_order(data: Dataset) -> Iterator[Trap]:
    """Ties keep the order of rows, which tells nothing in a file that is sorted by something else (as ml-1m's ratings.dat)."""
    tied = float(ties(data).mean()) if data.n_events else 0.0
    if tied > 0.05 and not _in_order(data) and not _column(data, "order"):
        yield Trap(
            "file order",
            f"{tied:.1%} of the events tie with the one before them, and the file is not in time order: the order inside ties is arbitrary",
            "sort the file as things happened before the import, or give --order",
        )


def _repeated_targets(data: Dataset) -> Iterator[Trap]:
    """A target that the user had before can never be found when seen items are filtered."""
    long = np.flatnonzero(data.lengths >= 3)
    if not len(long):
        return
    last = data.item[np.maximum(data.offset[1:] - 1, 0)]
    same = np.concatenate([[0], np.cumsum(data.item == last[data.event_user - 1])])
    again = (same[data.offset[1:]] - same[data.offset[:-1]])[long] > 1
    share = float(again.mean())
    if share > 0:
        yield Trap(
            "repeated targets",
            f"{share:.1%} of the users' last items stand in their history already; with filter_seen they can never be hit",
            "set filter_seen = false in the protocol, or keep only first encounters on purpose",
        )


def _item_text(data: Dataset) -> Iterator[Trap]:
    empty = (data.item_text == "").sum() / max(len(data.items), 1)
    if empty == 1:
        yield Trap("item text", "no item has text, so systems that read text have nothing to read", "import a catalogue with --items FILE --text COL,COL")
    elif empty > 0:
        yield Trap("item text", f"{empty:.1%} of the items have no text", "add columns to --text, or complete the catalogue")


def _never_met(data: Dataset) -> Iterator[Trap]:
    without = int((data.item_counts[1:] == 0).sum())
    if without:
        yield Trap(
            "items without events",
            f"{without:,} of the {len(data.items):,} items have no event: who knows items by their ids alone cannot tell them apart, and coverage counts them",
            "compare systems that read texts (`tongtu systems`), or import without --all-items",
        )


def _short_users(data: Dataset) -> Iterator[Trap]:
    share = float((data.lengths < 3).mean()) if len(data.users) else 0.0
    if share > 0:
        yield Trap(
            "short users",
            f"{share:.1%} of the users have fewer than 3 events: leave-one-out trains on them and never asks about them",
            "filter with a k-core if they should not count, or use the cold-user split to ask about them",
        )


def _future(data: Dataset) -> Iterator[Trap]:
    """Leave-one-out trains on events that happened after most test events."""
    long = data.lengths >= 3
    if data.time is None or not long.any():
        return
    moment = np.median(data.time[data.offset[1:][long] - 1])
    training = np.ones(data.n_events, np.bool_)
    last = data.offset[1:][long] - 1
    training[last] = training[last - 1] = False
    later = float((data.time[training] > moment).mean()) if training.any() else 0.0
    if later > 0.05:
        yield Trap(
            "future in training",
            f"{later:.1%} of leave-one-out's training events are later than the median test event: the model sees what will be popular",
            "use the global time split for numbers that should hold in service",
        )


def _ids(data: Dataset) -> Iterator[Trap]:
    for what, vocab in (("user", data.users), ("item", data.items)):
        yield from _suspicious(what, vocab)


def _suspicious(what: str, vocab: Vocab) -> Iterator[Trap]:
    ids = vocab.ids
    trimmed = ids.str.strip_chars()
    spaced = int((trimmed != ids).sum())
    variants = len(ids) - trimmed.str.to_lowercase().n_unique()
    missing = ids.filter(trimmed.str.to_lowercase().is_in(_NULL_WORDS))
    if spaced:
        yield Trap("ids", f"{spaced:,} {what} ids begin or end with white space", "trim them in the file: Tongtu keeps ids as they are written")
    if variants:
        yield Trap("ids", f"{variants:,} {what} ids differ from another only in case or outer white space", "make them one in the file if they mean the same")
    if len(missing):
        shown = ", ".join(repr(value) for value in missing.head(3))
        yield Trap("ids", f"a {what} is called {shown}, which looks like a missing value", "write missing ids as empty, so that such rows are dropped")


def _sorted_by_item(data: Dataset) -> Iterator[Trap]:
    """Histories in ascending item order were sorted by item, not by time (seen in published copies of Amazon data)."""
    if not data.n_events:
        return
    written = data.items.ids
    number = written.cast(pl.Int64, strict=False)
    rank = (number if not number.null_count() else written).rank("dense").to_numpy()[data.item - 1]
    down = np.zeros(data.n_events, np.int64)
    down[1:] = rank[1:] < rank[:-1]
    down[data.offset[:-1][data.lengths > 0]] = 0
    total = np.concatenate([[0], np.cumsum(down)])
    long = data.lengths >= 5
    share = float(((total[data.offset[1:]] - total[data.offset[:-1]])[long] == 0).mean()) if long.any() else 0.0
    if share > 0.05:
        likely = "they were sorted by item, not by time" if share > 0.5 else "some of their order comes from a file sorted by item (chance gives under 1%)"
        yield Trap(
            "sorted by item",
            f"the histories of {share:.1%} of the users with 5 events or more ascend by item id: {likely}",
            "look for a copy of the data that kept the order of events; do not trust last items of such users as targets",
        )


def _dominant(data: Dataset) -> Iterator[Trap]:
    if data.n_events and len(data.items) > 10:
        top = int(np.argmax(data.item_counts))
        share = float(data.item_counts[top] / data.n_events)
        if share > 0.1:
            yield Trap(
                "dominant item",
                f"item {data.items.ids[top - 1]!r} has {share:.1%} of all events",
                "leave it out if it is no real item (shipping, a home page, a default)",
            )


def _bots(data: Dataset) -> Iterator[Trap]:
    if not len(data.users):
        return
    bound = max(1000, 20 * float(np.quantile(data.lengths, 0.95)))
    extreme = data.lengths > bound
    if extreme.any():
        share = float(data.lengths[extreme].sum() / data.n_events)
        busiest = f"{data.users.ids[int(np.argmax(data.lengths))]!r} with {int(data.lengths.max()):,}"
        yield Trap(
            "bot-like users",
            f"{int(extreme.sum()):,} users have more than {bound:,.0f} events each ({share:.1%} of all events); the busiest is {busiest}",
            "leave out accounts that are no persons",
        )


def _instants(data: Dataset) -> Iterator[Trap]:
    if data.time is None or data.n_events < 1000:
        return
    midnight = float((data.time % _DAY == 0).mean())
    if midnight > 0.5:
        text = f"{midnight:.1%} of the times are exact midnights: they know the day, not the moment"
        yield Trap("day resolution", text, "import finer times if there are any")
        return
    ordered = np.sort(data.time)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    runs = np.diff(np.append(starts, len(ordered)))
    share = float(runs.max() / data.n_events)
    if share > 0.01 and len(starts) > 100:
        yield Trap(
            "one instant",
            f"{share:.1%} of all events carry the same second ({int(ordered[starts[np.argmax(runs)]])}): it may stand for an unknown time",
            "write unknown times as empty, so that such rows are dropped",
        )


def _column(data: Dataset, name: str) -> bool:
    return bool((data.source.get("columns") or {}).get(name))


def _in_order(data: Dataset) -> bool:
    """Whether the rows of the imported file stood in time order for (nearly) every user; unknown counts as yes."""
    share = (data.source.get("rows") or {}).get("in_order")
    return share is None or share > 0.95


_LOOKS = (
    _tied_targets,
    _file_order,
    _repeated_targets,
    _item_text,
    _never_met,
    _short_users,
    _future,
    _ids,
    _sorted_by_item,
    _dominant,
    _bots,
    _instants,
)
