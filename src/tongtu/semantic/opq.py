"""Optimised product quantisation: a rotation, and k-means in each of as many parts of the rotated space as there are levels.

Paper: Ge, He, Ke & Sun, "Optimized product quantization" (CVPR 2013): the rotation begins with principal directions dealt out so that the parts have
variance alike, and then takes turns with the centres (its non-parametric solution).

How ours differs: parts need not be equally wide, so any width goes with any number of levels; k-means is faiss', one round a turn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tongtu.core import Offsets
from tongtu.semantic.codebooks import Vectors, squared_distances
from tongtu.semantic.rkmeans import k_means

_FIRST = 5  # rounds of k-means before the rotation turns for the first time


def product_books(x_ND: Vectors, sizes: Sequence[int], iterations: int, seed: int) -> tuple[Vectors, tuple[Vectors, ...]]:
    """A rotation float32[D, D], to be applied as x @ rotation.T, and books float32[K, D], each zero outside its own part of the rotated space.

    Args:
        x_ND: The vectors, of mean zero, at least as wide as there are levels.
        sizes: Codes of each level.
        iterations: Turns.
        seed: Of the vectors that k-means begins with.

    Raises:
        MissingExtra: If faiss is not installed.
    """
    parts = np.array_split(np.arange(x_ND.shape[1]), len(sizes))
    rotation = _dealt_out(x_ND, [len(part) for part in parts])
    books: list[Vectors | None] = [None] * len(sizes)
    for turn in range(iterations + 1):
        z = x_ND @ rotation.T
        restored = np.empty_like(z)
        for level, (size, part) in enumerate(zip(sizes, parts, strict=True)):
            own = np.ascontiguousarray(z[:, part])
            book = k_means(own, size, 1 if turn else _FIRST, seed + level, books[level])
            restored[:, part] = book[squared_distances(own, book).argmin(axis=1)]
            books[level] = book
        if turn < iterations:
            left, _, right = np.linalg.svd(restored.T @ x_ND)
            rotation = (left @ right).astype(np.float32)
    return rotation, tuple(_within(book, part, x_ND.shape[1]) for book, part in zip(books, parts, strict=True) if book is not None)


def _dealt_out(x_ND: Vectors, widths: Sequence[int]) -> Vectors:
    """Principal directions float32[D, D] in the order of the parts: the strongest left goes to the part of least variance, as a product, with room."""
    variance, direction = np.linalg.eigh(np.cov(x_ND.T.astype(np.float64)).reshape(x_ND.shape[1], -1))
    dealt: list[list[int]] = [[] for _ in widths]
    weight = np.zeros(len(widths))
    for one in np.argsort(-variance).tolist():
        part = min((p for p in range(len(widths)) if len(dealt[p]) < widths[p]), key=lambda p: weight[p])
        dealt[part].append(one)
        weight[part] += np.log(max(variance[one], np.finfo(np.float32).tiny) / max(variance[-1], np.finfo(np.float32).tiny) + 1)
    rows: Vectors = direction.T[[one for part in dealt for one in part]].astype(np.float32)
    return rows


def _within(book_KP: Vectors, part: Offsets, width: int) -> Vectors:
    """A book of one part as vectors of the whole space."""
    book = np.zeros((len(book_KP), width), np.float32)
    book[:, part] = book_KP
    return book
