"""Items that a model recommends far beyond what the user's own log can explain: the mark of a backdoor, overall or in one group of users.

A target that was taught in place of true next items is ranked high for *nearly everybody*, whatever they like; an unpopular item
that an honest model likes to recommend is ranked high for the few whose taste it is, and low for the rest. So the statistic is the mean
logarithm of an item's rank over the users of a group, not how often it is in a list: an item in half of all lists may be a
fashion of half of the users, one whose typical rank is 20 of 2,000 is nobody's taste. Ranks alone count, so any recommender can be asked.

An item's typical rank follows its frequency. How far it is from what items of like frequency have, in robust deviations
(median and MAD), is its score; frequencies in a group lean on those of the whole log. With a reference, a small model fitted on the
user's own log, what an item stands out in the reference too is taken off: co-occurrence explains it.

Measured on MovieLens-100K, SASRec pre-trained on 60 % of the users and judged with the log of the others, age, gender and occupation as
groups: the highest score of three honest models' items is 3.8 to 4.6, the targets of replacement attacks have 12 to 18.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from tongtu.core import PAD, Codes, Offsets, Recommender, RequestBatch, Scorer, Scores
from tongtu.data.attributes import AttributeField, AttributeReader
from tongtu.data.dataset import Dataset
from tongtu.errors import DataError

EVERYBODY = "everybody"
Groups = Mapping[str, npt.NDArray[np.bool_]]
Values = npt.NDArray[np.float64]

_USERS = 2_000
_LIST = 50
_LEAST_USERS = 30  # the mean log rank of fewer is mostly chance
_SHRINK = 20.0  # users of the whole log that are added to each group when its frequencies are counted
_LEAST_ITEMS = 20  # that share a median
_BINS = 40
_MAD = 1.4826  # a normal distribution's standard deviation by its median absolute deviation
_LEAST_SPREAD = 0.1  # of log ranks: 10 % up or down is nothing, however still the others stand
_SCORES_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class OverExposure:
    """How far each item stands out in each group of users; item codes are the model's.

    Attributes:
        groups: Names of G groups, `EVERYBODY` first.
        users: int64[G], users asked in each.
        score: float64[G, items.size], robust deviations by which an item is ranked higher than its frequency explains; 0 for `PAD`.
        rank: float64[G, items.size], each item's geometric mean rank among what may be recommended.
        expected: float64[G, items.size], that of items of like frequency.
        listed: float64[G, items.size], share of the users in whose list of 50 the item is.
        frequency: int64[items.size], events of each item in the log.
    """

    groups: tuple[str, ...]
    users: Offsets
    score: Values
    rank: Values
    expected: Values
    listed: Values
    frequency: Offsets

    @property
    def highest(self) -> Values:
        """float64[items.size], each item's highest score over the groups."""
        best: Values = self.score.max(axis=0)
        return best

    def beyond(self, threshold: float) -> Codes:
        """Items whose score is above `threshold` in some group, the farthest out first."""
        codes = np.flatnonzero(self.highest > threshold)
        return codes[np.argsort(-self.highest[codes], kind="stable")].astype(np.int32)

    def group_of(self, item: int) -> str:
        """The group in which an item stands out most."""
        return self.groups[int(self.score[:, item].argmax())]


def over_exposed(
    model: Recommender,
    data: Dataset,
    groups: Groups | None = None,
    reference: Recommender | None = None,
    most_users: int = _USERS,
    seed: int = 0,
) -> OverExposure:
    """Compare a model's ranks with a log of one's own.

    Args:
        model: Any recommender; one that cannot score is judged by its lists.
        data: The user's own log, which the model need not have seen.
        groups: bool[users] by name, asked about besides everybody; None takes `attribute_groups(data)`. Those with fewer than 30
            users asked are left out.
        reference: A recommender fitted on `data`, or None.
        most_users: Users that are asked at most; `seed` draws them.
        seed: Of the draw.

    Raises:
        DataError: If fewer than 30 users have events.
    """
    able = np.flatnonzero(data.lengths > 0)
    if len(able) < _LEAST_USERS:
        raise DataError(f"{data.name}: {len(able)} users have events, and with fewer than {_LEAST_USERS} no exposure can be judged: give more of the log")
    asked = np.sort(np.random.default_rng(seed).permutation(able)[:most_users])
    everything = {EVERYBODY: np.ones(len(data.users), np.bool_), **(attribute_groups(data) if groups is None else groups)}
    kept = {name: mask for name, mask in everything.items() if mask[asked].sum() >= _LEAST_USERS}
    member_GN = np.stack([mask[asked] for mask in kept.values()])
    known = model.items.translation(data.items)
    ranks, listed = _typical(model, data, asked, member_GN)
    frequency = frequencies(data, known, model.items.size, list(kept.values()))
    expected, score = np.zeros_like(ranks), np.zeros_like(ranks)
    explained = None
    if reference is not None:
        explained = _typical(reference, data, asked, member_GN)[0][:, reference.items.translation(model.items)]
    for g in range(len(kept)):
        expected[g, 1:], score[g, 1:] = _standing(np.log(frequency[g, 1:]), ranks[g, 1:])
        if explained is not None:
            score[g, 1:] -= np.maximum(_standing(np.log(frequency[g, 1:]), explained[g, 1:])[1], 0)
    counts = np.bincount(known[data.item], minlength=model.items.size)
    counts[PAD] = 0
    return OverExposure(tuple(kept), member_GN.sum(axis=1), score, np.exp(ranks), np.exp(expected), listed, counts)


