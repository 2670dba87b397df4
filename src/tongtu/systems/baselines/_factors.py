"""What systems of user and item vectors share: scoring, and calm threads while `implicit` fits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from tongtu.core import Scores

Vectors = npt.NDArray[np.float32]

_OUTSIDE = np.float32(-1000)
"""Added to the popularity of items that no user met in training: below any product of learned vectors."""


def product_scores(users: Vectors, vectors: Vectors, popularity: Scores, unknown: npt.NDArray[np.bool_], items: slice) -> Scores:
    """Scores float32[n, width]: the products of user and item vectors.

    Args:
        users: float32[n, factors].
        vectors: float32[items.size, factors].
        popularity: float32[items.size], 0 for an item never met: such items follow all others.
        unknown: bool[n], the requests that are answered by popularity.
        items: The item codes to score.
    """
    scores: Scores = users @ vectors[items].T
    scores[:, popularity[items] == 0] = _OUTSIDE
    scores[unknown] = popularity[items]
    return scores


def indexed_items(vectors: Vectors, popularity: Scores) -> Vectors:
    """float32[items.size, factors + 1], whose products with `indexed_queries` are `product_scores`: the last column puts items never met last."""
    never = popularity == 0
    found: Vectors = np.concatenate([np.where(never[:, None], 0, vectors), np.where(never, _OUTSIDE, 0)[:, None]], axis=1, dtype=np.float32)
    return found


def indexed_queries(users: Vectors, unknown: npt.NDArray[np.bool_]) -> Vectors:
    """float32[n, factors + 1], zeros for the requests that are answered by popularity."""
    found: Vectors = np.concatenate([users, np.ones((len(users), 1))], axis=1, dtype=np.float32)
    found[unknown] = 0
    return found


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """One BLAS thread inside the block: `implicit` has threads of its own, and the two together are many times slower."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield
