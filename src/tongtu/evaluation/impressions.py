"""MIND's metrics: how well what was clicked is put before what was shown beside it, impression by impression.

Wu et al., "MIND: a large-scale dataset for news recommendation" (ACL 2020), section 5.2, as its evaluation script computes them:
each metric is the mean over impressions; those in which everything or nothing was clicked do not count. MRR is the mean of 1 / rank
over all clicks of an impression, not over the first alone. Equal scores: for AUC they count half, as everywhere; for the others
what was clicked stands behind (the script leaves it to the sorting).
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tongtu.core import PAD, Codes, Offsets, Recommender, RequestBatch, Scorer, Scores
from tongtu.data.impressions import ImpressionCases
from tongtu.evaluation.metrics import Values
from tongtu.progress import progress
from tongtu.ranking import BLOCK_BYTES

CUTOFFS = (5, 10)


def impression_metrics(scores: Scores, clicked: npt.NDArray[np.bool_], offset: Offsets) -> dict[str, Values]:
    """AUC, MRR and NDCG of each impression, float64[n] by name; NaN where everything or nothing was clicked.

    Args:
        scores: float32, of everything that was shown, impression after impression.
        clicked: bool, beside it.
        offset: int64[n + 1].
    """
    length = np.diff(offset)
    row = np.repeat(np.arange(len(length)), length)
    order = np.lexsort((clicked, -scores, row))  # of equal scores, what was clicked comes last
    hit = clicked[order]
    rank = 1 + np.arange(len(row)) - np.repeat(offset[:-1], length)
    clicks: Values = np.bincount(row, weights=clicked, minlength=len(length)).astype(np.float64)
    others = length - clicks
    with np.errstate(invalid="ignore", divide="ignore"):
        values = {"auc": _auc(scores[order], hit, row, rank, (clicks, others))}
        values["mrr"] = np.bincount(row, weights=hit / rank, minlength=len(length)) / clicks
        for k in CUTOFFS:
            gain = np.where(hit & (rank <= k), 1 / np.log2(1.0 + rank), 0.0)
            values[f"ndcg@{k}"] = np.bincount(row, weights=gain, minlength=len(length)) / _best_gain(k)[np.minimum(clicks, k).astype(np.int64)]
    judged = (clicks > 0) & (others > 0)
    return {name: np.where(judged, value, np.nan) for name, value in values.items()}


def first_ranks(scores: Scores, clicked: npt.NDArray[np.bool_], offset: Offsets) -> Offsets:
    """int64[n], the rank of the best placed click of each impression; every impression has one."""
    length = np.diff(offset)
    row = np.repeat(np.arange(len(length)), length)
    order = np.lexsort((clicked, -scores, row))
    rank = 1 + np.arange(len(row)) - np.repeat(offset[:-1], length)
    ranks = np.full(len(length), np.iinfo(np.int64).max)
    np.minimum.at(ranks, row[clicked[order]], rank[clicked[order]])
    return ranks


def best_shown(scores: Scores, cases: ImpressionCases, k: int) -> Codes:
    """int32[n, k], what was shown, best first; short impressions end in `PAD`."""
    length = np.diff(cases.offset)
    row = np.repeat(np.arange(len(length)), length)
    order = np.lexsort((-scores, row))
    rank = np.arange(len(row)) - np.repeat(cases.offset[:-1], length)
    inside = rank < k
    lists = np.full((len(length), k), PAD, np.int32)
    lists[row[inside], rank[inside]] = cases.shown[order[inside]]
    return lists


def shown_scores(recommender: Recommender, cases: ImpressionCases, requests: RequestBatch, shown: Codes, quiet: bool = True) -> Scores:
    """What a recommender thinks of everything that was shown, float32 beside it; -inf for an item it does not know.

    A `Scorer` tells scores, and each history is asked about once, however often it was shown something. Anybody else is asked
    for a list of what was shown, and the places in it are the scores.

    Args:
        recommender: A fitted system.
        cases: The impressions.
        requests, shown: Their requests and items, in the recommender's codes.
        quiet: Whether to show no progress.
    """
    scores = np.full(len(shown), -np.inf, np.float32)
    with progress("evaluating", len(requests), "impressions", quiet) as bar:
        if isinstance(recommender, Scorer):
            length = np.diff(cases.offset)
            asked, which = _distinct(requests)
            order = np.argsort(which, kind="stable")
            rows = max(1, BLOCK_BYTES // (4 * recommender.items.size))
            start = np.searchsorted(which[order], np.arange(0, len(asked) + rows, rows))
            for number, (low, high) in enumerate(pairwise(start)):
                part = order[low:high]
                block = recommender.score(asked[number * rows : (number + 1) * rows], slice(0, recommender.items.size))
                place = _places(cases.offset, part)
                scores[place] = block[np.repeat(which[part] - number * rows, length[part]), shown[place]]
                bar.advance(len(part))
        else:
            scores = _places_in_lists(recommender, cases, requests, shown)
            bar.advance(len(requests))
    scores[shown == PAD] = -np.inf
    assert not np.isnan(scores).any(), "a score is NaN"
    return scores


def ask_impressions(
    recommender: Recommender, cases: ImpressionCases, requests: RequestBatch, shown: Codes, quiet: bool = True
) -> tuple[dict[str, Values], Offsets, Codes]:
    """Metrics of each impression, the rank of its best placed click, and int32[n, 10] what was shown in the order of the scores, in the data's codes.

    See `shown_scores` for the arguments.
    """
    scores = shown_scores(recommender, cases, requests, shown, quiet)
    values = impression_metrics(scores, cases.clicked, cases.offset)
    return values, first_ranks(scores, cases.clicked, cases.offset), best_shown(scores, cases, max(CUTOFFS))


def _auc(scores: Scores, hit: npt.NDArray[np.bool_], row: Offsets, rank: Offsets, sizes: tuple[Values, Values]) -> Values:
    """The share of pairs of a click and a pass that stand in the right order (Mann & Whitney, 1947); arrays are sorted, best first."""
    clicks, others = sizes
    new = np.ones(len(row), np.bool_)
    new[1:] = (row[1:] != row[:-1]) | (scores[1:] != scores[:-1])
    group = np.cumsum(new) - 1
    middle = np.bincount(group, weights=rank) / np.bincount(group) if len(row) else np.zeros(0)
    worse = np.bincount(row, weights=hit * middle[group], minlength=len(clicks))  # counted from the best
    auc: Values = 1 - (worse - clicks * (clicks + 1) / 2) / (clicks * others)
    return auc


def _best_gain(k: int) -> Values:
    """float64[k + 1], the largest possible gain with so many clicks."""
    return np.concatenate([np.zeros(1), np.cumsum(1 / np.log2(np.arange(2, k + 2)))])


def _distinct(requests: RequestBatch) -> tuple[RequestBatch, Offsets]:
    """Requests that differ in user, history or time of asking, and which of them each one is."""
    user = np.zeros(len(requests), np.int64) if requests.user is None else requests.user
    now = np.zeros(len(requests), np.int64) if requests.now is None else requests.now
    keys = np.stack([requests.start, requests.stop, user, now if requests.time is not None else np.zeros_like(now)], axis=1)
    _, first, which = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return requests.take(first), which.reshape(-1)


def _places(offset: Offsets, rows: Offsets) -> Offsets:
    length = np.diff(offset)[rows]
    before = np.cumsum(length) - length
    places: Offsets = np.arange(length.sum()) + np.repeat(offset[rows] - before, length)
    return places


def _places_in_lists(recommender: Recommender, cases: ImpressionCases, requests: RequestBatch, shown: Codes) -> Scores:
    """Minus the place of each shown item in the list that a recommender makes of what was shown."""
    length = np.diff(cases.offset)
    parts = np.split(shown, cases.offset[1:-1])
    asked = dataclasses.replace(requests, candidates=[np.unique(part[part != PAD]) for part in parts], exclude_seen=np.zeros(len(requests), np.bool_))
    lists = recommender.recommend(asked, max(int(length.max(initial=1)), 1)).items
    row, column = np.nonzero(lists != PAD)
    size = np.int64(recommender.items.size)
    keys = row * size + lists[row, column]
    order = np.argsort(keys)
    wanted = np.repeat(np.arange(len(length)), length) * size + shown
    place = np.minimum(np.searchsorted(keys[order], wanted), max(len(keys) - 1, 0))
    found = keys[order][place] == wanted
    return np.where(found, -column[order][place], -np.inf).astype(np.float32)
