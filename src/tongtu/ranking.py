"""From scores to ranks and short lists, one block of requests at a time.

Scores of all items exist only for a block of requests that fits `BLOCK_BYTES`, so memory does not grow with users x items.
What a request may not be answered with (`PAD`, items of the history where `exclude_seen`, items outside its candidates) gets
the score -inf, and so may a scorer mark what it would never recommend: -inf is never in a list, and a target that has it is a miss.

Ranks are pessimistic: items that tie with the target stand before it. Lists break ties by the lower item code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tongtu.core import PAD, Codes, Offsets, Request, RequestBatch, Scores, TopK
from tongtu.vocab import Vocab

BLOCK_BYTES = 32 << 20  # larger blocks come from the system anew each time (glibc), and touching fresh pages costs half as much again
_ROWS = 64  # rows searched together for their best items: their scores stay in the processor's cache
_GROUPS = 16


class CatalogueScorer(Protocol):
    """A scorer that knows its catalogue: every `Scorer` that is a `Recommender`."""

    @property
    def items(self) -> Vocab: ...

    def score(self, requests: Sequence[Request], items: slice) -> Scores: ...


def top_k(scorer: CatalogueScorer, requests: Sequence[Request], k: int) -> TopK:
    """The `k` best items for each request, best first; equal scores stand by rising item code.

    Raises:
        AssertionError: If a score is NaN.
    """
    assert k > 0
    return _joined([_best(scores, k) for _, scores in _blocks(scorer, requests)], k)


def target_ranks(scorer: CatalogueScorer, requests: Sequence[Request], targets: Codes) -> Offsets:
    """int64[n], the pessimistic rank of each request's target: 1 + how many other eligible items score at least as high.

    A target that may not be recommended (seen and excluded, not among the candidates, unknown, scored -inf) has rank
    `len(scorer.items) + 1`, a miss at every cutoff.

    Args:
        scorer: Scores the catalogue.
        requests: n requests.
        targets: int32[n], item codes of the scorer.

    Raises:
        AssertionError: If a score is NaN.
    """
    return _in_order([_ranks(scores, targets[place], len(scorer.items)) for place, scores in _blocks(scorer, requests)])


def ranks_and_top(scorer: CatalogueScorer, requests: Sequence[Request], targets: Codes, k: int) -> tuple[Offsets, TopK]:
    """`target_ranks` and `top_k` from the same scores."""
    ranks, best = [], []
    for place, scores in _blocks(scorer, requests):
        ranks.append(_ranks(scores, targets[place], len(scorer.items)))
        best.append(_best(scores, k))
    return _in_order(ranks), _joined(best, k)


def ranks_of_each(scorer: CatalogueScorer, requests: Sequence[Request], targets: Codes) -> Offsets:
    """int64[n, K], the rank of each of K targets, which are the same for all n requests; as in `target_ranks`, `len(scorer.items) + 1` is a miss.

    Raises:
        AssertionError: If a score is NaN.
    """
    catalogue = len(scorer.items)
    parts = [
        np.stack([_ranks(scores, np.full(len(scores), target), catalogue) for target in targets], axis=1) for _, scores in _blocks(scorer, requests)
    ]
    return np.concatenate([*parts, np.zeros((0, len(targets)), np.int64)])


def _blocks(scorer: CatalogueScorer, requests: Sequence[Request]) -> Iterator[tuple[slice, Scores]]:
    """Scores of the whole catalogue for one block of requests after another, -inf where an item may not be recommended."""
    batch = RequestBatch.of(requests)
    size = scorer.items.size
    rows = max(1, BLOCK_BYTES // (4 * size))
    for start in range(0, len(batch), rows):
        place = slice(start, min(start + rows, len(batch)))
        block = batch if len(batch) <= rows else batch[place]
        scores = np.require(scorer.score(block, slice(0, size)), np.float32, ["C", "W"])
        assert scores.shape == (len(block), size), f"scores of shape {scores.shape} for {len(block)} requests and {size} codes"
        _mask(scores, block)
        assert not np.isnan(scores.max()), "a score is NaN"  # the maximum is NaN if any score is
        yield place, scores


def _mask(scores: Scores, batch: RequestBatch) -> None:
    scores[:, PAD] = -np.inf
    if batch.exclude_seen.any():
        row, place = batch.events()
        if not batch.exclude_seen.all():
            asked = batch.exclude_seen[row]
            row, place = row[asked], place[asked]
        scores[row, batch.item[place]] = -np.inf
    if batch.candidates is not None:
        limited = np.array([i for i, codes in enumerate(batch.candidates) if codes is not None], np.int64)
        lists = [codes for codes in batch.candidates if codes is not None]
        row, item = np.repeat(limited, [len(codes) for codes in lists]), np.concatenate([*lists, np.zeros(0, np.int32)])
        kept = scores[row, item]
        scores[limited] = -np.inf
        scores[row, item] = kept


def _ranks(scores: Scores, targets: Codes, catalogue: int) -> Offsets:
    own = scores[np.arange(len(scores)), targets, None]
    ranks = np.count_nonzero(scores >= own, axis=1)
    return np.where(own[:, 0] == -np.inf, catalogue + 1, ranks)


def _best(scores: Scores, k: int) -> TopK:
    width = min(k, scores.shape[1])
    parts = [_best_columns(scores[start : start + _ROWS], width) for start in range(0, len(scores), _ROWS)]
    column = np.concatenate(parts)
    value = np.take_along_axis(scores, column, 1)
    order = np.lexsort((column, -value), axis=1)
    items = np.full((len(scores), k), PAD, np.int32)
    best = np.full((len(scores), k), -np.inf, np.float32)
    best[:, :width] = np.take_along_axis(value, order, 1)
    items[:, :width] = np.where(best[:, :width] == -np.inf, PAD, np.take_along_axis(column, order, 1))
    return TopK(items, best)


def _best_columns(scores: Scores, k: int) -> Offsets:
    """int64[n, k], the columns of the k highest scores of each row, in any order; of equal scores the lower columns.

    The k best lie in the k groups of columns with the highest maxima, so only those are searched: a pass of maxima at the
    speed of memory and a selection from a few hundred numbers, instead of a selection from the whole row.
    """
    rows, size = scores.shape
    groups = max(1, min(_GROUPS, int((size / k) ** 0.5)))
    width = size // groups
    maxima = scores[:, :width].copy()
    for g in range(1, groups):
        np.maximum(maxima, scores[:, g * width : (g + 1) * width], out=maxima)
    chosen = np.argpartition(maxima, width - k, axis=1)[:, width - k :]
    column = (chosen[:, :, None] + np.arange(groups) * width).reshape(rows, -1)
    column = np.concatenate([column, np.broadcast_to(np.arange(groups * width, size), (rows, size % width))], axis=1)
    value = np.take_along_axis(scores, column, 1)
    best = np.argpartition(value, value.shape[1] - k, axis=1)[:, value.shape[1] - k :]
    found = np.take_along_axis(column, best, 1)
    least = np.take_along_axis(value, best, 1).min(axis=1, keepdims=True)
    more = (np.count_nonzero(value >= least, axis=1) > k) | (np.count_nonzero(maxima >= least, axis=1) > k)
    tied = np.flatnonzero(more & (least[:, 0] > -np.inf))
    if len(tied):
        found[tied] = _lowest_of_tied(scores[tied], least[tied], k)
    return found


def _lowest_of_tied(scores: Scores, least: Scores, k: int) -> Offsets:
    """int64[n, k], columns above `least`, the k-th highest score, filled up with the lowest columns that equal it."""
    row, column = np.nonzero(scores > least)
    places = k - np.bincount(row, minlength=len(scores))
    tie_row, tie_column = np.nonzero(scores == least)
    count = np.bincount(tie_row, minlength=len(scores))
    ordinal = np.arange(len(tie_row)) - (np.cumsum(count) - count)[tie_row]
    keep = ordinal < places[tie_row]
    row, column = np.concatenate([row, tie_row[keep]]), np.concatenate([column, tie_column[keep]])
    lists: npt.NDArray[np.int64] = column[np.argsort(row, kind="stable")].reshape(len(scores), k)
    return lists


def _in_order(parts: list[Offsets]) -> Offsets:
    return np.concatenate([*parts, np.zeros(0, np.int64)])


def _joined(parts: list[TopK], k: int) -> TopK:
    if len(parts) == 1:
        return parts[0]
    items = np.concatenate([p.items for p in parts]) if parts else np.zeros((0, k), np.int32)
    return TopK(items, np.concatenate([p.scores for p in parts]) if parts else np.zeros((0, k), np.float32))
