"""Impressions: sampled where a log has none, parted by time, and as cases that are judged impression by impression.

A log without impressions says what was taken and not what was passed over. Sampled ones put each event beside items drawn at
random, which is what most papers that train on impressions do with such logs; whoever uses them must say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tongtu.core import Codes, Offsets
from tongtu.data.dataset import Dataset, Impressions
from tongtu.data.splits import Cases, Split
from tongtu.errors import DataError

DAY = 86_400
_ROUNDS = 20  # of drawing again what must not stand in an impression
Draw = Literal["uniform", "popularity"]


@dataclass(frozen=True, eq=False)
class ImpressionCases(Cases):
    """Cases whose answer is an order of what was shown. Row i showed `shown[offset[i]:offset[i + 1]]`, both clicked and passed over.

    Attributes:
        shown: int32, item codes; clicked: bool, beside it.
        offset: int64[n + 1].
    """

    shown: Codes
    clicked: npt.NDArray[np.bool_]
    offset: Offsets

    def take(self, rows: npt.NDArray[np.int64]) -> ImpressionCases:
        """The cases at `rows`, in that order."""
        place, offset = flat_places(self.offset, rows)
        return ImpressionCases(self.requests.take(rows), self.target[rows], self.user[rows], self.shown[place], self.clicked[place], offset)


def sampled_impressions(data: Dataset, passed_over: int = 20, draw: Draw = "uniform", newest: int | None = None, seed: int = 0) -> Impressions:
    """An impression for each event that has one before it: the event's item, clicked, and items the user never took.

    Only items with events are drawn: one that nobody met would otherwise be learned as what nobody wants.

    Args:
        data: The log.
        passed_over: Items drawn for each impression; fewer where a user took nearly everything.
        draw: All items alike, or by their events.
        newest: Only each user's newest so many events become impressions; None takes all.
        seed: Of the draw.

    Raises:
        DataError: If no user has two events.
    """
    number = np.arange(data.n_events) - np.repeat(data.offset[:-1], data.lengths)
    chosen = number >= 1
    if newest is not None:
        chosen &= number >= np.repeat(data.lengths, data.lengths) - newest
    place = np.flatnonzero(chosen)
    if not len(place):
        raise DataError(f"{data.name}: no user has two events, so there is no click with a history: collect more, or filter less")
    user = data.event_user[place]
    drawn = _drawn(data, user, passed_over, draw, seed)
    shown = np.concatenate([data.item[place, None], drawn], axis=1)
    real = shown > 0
    clicked = np.zeros(shown.shape, np.bool_)
    clicked[:, 0] = True
    offset = np.concatenate([np.zeros(1, np.int64), np.cumsum(real.sum(axis=1))])
    return Impressions(user, number[place], None if data.time is None else data.time[place], shown[real], clicked[real], offset)


def take_impressions(impressions: Impressions, rows: npt.NDArray[np.int64]) -> Impressions:
    """The impressions at `rows`, in that order."""
    place, offset = flat_places(impressions.offset, rows)
    time = None if impressions.time is None else impressions.time[rows]
    return Impressions(impressions.user[rows], impressions.seen[rows], time, impressions.item[place], impressions.clicked[place], offset)


def by_day(data: Dataset, exclude_seen: bool = False) -> Split:
    """The last day (UTC) of the impressions is the test, the day before is for validation, and what came before is for training.

    These are the parts of MIND: its development set is the last day. Training keeps those events of each user that came before
    one of their training impressions. Impressions in which everything or nothing was clicked have no order to judge, and are
    left out of validation and test, as MIND's own evaluation does.

    Raises:
        DataError: If there are no impressions with times, or those of fewer than three days.
    """
    shown = data.impressions
    if shown is None or shown.time is None:
        raise DataError(f"{data.name} has no impressions with times, so this protocol has nothing to ask: use mind-small, or choose leave-one-out")
    days = np.unique(shown.time // DAY)
    if len(days) < 3:
        raise DataError(f"{data.name} has impressions of {len(days)} days and this protocol needs three: collect more, or choose leave-one-out")
    return _parted(data, shown, shown.time // DAY, (int(days[-2]), int(days[-1])), exclude_seen)


def before_last_day(data: Dataset) -> Dataset:
    """What training and validation of `by_day` hold together."""
    split = by_day(data)
    shown = data.impressions
    assert shown is not None and shown.time is not None and split.train.impressions is not None
    day = shown.time // DAY
    return _before(data, shown, np.flatnonzero(day < day.max()))


def by_time(data: Dataset, valid: float = 0.8, test: float = 0.9, exclude_seen: bool = False) -> Split:
    """As `by_day`, cut at two fractions of the impressions; those that share the second of a cut go after it.

    Raises:
        DataError: If there are no impressions with times, or too few distinct times.
    """
    shown = data.impressions
    if shown is None or shown.time is None:
        raise DataError(f"{data.name} has no impressions with times, so they cannot be split by time: use mind-small, or choose leave-one-out")
    ordered = np.sort(shown.time)
    first, second = (int(ordered[min(int(len(ordered) * part), len(ordered) - 1)]) for part in (valid, test))
    if first == second or first == ordered[0]:
        raise DataError(f"{data.name}: too few distinct times of impressions to cut them at {valid:.0%} and {test:.0%}: choose other fractions")
    return _parted(data, shown, shown.time, (first, second), exclude_seen)


def impression_cases(data: Dataset, impressions: Impressions, exclude_seen: bool = False) -> ImpressionCases:
    """The impressions in which something, and not everything, was clicked. Each one's `target` is its first click."""
    clicks = _sums(impressions.clicked, impressions.offset)
    rows = np.flatnonzero((clicks > 0) & (clicks < np.diff(impressions.offset)))
    kept = take_impressions(impressions, rows)
    row = np.repeat(np.arange(len(rows)), np.diff(kept.offset))
    clicked = np.flatnonzero(kept.clicked)
    _, first = np.unique(row[clicked], return_index=True)
    stop = data.offset[kept.user.astype(np.int64) - 1] + kept.seen
    requests = data.requests(kept.user, stop=stop, exclude_seen=exclude_seen, now=kept.time)
    return ImpressionCases(requests, kept.item[clicked[first]], kept.user, kept.item, kept.clicked, kept.offset)


