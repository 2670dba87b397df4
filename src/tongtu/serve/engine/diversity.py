"""Lists whose items are less like each other: maximal marginal relevance.

Paper: Carbonell & Goldstein, "The use of MMR, diversity-based reranking for reordering documents and producing summaries", SIGIR 1998.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tongtu.core import Scores

_LEAST = 100


def pool_size(k: int) -> int:
    """How many of a model's best a list of `k` is chosen from."""
    return max(2 * k, _LEAST)


def diverse(vectors: Scores, scores: Scores, k: int, weight: float) -> npt.NDArray[np.int64]:
    """Places of `k` items, one chosen after the other: each time the one with the best mix of its own score and unlikeness to those chosen.

    Args:
        vectors: float32[n, width] of length 1, best item first.
        scores: float32[n], falling.
        k: How many.
        weight: Of the likeness, from 0 to 1; scores are stretched to 0..1 over the pool.
    """
    n = len(scores)
    if not n:
        return np.zeros(0, np.int64)
    span = float(scores[0] - scores[-1]) or 1.0
    value = (1 - weight) * (scores - scores[-1]) / span
    likeness = np.full(n, -1.0, np.float32)
    chosen: list[int] = []
    free = np.ones(n, np.bool_)
    while len(chosen) < min(k, n):
        mix = np.where(free, value - weight * likeness, -np.inf)
        best = int(mix.argmax())
        chosen.append(best)
        free[best] = False
        np.maximum(likeness, vectors @ vectors[best], out=likeness)
    return np.array(chosen, np.int64)
