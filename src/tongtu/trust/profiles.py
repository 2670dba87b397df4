"""What a user's history looks like beside those of all others: the statistics by which fake users are told.

Sources: RDMA, WDMA and the degree of similarity, Chirita, Nejdl & Zamfir, "Preventing Shilling Attacks in Online Recommender Systems"
(WIDM 2005); the difference between highest rated items and the rest, Burke et al., "Classification Features for Attack Detection in Collaborative
Recommender Systems" (KDD 2006). Those of order and company are ours: an honest history follows from itself, one put together from popular or
random items does not, and what a whole campaign shares is an item whose other users look just as odd.

Times are not looked at: the seconds of fake events tell how a simulated attack was made, and nothing of a real one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tongtu.core import Offsets
from tongtu.data.cooccurrence import following
from tongtu.data.dataset import Dataset

Values = npt.NDArray[np.float64]
Events = npt.NDArray[np.int64]

NAMES = (
    "length",
    "length variance",
    "mean popularity",
    "spread of popularity",
    "rarest item",
    "rarest beside the rest",
    "repeats",
    "oddness",
    "oddest step",
    "degree of similarity",
    "nearest user",
    "odd company",
    "alike company",
    "rare company",
    "rdma",
    "wdma",
    "mean rating",
    "spread of ratings",
    "highest beside the rest",
)
"""What the columns of `profile_statistics` are."""

_NEIGHBOURS = 20
_COMPARED = 5_000  # users among whom neighbours are looked for, at most
_AT_ONCE = 512
_DECAY = 0.5  # how much less an event one step further back says of what comes
_CHANCE = 5.0  # events that popularity adds to what was seen to follow an item
_STRANGERS = 5.0  # ordinary users that are added to an item's, so that company needs several
_LIMIT = 8.0  # robust deviations, beyond which one is as far out as another


def profile_statistics(data: Dataset) -> Values:
    """float64[users, len(NAMES)], robust deviations of each statistic from the median of the users who have events.

    Those of ratings are 0 where the log has none, and so is everything of a user without events.
    """
    able = data.lengths > 0
    popularity = np.log(np.maximum(data.item_counts, 1))[data.item]
    user = data.event_user.astype(np.int64) - 1
    odd, oddest = _oddness(data)
    alike, nearest = _similarity(data)
    mean, spread = _moments(data, popularity)
    rarest = -_most(data, -popularity)
    beside = (mean - rarest) / np.maximum(spread, 0.1)
    length = data.lengths.astype(np.float64)
    apart = (length - length[able].mean()) ** 2 if able.any() else length
    columns = [np.log1p(length), apart, mean, spread, rarest, beside, _repeats(data), odd, oddest, alike, nearest]
    columns += [_company(data, user, _standard(column, able)) for column in (odd, alike, beside)]
    columns += _of_ratings(data)
    return np.stack([_standard(column, able) for column in columns], axis=1)


def _standard(column: Values, able: npt.NDArray[np.bool_]) -> Values:
    """Robust deviations from the median; where more than half are equal, the standard deviation measures them."""
    if not able.any():
        return np.zeros(len(column))
    middle = np.median(column[able])
    spread = 1.4826 * np.median(np.abs(column[able] - middle)) or column[able].std() or 1.0
    found: Values = np.where(able, np.clip((column - middle) / spread, -_LIMIT, _LIMIT), 0.0)
    return found


def _moments(data: Dataset, value: Values) -> tuple[Values, Values]:
    """Mean and standard deviation over each user's events."""
    length = np.maximum(data.lengths, 1)
    user = data.event_user.astype(np.int64) - 1
    mean = np.bincount(user, value, len(data.users)) / length
    square = np.bincount(user, (value - mean[user]) ** 2, len(data.users)) / length
    return mean, np.sqrt(square)


def _most(data: Dataset, value: Values) -> Values:
    """The largest value among each user's events, 0 without any."""
    found = np.full(len(data.users), -np.inf)
    np.maximum.at(found, data.event_user.astype(np.int64) - 1, value)
    return np.where(data.lengths > 0, found, 0.0)


def _repeats(data: Dataset) -> Values:
    """The share of events with an item that the user had met."""
    pairs = np.unique(np.stack([data.event_user.astype(np.int64), data.item.astype(np.int64)]), axis=1)
    different = np.bincount(pairs[0] - 1, minlength=len(data.users))
    found: Values = 1 - different / np.maximum(data.lengths, 1)
    return found


