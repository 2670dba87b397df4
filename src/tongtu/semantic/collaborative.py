"""Paths of clusters of items that the same users met: spectral clustering, again within each cluster that is still large.

Paper: Hua et al. (SIGIR-AP 2023), CID. The clusters of eigenvectors are read off by a pivoted QR decomposition (Damle, Minden & Ying,
"Simple, direct and efficient multi-way spectral clustering", Information and Inference 2019).

How ours differs: counts stay sparse; a set of items that falls into unconnected pieces is cut by k-means on singular vectors, unless one piece
holds nearly all of it; what neither can cut is cut evenly; and items without events get a branch of their own, cut evenly, so that no
two items ever share a path.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse
from scipy.cluster.vq import kmeans2
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackError, eigsh, svds

from tongtu.data.dataset import Dataset

Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float64]

_DENSE = 256
"""Items up to which a full decomposition is quicker than an iterative one."""
_WHOLE = 0.9
"""Share of the items that one connected piece must hold to be cut by itself."""
_LARGEST = 0.8
"""Share of the items that one part may keep: a cut that splits off crumbs makes long paths."""


def cluster_paths(data: Dataset, clusters: int, most: int, seed: int) -> tuple[list[list[int]], dict[str, Any]]:
    """The path of each item, in numbers from 1 to `most`, and how many sets were cut in which way.

    The clusters of one cut are numbered on from the last cut's, and from 1 again after `most`; the last number of a path counts within its cluster.

    Args:
        data: The events that may be learned from.
        clusters: Into how many parts a set is cut; fewer than `most`.
        most: Items that may stay together.
        seed: Of the start vectors.
    """
    return _Cutting(together(data), clusters, most, seed).paths(data.item_counts[1:] > 0)


def together(data: Dataset) -> sparse.csr_matrix:
    """How many users met both of two items, float64[items, items], nothing on the diagonal; item code i is row i - 1."""
    place = (data.event_user.astype(np.int64) - 1, data.item.astype(np.int64) - 1)
    met = sparse.csr_matrix((np.ones(data.n_events), place), (len(data.users), len(data.items)))
    met.data[:] = 1  # an item met twice by a user is met
    counts = sparse.csr_matrix(met.T @ met)
    counts.setdiag(0)
    counts.eliminate_zeros()
    return counts


def met_vectors(data: Dataset, width: int, seed: int) -> npt.NDArray[np.float32]:
    """float32[items.size, width], like vectors for items that the same users met; zeros for those without events and for `PAD`.

    Singular vectors of the counts, each count over the root of what its two items have in all.

    Args:
        data: The events that may be learned from.
        width: Numbers in a vector; fewer where there are fewer items.
        seed: Of the start vector.
    """
    counts = together(data)
    scale = sparse.diags(1 / np.sqrt(np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)))
    near = scale @ counts @ scale
    found = np.zeros((len(data.items) + 1, min(width, near.shape[0] - 1)), np.float32)
    left, size, _ = svds(near, k=found.shape[1], v0=np.random.default_rng(seed).random(near.shape[0]))
    found[1:] = left * np.sqrt(size)
    found[1:][data.item_counts[1:] == 0] = 0
    return found


class _Cutting:
    def __init__(self, counts: sparse.csr_matrix, clusters: int, most: int, seed: int) -> None:
        self.counts, self.clusters, self.most, self.seed = counts, clusters, most, seed
        self.ways: Counter[str] = Counter()
        self.number = 0

    def paths(self, met: npt.NDArray[np.bool_]) -> tuple[list[list[int]], dict[str, Any]]:
        found: list[list[int]] = [[] for _ in met]
        known, unknown = np.flatnonzero(met), np.flatnonzero(~met)
        waiting: list[tuple[Indices, bool]] = [(np.arange(len(met)), True)]
        if len(met) > self.most:
            parts = self._parts(known, True) if len(known) > self.most else [known]
            waiting = self._named([(part, True) for part in parts if len(part)] + [(unknown, False)] * bool(len(unknown)), found)
        while waiting:
            items, by_users = waiting.pop()
            if len(items) > self.most:
                waiting += self._named([(part, by_users) for part in self._parts(items, by_users)], found)
                continue
            for number, item in enumerate(items.tolist(), start=1):
                found[item].append(number)
        return found, {"cuts": dict(self.ways), "without events": len(unknown), "longest path": max(map(len, found), default=0)}

    def _named(self, parts: list[tuple[Indices, bool]], found: list[list[int]]) -> list[tuple[Indices, bool]]:
        """The parts of one cut, whose items' paths get the next numbers: all different, since there are at most `most`."""
        for items, _ in parts:
            for item in items.tolist():
                found[item].append(self.number % self.most + 1)
            self.number += 1
        return parts

    def _parts(self, items: Indices, by_users: bool) -> list[Indices]:
        """A set of items cut into at least two parts, and at most `clusters`."""
        counts = self.counts[items][:, items].tocsr()
        for way, labels in (("spectral", _spectral_labels), ("k-means", _kmeans_labels)) if by_users else ():
            label = labels(counts, self.clusters, self.seed)
            if label is not None and np.bincount(label).max() <= _LARGEST * len(items):
                self.ways[way] += 1
                return [items[label == one] for one in np.unique(label)]
        self.ways["even"] += 1
        return np.array_split(items, min(self.clusters, -(-len(items) // self.most)))


def _spectral_labels(counts: sparse.csr_matrix, clusters: int, seed: int) -> Labels | None:
    """int64[n], the cluster of each item; None where the items fall into unconnected pieces, or the eigenvectors cannot be found.

    What hangs on to nothing of the piece that holds nearly all joins the smallest cluster.
    """
    piece = connected_components(counts, directed=False)[1]
    inside = np.flatnonzero(piece == np.bincount(piece).argmax())
    clusters = min(clusters, len(inside) - 1)
    if len(inside) < _WHOLE * len(piece) or clusters < 2:
        return None
    try:
        near = _qr_labels(_laplacian_vectors(counts[inside][:, inside], clusters, seed))
    except ArpackError:
        return None
    label = np.full(len(piece), np.bincount(near, minlength=clusters).argmin())
    label[inside] = near
    return label


def _laplacian_vectors(counts: sparse.csr_matrix, clusters: int, seed: int) -> Vectors:
    """float64[n, clusters], the eigenvectors of a connected graph's normalised Laplacian to its smallest eigenvalues."""
    scale = 1 / np.sqrt(np.asarray(counts.sum(axis=1)).ravel())
    near = sparse.diags(scale) @ counts @ sparse.diags(scale)
    n = near.shape[0]
    if n <= _DENSE or clusters >= n - 1:
        vectors = linalg.eigh(near.toarray(), subset_by_index=(n - clusters, n - 1))[1]
    else:
        vectors = eigsh(near, k=clusters, which="LA", v0=np.random.default_rng(seed).random(n), tol=1e-6, maxiter=20 * n)[1]
    scaled: Vectors = vectors * scale[:, None]
    return scaled


def _qr_labels(vectors_NC: Vectors) -> Labels:
    """int64[N], the cluster of each row by cluster QR: the pivots are one item of each cluster, and a rotation makes them the axes."""
    pivots = linalg.qr(vectors_NC.T, mode="r", pivoting=True)[1]
    left, _, right = linalg.svd(vectors_NC[pivots[: vectors_NC.shape[1]]].T)
    label: Labels = np.abs(vectors_NC @ (left @ right)).argmax(axis=1)
    return label


def _kmeans_labels(counts: sparse.csr_matrix, clusters: int, seed: int) -> Labels | None:
    """int64[n], clusters of singular vectors, of length 1; None where there is nothing to tell items apart."""
    n = counts.shape[0]
    clusters = min(clusters, n - 1)
    if not counts.nnz or clusters < 2:
        return None
    scale = sparse.diags(1 / np.sqrt(np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)))
    near = scale @ counts @ scale + sparse.identity(n)  # an item alone is at least like itself
    draw = np.random.default_rng(seed)
    if n <= _DENSE or clusters >= n - 1:
        left, size, _ = linalg.svd(near.toarray())
        left, size = left[:, :clusters], size[:clusters]
    else:
        left, size, _ = svds(near, k=clusters, v0=draw.random(n))
    vectors = left * size
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cluster that stays empty is one cluster fewer
        label: Labels = kmeans2(vectors, clusters, minit="++", rng=draw)[1].astype(np.int64)
    return label
