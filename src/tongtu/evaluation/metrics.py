"""What is measured, from the ranks of the targets and from the lists that were recommended.

A rank counts from 1; `MISS` is the rank of a target that cannot be recommended.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tongtu.core import PAD, Codes, Offsets

MISS = 2**31 - 1
"""The rank of a target that was not, or could not be, recommended: a miss at every cutoff."""

Values = npt.NDArray[np.float64]


def recall_at(ranks: Offsets, k: int) -> Values:
    """1 where the target is among the first k, else 0; with a single target this is also the hit rate."""
    return (ranks <= k).astype(np.float64)


def ndcg_at(ranks: Offsets, k: int) -> Values:
    """1 / log2(1 + rank) where the target is among the first k, else 0 (Järvelin & Kekäläinen, TOIS 2002, with one target)."""
    return np.where(ranks <= k, 1 / np.log2(1.0 + ranks), 0.0)


def mrr_at(ranks: Offsets, k: int) -> Values:
    """1 / rank where the target is among the first k, else 0."""
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


RANK_METRICS = {"recall": recall_at, "ndcg": ndcg_at, "mrr": mrr_at}


def rank_metrics(ranks: Offsets, cutoffs: Sequence[int]) -> dict[str, Values]:
    """Every rank metric at every cutoff: float64[n] by name, such as "ndcg@10"."""
    return {f"{name}@{k}": metric(ranks, k) for k in cutoffs for name, metric in RANK_METRICS.items()}


def coverage(lists: Codes, items: int) -> float:
    """The share of the catalogue's `items` that stands in at least one list (Ge et al., RecSys 2010, catalogue coverage)."""
    return len(np.unique(lists[lists != PAD])) / items


def novelty(lists: Codes, counts: Offsets) -> float:
    """Mean self-information -log2 p(i) in bits over all places of all lists (Zhou et al., PNAS 2010).

    p(i) = (count + 1) / (events + items), so an item without training events is the most surprising, not infinitely so.

    Args:
        lists: int32[n, k], item codes.
        counts: int64[items + 1], training events of each code; `PAD` has 0.
    """
    surprise = np.log2(counts.sum() + len(counts) - 1) - np.log2(counts + 1.0)
    shown = lists[lists != PAD]
    return float(surprise[shown].mean()) if len(shown) else float("nan")


def gini(lists: Codes, items: int) -> float:
    """How unequally the lists show the catalogue: 0 if every item is shown as often, 1 if one item takes every place.

    sum_j (2j - I - 1) p_j / (I - 1) over the shares p_j of all places, smallest first (Castells, Hurley & Vargas,
    "Novelty and diversity in recommender systems", 2015).
    """
    shown = np.sort(np.bincount(lists[lists != PAD], minlength=items + 1)[1:])
    if items < 2 or not shown.sum():
        return float("nan")
    return float(((2 * np.arange(1, items + 1) - items - 1) * shown).sum() / ((items - 1) * shown.sum()))


def popularity_lift(lists: Codes, histories: tuple[Offsets, Codes], counts: Offsets) -> float:
    """Popularity of what is recommended over the popularity of what the same users chose: above 1, the system leans to hits.

    Mean over users of the mean training count of their list, divided by the same of their history (the group average
    popularity of Abdollahpouri et al., "The unfairness of popularity bias in recommendation", RMSE 2019; they report
    this ratio minus 1). Users with an empty list or history are left out of both means.

    Args:
        lists: int32[n, k], item codes.
        histories: The row of each event of the histories, int64, and its item code.
        counts: int64[items + 1], training events of each code; `PAD` has 0.
    """
    n = len(lists)
    row, place = np.nonzero(lists != PAD)
    shown = _mean_by_row(row, counts[lists[row, place]], n)
    event_row, item = histories
    known = item != PAD
    chosen = _mean_by_row(event_row[known], counts[item[known]], n)
    both = ~(np.isnan(shown) | np.isnan(chosen))
    if not both.any() or chosen[both].sum() == 0:
        return float("nan")
    return float(shown[both].mean() / chosen[both].mean())


def popularity_by_rank(lists: Codes, counts: Offsets) -> Values:
    """How popular the items at each rank are: float64[k], mean training count over that of the most popular item (Hou et al., ECIR 2024, section 3.3).

    Args:
        lists: int32[n, k], item codes; ranks at which no list has an item are NaN.
        counts: int64[items + 1], training events of each code.
    """
    there = lists != PAD
    total = np.where(there, counts[lists], 0).sum(axis=0)
    return np.where(there.any(axis=0), total / np.maximum(there.sum(axis=0), 1) / max(int(counts.max(initial=0)), 1), np.nan)


def _mean_by_row(row: Offsets, value: Offsets, n: int) -> Values:
    count = np.bincount(row, minlength=n)
    total = np.bincount(row, weights=value, minlength=n)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
