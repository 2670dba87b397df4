"""Splits: what may be learned from, and the cases a model is asked about.

Every split keeps the vocabularies of its data set, so codes mean the same in training, validation and test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tongtu.core import NO_ITEMS, Codes, Offsets, RequestBatch
from tongtu.data.dataset import Dataset
from tongtu.errors import DataError

Targets = Literal["first", "every"]


@dataclass(frozen=True, eq=False)
class Cases:
    """Questions with known answers: request i should be answered with item `target[i]`.

    Attributes:
        requests: One request a case; its history holds only events before the target.
        target: int32[n], item codes.
        user: int32[n], user codes. A user may stand in several cases; intervals resample users, not cases.
    """

    requests: RequestBatch
    target: Codes
    user: Codes

    def __len__(self) -> int:
        return len(self.target)

    def take(self, rows: npt.NDArray[np.int64]) -> Cases:
        """The cases at `rows`, in that order."""
        return Cases(self.requests.take(rows), self.target[rows], self.user[rows])


@dataclass(frozen=True, eq=False)
class Split:
    """Training events, and the cases for choosing and for judging."""

    train: Dataset
    valid: Cases
    test: Cases


def leave_one_out(data: Dataset, exclude_seen: bool = True) -> Split:
    """Each user's last event is the test target, the one before it the validation target, the rest is for training.

    A test history includes the validation event. Users with fewer than three events are never asked about: all of their
    events are for training.
    """
    long = np.flatnonzero(data.lengths >= 3)
    if not len(long):
        raise DataError(f"{data.name}: no user has three events, so nothing can be held out: collect more, or filter less")
    last = data.offset[long + 1] - 1
    keep = np.ones(data.n_events, np.bool_)
    keep[last] = keep[last - 1] = False
    return Split(data.keep_events(keep), _cases(data, last - 1, exclude_seen), _cases(data, last, exclude_seen))


def global_time(data: Dataset, valid: float = 0.8, test: float = 0.9, targets: Targets = "first", exclude_seen: bool = True) -> Split:
    """Two moments cut the log for everybody: before the first is training, between them validation, after the second test.

    Args:
        valid, test: Fractions of all events that lie before the two cuts; events that share the second of a cut go after it.
        targets: "first" asks each user once, for their first event after the cut; "every" asks for each event after it,
            every time with the true history up to then.
        exclude_seen: Whether answers leave out items of the history.
    """
    if data.time is None:
        raise DataError(f"{data.name} has no times, so it cannot be split by time: import it with --time, or use leave-one-out")
    if not 0 < valid < test < 1:
        raise DataError(f"cuts must rise between 0 and 1, got {valid} and {test}")
    ordered = np.sort(data.time)
    moments = [int(ordered[int(len(ordered) * part)]) for part in (valid, test)]
    if moments[0] == moments[1] or moments[0] == ordered[0]:
        raise DataError(f"{data.name}: too few distinct times to cut it at {valid:.0%} and {test:.0%}")
    keep = data.time < moments[0]
    between = np.flatnonzero((data.time >= moments[0]) & (data.time < moments[1]))
    after = np.flatnonzero(data.time >= moments[1])
    if targets == "first":
        between, after = _first_of_user(data, between), _first_of_user(data, after)
    return Split(data.keep_events(keep), _cases(data, between, exclude_seen), _cases(data, after, exclude_seen))


def cold_users(
    data: Dataset, fraction: float = 0.2, shots: int = 0, seed: int = 0, exclude_seen: bool = True, among: npt.NDArray[np.bool_] | None = None
) -> Split:
    """Some users are kept out of training altogether and asked about with at most `shots` events of history.

    Half of the `fraction` held out is for validation, half for test. The target is the event after the first `shots`.

    Args:
        fraction: Share of users with more than `shots` events that is held out.
        shots: Events of history in each case; 0 asks about users of whom only attributes are known.
        seed: Which users are held out.
        exclude_seen: Whether answers leave out items of the history.
        among: bool[users], who may be held out; `fraction` is then a share of these. Everybody, if None.
    """
    able = np.flatnonzero(data.lengths > shots if among is None else (data.lengths > shots) & among)
    chosen = np.random.default_rng(seed).permutation(able)[: max(2, round(len(able) * fraction))]
    if len(chosen) < 2:
        who = "users" if among is None else "of the users who may be held out"
        raise DataError(f"{data.name}: fewer than two {who} have more than {shots} events: lower shots")
    held = np.isin(np.arange(len(data.users)), chosen)
    keep = ~np.repeat(held, data.lengths)
    half = len(chosen) // 2
    valid, test = (np.sort(part) for part in (chosen[:half], chosen[half:]))
    return Split(
        data.keep_events(keep),
        _cases(data, data.offset[valid] + shots, exclude_seen),
        _cases(data, data.offset[test] + shots, exclude_seen),
    )


def new_items(split: Split, share: float, seed: int = 0) -> Split:
    """Some items become new: they keep their places in histories and as targets, and no training event is left of them.

    What a system answers for them comes from their text or other fields alone.

    Args:
        split: Any split.
        share: Of the items with training events, which `seed` draws.
        seed: Of the draw.

    Raises:
        DataError: If the share is so small that no item becomes new, or so large that nothing is left to learn from.
    """
    train = split.train
    able = np.flatnonzero(train.item_counts)
    chosen = np.random.default_rng([seed, len(able)]).permutation(able)[: round(len(able) * share)]
    if not 0 < len(chosen) < len(able):
        raise DataError(f"{train.name}: a share of {share:g} makes {len(chosen)} of {len(able)} items new: choose one between 0 and 1 that leaves both kinds")
    return Split(train.keep_events(~np.isin(train.item, chosen)), split.valid, split.test)


def few_users(split: Split, share: float, seed: int = 0) -> Split:
    """Only some users' events may be learned from, and only those users' cases are for choosing; the test stays as it is.

    Args:
        split: Any split.
        share: Of the users with training events, which `seed` draws; a smaller share is a part of a larger one.
        seed: Of the draw.

    Raises:
        DataError: If no user with a validation case is left.
    """
    train = split.train
    able = np.flatnonzero(train.lengths) + 1
    chosen = np.random.default_rng([seed, len(able)]).permutation(able)[: max(1, round(len(able) * share))]
    valid = split.valid.take(np.flatnonzero(np.isin(split.valid.user, chosen)))
    if len(split.valid) and not len(valid):
        raise DataError(f"{train.name}: a share of {share:g} leaves {len(chosen)} users and none to validate on: choose a larger one")
    return Split(train.keep_events(np.isin(train.event_user, chosen)), valid, split.test)


def whole(data: Dataset) -> Split:
    """Everything is for training and nothing is held out: for the model that goes into service."""
    nothing = _cases(data, np.zeros(0, np.int64), True)
    return Split(data, nothing, nothing)


def _cases(data: Dataset, place: Offsets, exclude_seen: bool) -> Cases:
    """Cases whose targets are the events at `place`."""
    user = data.event_user[place]
    now = None if data.time is None else data.time[place]
    return Cases(data.requests(user, stop=place, exclude_seen=exclude_seen, now=now), data.item[place] if len(place) else NO_ITEMS, user)


def _first_of_user(data: Dataset, place: Offsets) -> Offsets:
    """The earliest event of each user among `place`, which is in the data set's order."""
    _, first = np.unique(data.event_user[place], return_index=True)
    return place[first]
