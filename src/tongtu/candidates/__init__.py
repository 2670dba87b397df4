"""Sources of candidates: the few items a ranker chooses among.

A source is called with requests and, in evaluation, their targets, and answers with one array of item codes a request: never
`PAD`, never twice the same, never an item of the history, and the target (where it is told) at a place that tells nothing.
What is drawn depends on the seed and on the request alone (its user, its history's length and last item), so any order,
any part and any machine draw the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tongtu.core import PAD, CandidateSource, Codes, Recommender, Request, RequestBatch, Scores
from tongtu.errors import ConfigError
from tongtu.ranking import top_k
from tongtu.vocab import Vocab

if TYPE_CHECKING:
    from tongtu.core import Offsets

Hashes = npt.NDArray[np.uint64]

_BLOCK_CELLS = 1 << 24  # users x items of a block's table of what is taken
_ROUNDS = 8


@dataclass(frozen=True, eq=False)
class Sampled:
    """`n` unseen items drawn without replacement, one after another with chances in proportion to `weights`.

    Where fewer than `n` items of positive weight are left, all of them are given.

    Attributes:
        weights: float64[items + 1] by item code; that of `PAD` is ignored. Equal weights draw uniformly, training counts
            draw by popularity.
        n: How many, the target not counted.
        seed: Of the draws.
    """

    weights: npt.NDArray[np.float64]
    n: int
    seed: int = 0

    def __call__(self, requests: Sequence[Request], targets: Codes | None) -> list[Codes]:
        batch = RequestBatch.of(requests)
        weights = np.concatenate([np.zeros(1), self.weights[1:]])
        lists: list[Codes] = []
        step = max(1, _BLOCK_CELLS // len(weights))
        for start in range(0, len(batch), step):
            block = batch[start : start + step]
            own = None if targets is None else targets[start : start + step]
            keys = _keys(block, self.seed)
            drawn = self._draw(weights, block, own, keys)
            lists += drawn if own is None else _with_targets(drawn, own, keys)
        return lists

    def _draw(self, weights: npt.NDArray[np.float64], batch: RequestBatch, targets: Codes | None, keys: Hashes) -> list[Codes]:
        taken = np.tile(weights == 0, (len(batch), 1))
        row, place = batch.events()
        taken[row, batch.item[place]] = True
        if targets is not None:
            taken[np.arange(len(batch)), targets] = True
        wanted = np.minimum(self.n, np.count_nonzero(~taken, axis=1))
        found = np.zeros((len(batch), self.n), np.int32)
        have = np.zeros(len(batch), np.int64)
        bounds = np.cumsum(weights)
        width = self.n + self.n // 4 + 8
        for turn in range(_ROUNDS):
            open_rows = np.flatnonzero(have < wanted)
            if not len(open_rows):
                break
            counter = np.arange(turn * width, (turn + 1) * width, dtype=np.uint64)
            chance = _uniform(_mix(keys[open_rows, None] + counter))
            code = np.minimum(np.searchsorted(bounds, chance * bounds[-1], side="right"), len(weights) - 1)
            _accept(open_rows, code, taken, found, have, wanted)
        for r in np.flatnonzero(have < wanted):  # few rows, in which almost everything is taken
            found[r, have[r] : wanted[r]] = _one_by_one(np.where(taken[r], 0, weights), keys[r], int(wanted[r] - have[r]))
        return [codes[:count] for codes, count in zip(found, wanted, strict=True)]


@dataclass(frozen=True, eq=False)
class MostPopular:
    """The `n` unseen items with the highest counts: int64[items + 1] by item code."""

    items: Vocab
    counts: Offsets
    n: int
    seed: int = 0

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """The counts, for everybody alike."""
        return np.tile(self.counts[items].astype(np.float32), (len(requests), 1))

    def __call__(self, requests: Sequence[Request], targets: Codes | None) -> list[Codes]:
        return _from_lists(top_k(self, requests, self.n).items, requests, targets, self.seed)


@dataclass(frozen=True, eq=False)
class FromRecommender:
    """The `n` best of any fitted recommender; a target that it misses takes the place of its last."""

    recommender: Recommender
    n: int
    seed: int = 0

    def __call__(self, requests: Sequence[Request], targets: Codes | None) -> list[Codes]:
        return _from_lists(self.recommender.recommend(requests, self.n).items, requests, targets, self.seed)


def named(name: str, items: Vocab, counts: Offsets, seed: int = 0) -> CandidateSource:
    """The source of a name such as "uniform-100", "popularity-100" (drawn by popularity) or "popular-100" (the most popular).

    Args:
        name: Kind and number.
        items: The catalogue.
        counts: int64[items + 1], training events of each code.
        seed: Of the draws.

    Raises:
        ConfigError: If the name is none of these.
    """
    kind, _, number = name.rpartition("-")
    if not number.isdigit() or int(number) < 1 or kind not in {"uniform", "popularity", "popular"}:
        raise ConfigError(f"no candidate source {name!r}: write uniform-100, popularity-100 or popular-100, with any number")
    if kind == "popular":
        return MostPopular(items, counts, int(number), seed)
    return Sampled(np.ones(items.size) if kind == "uniform" else counts.astype(np.float64), int(number), seed)


def _accept(rows: Offsets, code: Offsets, taken: npt.NDArray[np.bool_], found: Codes, have: Offsets, wanted: Offsets) -> None:
    """Take from each row of `code` what is new, in the order it was drawn, until the row has what it wants."""
    size = taken.shape[1]
    cell = (rows[:, None] * size + code).ravel()
    fresh = np.flatnonzero(~taken.ravel()[cell])
    _, first = np.unique(cell[fresh], return_index=True)
    fresh = fresh[np.sort(first)]
    row = cell[fresh] // size
    ordinal = have[row] + _ordinal(row)
    keep = ordinal < wanted[row]
    row, column, item = row[keep], ordinal[keep], cell[fresh][keep] % size
    found[row, column] = item
    taken[row, item] = True
    have += np.bincount(row, minlength=len(have))


def _one_by_one(weights: npt.NDArray[np.float64], key: np.uint64, n: int) -> Offsets:
    """`n` codes as if drawn one after another: those with the smallest exponential / weight (Efraimidis & Spirakis, 2006)."""
    able = np.flatnonzero(weights)
    chance = _uniform(_mix(key + np.uint64(1 << 40) + able.astype(np.uint64)))
    order: Offsets = able[np.argsort(-np.log1p(-chance) / weights[able], kind="stable")[:n]]
    return order


def _from_lists(lists: Codes, requests: Sequence[Request], targets: Codes | None, seed: int) -> list[Codes]:
    trimmed = [row[row != PAD] for row in lists]
    if targets is None:
        return trimmed
    full = lists.shape[1]
    others = [row[row != target][: full - 1] for row, target in zip(trimmed, targets, strict=True)]
    return _with_targets(others, targets, _keys(RequestBatch.of(requests), seed))


def _with_targets(lists: list[Codes], targets: Codes, keys: Hashes) -> list[Codes]:
    """Each list with its target put in at a place drawn for the request; `PAD` is no target."""
    place = (_uniform(_mix(keys + np.uint64(1 << 41))) * (np.array([len(one) for one in lists]) + 1)).astype(np.int64)
    return [np.insert(one, at, target) if target != PAD else one for one, at, target in zip(lists, place, targets, strict=True)]


def _keys(batch: RequestBatch, seed: int) -> Hashes:
    """uint64[n], a number for each request that depends on nothing but the seed and the request."""
    last = np.zeros(len(batch), np.uint64)
    full = batch.lengths > 0
    last[full] = batch.item[batch.stop[full] - 1]
    user = np.zeros(len(batch), np.uint64) if batch.user is None else batch.user.astype(np.uint64)
    key = np.full(len(batch), seed, np.uint64)
    for part in (user, batch.lengths.astype(np.uint64), last):
        key = _mix(_mix(key) ^ part)
    return key


def _mix(number: Hashes) -> Hashes:
    """SplitMix64 (Steele, Lea & Flood, OOPSLA 2014): a counter becomes a random number."""
    z = number + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _uniform(number: Hashes) -> npt.NDArray[np.float64]:
    return (number >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _ordinal(row: Offsets) -> Offsets:
    """How many entries of the same row stand before each; `row` rises."""
    count = np.bincount(row, minlength=1)
    return np.arange(len(row)) - (np.cumsum(count) - count)[row]