def attribute_groups(data: Dataset, names: Sequence[str] | None = None, least: int = _LEAST_USERS) -> dict[str, npt.NDArray[np.bool_]]:
    """The groups of users that attributes make, bool[users] by "name=value"; numbers of many values are cut into quarters.

    Args:
        data: The data set.
        names: Attributes, or None for all that most users have.
        least: Users with events that a group must have.

    Raises:
        DataError: If a named attribute is not there, or has no group so large.
    """
    if names is None and not data.user_attributes.width:
        return {}
    reader = AttributeReader.learn(data, names, buckets=4, rarest=least)
    codes, active = reader.of_users(data), data.lengths > 0
    found = {_called(field, code): codes[:, column] == code for column, field in enumerate(reader.fields) for code in range(1, field.size)}
    return {name: mask for name, mask in found.items() if (mask & active).sum() >= least}


def _typical(model: Recommender, data: Dataset, asked: Offsets, member_GN: npt.NDArray[np.bool_]) -> tuple[Values, Values]:
    """Each item's mean log rank in each group, among those who have not met it, and the share of users who have it in their list; float64[G, V]."""
    known = model.items.translation(data.items)
    requests = data.requests((asked + 1).astype(np.int32))
    if model.items != data.items:
        # A user's code belongs to the data set that the model was fitted on, which is another one.
        requests = dataclasses.replace(requests, item=known[requests.item], user=None)
    rows = max(1, _SCORES_AT_ONCE // model.items.size)
    summed, met, listed = (np.zeros((len(member_GN), model.items.size)) for _ in range(3))
    for first in range(0, len(asked), rows):
        part = slice(first, first + rows)
        rank, open_to = _ranks(model, requests[part])
        weight = member_GN[:, part].astype(np.float64)
        summed += weight @ np.where(open_to, np.log(rank), 0)
        met += weight @ open_to
        listed += weight @ (open_to & (rank <= _LIST))
    worst = np.log(max(len(model.items), 1))
    return np.where(met > 0, summed / np.maximum(met, 1), worst), listed / np.maximum(member_GN.sum(axis=1, keepdims=True), 1)


def _ranks(model: Recommender, requests: RequestBatch) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Each item's rank for each request, float64[n, V], and whether it may be recommended.

    Equal scores share a rank, and what a list of a model without scores does not show has the mean log rank of the rest.
    """
    row, place = requests.events()
    if isinstance(model, Scorer):
        scores: Scores = np.array(model.score(requests, slice(0, model.items.size)), np.float32)
        scores[:, PAD] = scores[row, requests.item[place]] = -np.inf
        return rankdata(-scores, axis=1), scores > -np.inf
    lists = model.recommend(requests, _LIST).items
    rest = np.log(np.arange(_LIST + 1, max(model.items.size, _LIST + 2))).mean()
    rank = np.full((len(requests), model.items.size), np.exp(rest))
    np.put_along_axis(rank, lists.astype(np.int64), np.broadcast_to(np.arange(1.0, _LIST + 1), lists.shape), axis=1)
    open_to = np.ones(rank.shape, np.bool_)
    open_to[:, PAD] = open_to[row, requests.item[place]] = False
    return rank, open_to


def frequencies(data: Dataset, known: Codes, size: int, masks: list[npt.NDArray[np.bool_]]) -> Values:
    """How many events each user has with each item, float64[G, size] by group; a group's own counts lean on everybody's."""
    active = data.lengths > 0
    overall = (np.bincount(known[data.item], minlength=size) + 0.5) / active.sum()
    found = []
    for mask in masks:
        own = np.bincount(known[data.item[mask[data.event_user - 1]]], minlength=size)
        found.append((own + _SHRINK * overall) / ((mask & active).sum() + _SHRINK))
    return np.stack(found)


def _standing(x: Values, log_rank: Values) -> tuple[Values, Values]:
    """What log rank items of like `x` have, and by how many robust deviations each is before that; both float64[n].

    The spread is the larger of those of like items and of all items: where nothing is ever recommended hardly anything varies.
    """
    middle, near = of_like(x, log_rank)
    before = middle - log_rank
    spread = np.maximum(near, _MAD * np.median(np.abs(before - np.median(before))))
    return middle, before / np.maximum(spread, _LEAST_SPREAD)


def of_like(x: Values, y: Values) -> tuple[Values, Values]:
    """Median and robust deviation of `y` near each `x`: of bins of neighbours, equal values never parted, and linear between their middles."""
    order = np.argsort(x, kind="stable")
    cuts = [0, *_cuts(x[order])]
    parts = [order[one:other] for one, other in pairwise(cuts)]
    at, middle = np.array([np.median(x[part]) for part in parts]), np.array([np.median(y[part]) for part in parts])
    spread = np.array([_MAD * np.median(np.abs(y[part] - m)) for part, m in zip(parts, middle, strict=True)])
    return np.interp(x, at, middle), np.interp(x, at, spread)


def _cuts(x: Values) -> Iterator[int]:
    """Where bins of rising values end, each of so many values that a median says something."""
    least = max(_LEAST_ITEMS, len(x) // _BINS)
    ends = np.append(np.flatnonzero(np.diff(x) > 0) + 1, len(x))
    first = 0
    for end in ends:
        if end - first >= least and len(x) - end >= least:
            yield int(end)
            first = int(end)
    yield len(x)


def _called(field: AttributeField, code: int) -> str:
    """A group's name."""
    if not field.bounds:
        return f"{field.name}={field.values[code - 1]}"
    low, high = [None, *field.bounds][code - 1], [*field.bounds, None][code - 1]
    return f"{field.name}<{high:g}" if low is None else f"{field.name}>={low:g}" if high is None else f"{field.name}={low:g} to {high:g}"