def _oddness(data: Dataset) -> tuple[Values, Values]:
    """How little each event follows from the one before, beyond what its popularity makes of it: mean and largest over a user's steps.

    -log of p(item | item before) / p(item), the user's own step not counted.
    """
    user = data.event_user.astype(np.int64) - 1
    step = np.flatnonzero(user[1:] == user[:-1]) + 1
    before, item = data.item[step - 1].astype(np.int64), data.item[step].astype(np.int64)
    follows = following(data, _DECAY)
    after = np.asarray(follows.sum(axis=1)).ravel()
    popular = (data.item_counts + 0.5) / (data.n_events + 0.5 * data.items.size)
    seen = np.maximum(np.asarray(follows[before, item]).ravel() - 1, 0)
    chance = (seen + _CHANCE * popular[item]) / (np.maximum(after[before] - 1, 0) + _CHANCE)
    odd = -np.log(chance / popular[item])
    summed = np.bincount(user[step], odd, len(data.users))
    largest = np.full(len(data.users), -np.inf)
    np.maximum.at(largest, user[step], odd)
    return summed / np.maximum(data.lengths - 1, 1), np.where(np.isfinite(largest), largest, 0.0)


def _similarity(data: Dataset) -> tuple[Values, Values]:
    """Mean cosine with the nearest other users, and that with the very nearest: a copy has a twin. Rare items weigh more."""
    users, size = len(data.users), data.items.size
    user = data.event_user.astype(np.int64) - 1
    weight = np.log(1 + users / (1.0 + data.item_counts))
    table = sparse.csr_matrix((np.ones(data.n_events), (user, data.item)), (users, size))
    table.data[:] = 1.0  # an item met twice counts once
    table = table @ sparse.diags(weight)
    norm = np.sqrt(np.asarray(table.multiply(table).sum(axis=1)).ravel())
    table = sparse.diags(1 / np.maximum(norm, 1e-12)) @ table
    able = np.flatnonzero(data.lengths > 0)
    others = np.sort(np.random.default_rng(0).permutation(able)[:_COMPARED])
    column = np.full(users, -1)
    column[others] = np.arange(len(others))
    count = min(_NEIGHBOURS, len(others) - 1)
    mean, most = np.zeros(users), np.zeros(users)
    for first in range(0, len(able) if count > 0 else 0, _AT_ONCE):
        rows = able[first : first + _AT_ONCE]
        cosine = (table[rows] @ table[others].T).toarray()
        own = column[rows] >= 0
        cosine[np.flatnonzero(own), column[rows[own]]] = -1
        nearest = np.partition(cosine, -count, axis=1)[:, -count:]
        mean[rows], most[rows] = nearest.mean(axis=1), nearest.max(axis=1)
    return mean, most


def _company(data: Dataset, user: Events, strange: Values) -> Values:
    """How strange the other users of some item of each user are: the largest mean over the user's items."""
    item = data.item.astype(np.int64)
    total = np.bincount(item, strange[user], data.items.size)
    others = np.maximum(data.item_counts[item] - 1, 0)
    return _most(data, (total[item] - strange[user]) / (others + _STRANGERS))


def _of_ratings(data: Dataset) -> list[Values]:
    """RDMA, WDMA, mean and spread of ratings, and by how much the items rated highest are rated above the rest."""
    if data.ratings is None or np.isnan(data.ratings).any():
        return [np.zeros(len(data.users)) for _ in range(5)]
    rating: Values = data.ratings.astype(np.float64)
    count: Offsets = np.maximum(data.item_counts, 1)
    average = np.bincount(data.item, rating, data.items.size) / count
    apart = np.abs(rating - average[data.item])
    rdma, wdma = (_moments(data, apart / count[data.item] ** power)[0] for power in (1.0, 2.0))
    mean, spread = _moments(data, rating)
    highest = rating >= _most(data, rating)[data.event_user - 1]
    user = data.event_user.astype(np.int64) - 1
    above = np.bincount(user, rating * highest, len(data.users)) / np.maximum(np.bincount(user, highest, len(data.users)), 1)
    rest = np.bincount(user, rating * ~highest, len(data.users)) / np.maximum(np.bincount(user, ~highest, len(data.users)), 1)
    return [rdma, wdma, mean, spread, np.where(rest > 0, above - rest, 0.0)]
