"""What a model shows to whom: how high it ranks certain items for each user, and what fills its lists.

Source: the measures of Wu et al., "Attacking Pre-trained Recommendation" (SIGIR 2023): each target item is ranked against the whole catalogue
for each user, items of the history left out, and hit rates are means over pairs of a user and a target. A pair whose target is in the user's
history does not count, since no model may show it.

Shapes: n requests, K targets, C cutoffs, V item codes (`PAD` included).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tongtu.core import PAD, Codes, Offsets, Recommender, Request, RequestBatch
from tongtu.ranking import CatalogueScorer, ranks_of_each

_REQUESTS_AT_ONCE = 4096
Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Exposure:
    """How high some targets stand for some users.

    Attributes:
        ranks: int64[n, K], from 1; one more than the catalogue where the model would never show the target, 0 where the pair does not count.
    """

    ranks: Offsets

    def rows(self, chosen: Rows | Offsets) -> Exposure:
        """Of some requests: those inside a group, or those outside."""
        return Exposure(self.ranks[chosen])

    def of(self, target: int) -> Exposure:
        """Of the target at one place."""
        return Exposure(self.ranks[:, target : target + 1])

    @property
    def pairs(self) -> int:
        """Pairs that count."""
        return int(np.count_nonzero(self.ranks))

    def hits(self, cutoff: int) -> int:
        """Pairs whose target is among the first `cutoff` items."""
        return int(np.count_nonzero((self.ranks > 0) & (self.ranks <= cutoff)))

    def hit_rate(self, cutoff: int) -> float:
        """Share of pairs whose target is among the first `cutoff` items; 0 where there are none."""
        return self.hits(cutoff) / max(self.pairs, 1)

    def ndcg(self, cutoff: int) -> float:
        """Mean NDCG of pairs, as if each target were the item to find."""
        found = self.ranks[(self.ranks > 0) & (self.ranks <= cutoff)]
        return float((1 / np.log2(found + 1.0)).sum()) / max(self.pairs, 1)


def exposure(model: CatalogueScorer, requests: Sequence[Request], targets: Codes) -> Exposure:
    """Rank each target for each request.

    Args:
        model: Scores its catalogue, block by block.
        requests: Of the users to look at.
        targets: int32[K], item codes of the model.
    """
    batch = RequestBatch.of(requests)
    ranks = ranks_of_each(model, batch, targets)
    ranks[seen(batch, targets)] = 0
    return Exposure(ranks)


def hit_rates(model: CatalogueScorer, requests: Sequence[Request], targets: Codes, cutoffs: Sequence[int]) -> npt.NDArray[np.float64]:
    """float64[C], `Exposure.hit_rate` at each cutoff."""
    found = exposure(model, requests, targets)
    return np.array([found.hit_rate(cutoff) for cutoff in cutoffs])


def ratio(attacked_hits: float, clean_hits: float) -> float:
    """How many times as often targets are shown, one hit added to both counts, so that a clean model that never shows them has a ratio too."""
    return (attacked_hits + 1) / (clean_hits + 1)


def top_counts(model: Recommender, requests: Sequence[Request], k: int) -> Offsets:
    """int64[V], in how many of the requests' lists of `k` each item stands."""
    overall: Offsets = top_counts_by(model, requests, k, np.zeros(len(requests), np.int64))[0]
    return overall


def top_counts_by(model: Recommender, requests: Sequence[Request], k: int, group: Offsets) -> Offsets:
    """int64[groups, V], in how many lists of `k` each item stands, group by group.

    Args:
        model: Any recommender.
        requests: n requests.
        k: Length of the lists.
        group: int64[n], the group of each request, from 0.
    """
    batch, size = RequestBatch.of(requests), model.items.size
    groups = int(group.max(initial=0)) + 1
    flat = np.zeros(groups * size, np.int64)
    for start in range(0, len(batch), _REQUESTS_AT_ONCE):
        part = slice(start, start + _REQUESTS_AT_ONCE)
        items = model.recommend(batch[part], k).items.astype(np.int64)
        flat += np.bincount((items + size * group[part, None]).ravel(), minlength=groups * size)
    counts = flat.reshape(groups, size)
    counts[:, PAD] = 0
    return counts


def seen(requests: RequestBatch, targets: Codes) -> Rows:
    """bool[n, K], whether a target is in a history and may therefore not be shown."""
    row, place = requests.events()
    column = np.full(max(int(requests.item.max(initial=0)), int(targets.max(initial=0))) + 1, -1, np.int64)
    column[targets] = np.arange(len(targets))
    found = column[requests.item[place]]
    known = np.zeros((len(requests), len(targets)), np.bool_)
    known[row[found >= 0], found[found >= 0]] = True
    return known & requests.exclude_seen[:, None]


def seen_by_users(user: Codes, item: Codes, users: int, targets: Codes) -> Rows:
    """bool[users, K] of a log in columns: whether the user of a code has met a target."""
    met = np.zeros((users, len(targets)), np.bool_)
    for place, target in enumerate(targets):
        met[user[item == target], place] = True
    return met
