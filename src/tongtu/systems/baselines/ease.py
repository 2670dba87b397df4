"""EASE: a linear item-item model with zero diagonal, solved in closed form.

Paper: Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019.
Idea: find B with zero diagonal that makes X B closest to X (users x items) under the penalty l2 ||B||^2. With
P = (X'X + l2 I)^-1 the answer is B_ij = -P_ij / P_jj for i != j.

Ours differs: only items that occur are solved for (on a large catalogue, only the most popular `max_items` if `popular_only`
says so), all others follow in the order of popularity; older events of a history weigh less (`decay = 1` is the paper's
model); an empty history is answered by popularity. X is binary, as in the paper. Memory grows with the square of the items,
time with the cube. The decay matters: on MovieLens-100K's validation items NDCG@10 rises from .088 to .125, each at its best l2.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import Codes, FitOptions, Request, RequestBatch, Scores, TopK
from tongtu.errors import ConfigError
from tongtu.ranking import top_k
from tongtu.systems.baselines._histories import history_matrix, popularity_share, user_item_matrix, without_history

if TYPE_CHECKING:
    import polars as pl
    from scipy.sparse import csr_array

    from tongtu.data.dataset import Dataset
    from tongtu.vocab import Vocab

_OUTSIDE = np.float32(-1000)
"""Added to the popularity of items that were not solved for: below any score a history can reach."""


class EASE:
    """The dense matrix B over the items it was solved for."""

    @configuration
    class Config:
        """Settings of EASE.

        Attributes:
            l2: The penalty (lambda in the paper).
            precision: Numbers the system is solved in; weights are stored as float32 either way.
            max_items: The most items to solve for: 30,000 take 3.6 GB in float32, and the time grows with the cube.
            popular_only: Whether to solve for the `max_items` most popular items where there are more, instead of refusing.
            decay: Weight of an event of the history against the one after it; 1 weighs all alike, as the paper does.
        """

        l2: float = Field(300.0, gt=0)
        precision: Literal["float32", "float64"] = "float32"
        max_items: int = Field(30_000, ge=1)
        popular_only: bool = False
        decay: float = Field(0.8, gt=0, le=1)

    items: Vocab
    item_text: pl.Series | None

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions | None = None) -> Self:
        """Solve for B.

        Raises:
            ConfigError: If the catalogue is too large to solve for, or the penalty too small for the precision.
        """
        started = time.perf_counter()
        met = user_item_matrix(data)
        self.items, self.item_text = data.items, data.item_text
        self._popularity = popularity_share(data.item_counts)
        self._solved = self._choose(data)
        self._weights = self._solve(met[:, self._solved])
        seed = options.seed if options else 0
        self.provenance = {"seed": seed, "fit_seconds": time.perf_counter() - started, "parameters": int(self._weights.size)}
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Scores float32[n, width] for the codes in `items`."""
        histories = history_matrix(RequestBatch.of(requests), self.items.size, self.config.decay)
        start, stop, _ = items.indices(self.items.size)
        first, last = np.searchsorted(self._solved, (start, stop))
        scores = np.broadcast_to(self._popularity[items] + _OUTSIDE, (len(requests), stop - start)).copy()
        scores[:, self._solved[first:last] - start] = _product(histories[:, self._solved], self._weights[:, first:last])
        scores[without_history(histories)] = self._popularity[items]
        return scores

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder."""
        hub.save(path, self, {"popularity": self._popularity, "solved": self._solved, "weights": self._weights})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.item_text = folder.items, folder.item_text
        system._popularity = folder.arrays["popularity"]
        system._solved, system._weights = folder.arrays["solved"], folder.arrays["weights"]
        system.item_text, system.provenance = folder.item_text, dict(folder.facts["provenance"])
        return system

    def _choose(self, data: Dataset) -> Codes:
        """The item codes to solve for, rising."""
        known = np.flatnonzero(data.item_counts)
        if len(known) > self.config.max_items:
            if not self.config.popular_only:
                gigabytes = 8 * len(known) ** 2 / 1e9
                raise ConfigError(
                    f"EASE on {len(known):,} items needs about {gigabytes:.0f} GB: set popular_only=true to solve for the {self.config.max_items:,} "
                    f"most popular, raise max_items, or use itemknn"
                )
            known = np.sort(known[np.argsort(-data.item_counts[known], kind="stable")[: self.config.max_items]])
        return known.astype(np.int32)

    def _solve(self, met: csr_array) -> Scores:
        """B float32[items, items] of the binary matrix [users, items]."""
        # Fortran order lets LAPACK work in place. Only the lower triangle is written by potri; the matrix is symmetric.
        gram = np.asfortranarray((met.T @ met).toarray(), dtype=self.config.precision)
        gram[np.diag_indices_from(gram)] += self.config.l2
        from scipy.linalg import lapack

        potrf, potri = lapack.get_lapack_funcs(("potrf", "potri"), (gram,))
        factor, failed = potrf(gram, lower=True, overwrite_a=True, clean=False)
        if failed:
            raise ConfigError(f"EASE cannot be solved with l2={self.config.l2:g} in {self.config.precision}: raise l2 or set precision='float64'")
        inverse, _ = potri(factor, lower=True, overwrite_c=True)
        diagonal = inverse.diagonal().copy()
        lower = np.tril(inverse, -1)
        del gram, factor, inverse
        weights = lower + lower.T
        weights /= -diagonal
        return np.ascontiguousarray(weights, np.float32)


def _product(histories: csr_array, weights: Scores) -> Scores:
    """`histories @ weights`, reading only the rows of `weights` that some history needs."""
    if weights.flags.c_contiguous:
        product: Scores = histories @ weights
    else:
        used = np.unique(histories.indices)
        product = histories[:, used] @ np.ascontiguousarray(weights[used])
    return product
