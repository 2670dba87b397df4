"""Residual k-means through faiss: k-means on the vectors, then on what each vector's centre leaves of it, and so on.

Luo et al., "QARM" (2024), and Deng et al., "OneRec" (2025), make ids this way; nothing collapses, since there is nothing to train against.

How ours differs: plain k-means, not a balanced one; evenness is the business of `tongtu.semantic.repair`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tongtu.errors import MissingExtra
from tongtu.semantic.codebooks import Vectors, squared_distances

_LARGEST_SEED = 2**31


def residual_books(z_NZ: Vectors, sizes: Sequence[int], iterations: int, seed: int) -> tuple[Vectors, ...]:
    """Books float32[K, Z], one for each of `sizes`; of fewer vectors than that, one code a vector.

    Args:
        z_NZ: The vectors.
        sizes: Codes of each level.
        iterations: Of k-means.
        seed: Of the vectors that k-means begins with.

    Raises:
        MissingExtra: If faiss is not installed.
    """
    left, books = z_NZ.astype(np.float32, order="C", copy=True), []
    for level, size in enumerate(sizes):
        book = k_means(left, size, iterations, seed + level)
        left -= book[squared_distances(left, book).argmin(axis=1)]
        books.append(book)
    return tuple(books)


def k_means(x_NZ: Vectors, size: int, iterations: int, seed: int, start: Vectors | None = None) -> Vectors:
    """Centres float32[K, Z], from `start` or from vectors drawn by the seed."""
    try:
        import faiss
    except ImportError:
        raise MissingExtra("k-means for semantic ids", "ann") from None
    found = faiss.Kmeans(
        x_NZ.shape[1],
        min(size, len(x_NZ)) if start is None else len(start),
        niter=iterations,
        seed=seed % _LARGEST_SEED,
        min_points_per_centroid=1,  # below its own 39 faiss prints a warning
        max_points_per_centroid=max(len(x_NZ), 1),  # all vectors, not a sample
    )
    found.train(np.ascontiguousarray(x_NZ), init_centroids=start)
    centres: Vectors = np.asarray(found.centroids, np.float32)
    return centres