def flat_places(offset: Offsets, rows: npt.NDArray[np.int64]) -> tuple[Offsets, Offsets]:
    """Where the lists of `rows` lie in the flat array, one behind the other, and the offsets of what that gives."""
    length = np.diff(offset)[rows]
    new = np.concatenate([np.zeros(1, np.int64), np.cumsum(length)])
    return np.arange(new[-1]) + np.repeat(offset[rows] - new[:-1], length), new


def _parted(data: Dataset, shown: Impressions, moment: Offsets, cuts: tuple[int, int], exclude_seen: bool) -> Split:
    early = np.flatnonzero(moment < cuts[0])
    kept = _before(data, shown, early)
    middle = take_impressions(shown, np.flatnonzero((moment >= cuts[0]) & (moment < cuts[1])))
    late = take_impressions(shown, np.flatnonzero(moment >= cuts[1]))
    return Split(kept, impression_cases(data, middle, exclude_seen), impression_cases(data, late, exclude_seen))


def _before(data: Dataset, shown: Impressions, rows: npt.NDArray[np.int64]) -> Dataset:
    """The impressions at `rows`, and the events that came before one of them."""
    train = take_impressions(shown, rows)
    known = np.zeros(data.users.size, np.int64)
    np.maximum.at(known, train.user, train.seen)
    number = np.arange(data.n_events) - np.repeat(data.offset[:-1], data.lengths)
    return data.keep_events(number < known[data.event_user], impressions=train)


def _drawn(data: Dataset, user: Codes, each: int, draw: Draw, seed: int) -> Codes:
    """int32[users, each], items with events that the user never took and no item twice; 0 where none was found."""
    rng = np.random.default_rng([seed, each])
    able = np.flatnonzero(data.item_counts)
    weight = np.cumsum(data.item_counts[able] if draw == "popularity" else np.ones(len(able), np.int64))
    taken = np.unique(data.event_user.astype(np.int64) * data.items.size + data.item)
    found = np.zeros((len(user), each), np.int32)
    row = np.arange(len(user))
    for _ in range(_ROUNDS):
        empty = found[row] == 0
        fresh = able[np.searchsorted(weight, rng.integers(0, weight[-1], int(empty.sum())), side="right")].astype(np.int32)
        part = found[row]
        part[empty] = fresh
        part[_again(part) | _among(taken, user[row].astype(np.int64)[:, None] * data.items.size + part)] = 0
        found[row] = part
        row = row[(part == 0).any(axis=1)]
        if not len(row):
            break
    return found


def _again(rows: Codes) -> npt.NDArray[np.bool_]:
    """Whether the same number stands earlier in its row (in sorted order one of each remains)."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, 1)
    same = np.zeros(rows.shape, np.bool_)
    np.put_along_axis(same, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    return same


def _among(known: Offsets, asked: Offsets) -> npt.NDArray[np.bool_]:
    """Whether each number stands in the sorted array `known`."""
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    found: npt.NDArray[np.bool_] = known[place] == asked
    return found


def _sums(values: npt.NDArray[np.bool_], offset: Offsets) -> Offsets:
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(values, dtype=np.int64)])
    sums: Offsets = total[offset[1:]] - total[offset[:-1]]
    return sums
