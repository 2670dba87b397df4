"""ALS: matrix factorisation of implicit feedback by alternating least squares, through the package `implicit`.

Paper: Hu, Koren & Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008.
Idea: every user-item pair is a 0 or a 1, and the ones are trusted more (confidence 1 + alpha). For fixed item vectors Y the
best user vector has a closed form, x = (Y'Y + l2 I + sum_i (c_i - 1) y_i y_i')^-1 sum_i c_i y_i, and the other way round.

Ours differs: a user's vector is always solved for from the history of the request, so that a user never seen is answered like
a known one, and no user table is kept; confidence of the ones is alpha (as in `implicit`), not 1 + alpha; older
events of a history are trusted less (`decay = 1` is the paper's model).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import FitOptions, Request, RequestBatch, Scores, TopK
from tongtu.ranking import top_k
from tongtu.systems.baselines._factors import Vectors, indexed_items, indexed_queries, one_blas_thread, product_scores
from tongtu.systems.baselines._histories import history_matrix, popularity_share, user_item_matrix, without_history

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl
    from scipy.sparse import csr_array

    from tongtu.data.dataset import Dataset
    from tongtu.vocab import Vocab

_NUMBERS_A_BLOCK = 16_000_000
"""Floats held at a time while user vectors are solved for: 64 MB."""


class ALS:
    """Item vectors float32[items.size, factors]; user vectors are solved for when asked."""

    @configuration
    class Config:
        """Settings of ALS.

        Attributes:
            factors: Length of the vectors.
            l2: The penalty.
            alpha: Confidence of an event against that of no event.
            iterations: Alternations.
            threads: Threads of the fit; the result does not depend on them.
            decay: Confidence of an event of the history against the one after it; 1 trusts all alike, as the paper does. It never falls below
                that of no event.
        """

        factors: int = Field(128, ge=1)
        l2: float = Field(30.0, ge=0)
        alpha: float = Field(30.0, ge=1)
        iterations: int = Field(15, ge=1)
        threads: int = Field(1, ge=1)
        decay: float = Field(0.8, gt=0, le=1)

    items: Vocab
    item_text: pl.Series | None

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions | None = None) -> Self:
        """Alternate between the least-squares problems of users and items."""
        from implicit.cpu.als import AlternatingLeastSquares
        from scipy.sparse import csr_matrix

        options = options or FitOptions()
        started = time.perf_counter()
        met = user_item_matrix(data)
        self.items, self.item_text = data.items, data.item_text
        self._popularity = popularity_share(data.item_counts)
        settings = self.config
        with one_blas_thread():
            model = AlternatingLeastSquares(
                factors=settings.factors,
                regularization=settings.l2,
                alpha=settings.alpha,
                iterations=settings.iterations,
                num_threads=settings.threads,
                random_state=options.seed,
            )
            model.fit(csr_matrix(met), show_progress=False)
        self._set_vectors(np.asarray(model.item_factors, np.float32))
        self.provenance = {"seed": options.seed, "fit_seconds": time.perf_counter() - started, "parameters": int(self._vectors[1:].size)}
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Scores float32[n, width] for the codes in `items`."""
        confidence = self._confidence(requests)
        return product_scores(self._solved(confidence), self._vectors, self._popularity, without_history(confidence), items)

    def user_vectors(self, requests: Sequence[Request]) -> Scores:
        """The vectors solved for; see `Represents`."""
        return self._solved(self._confidence(requests))

    def query_vectors(self, requests: Sequence[Request]) -> Scores:
        """See `Indexable`."""
        confidence = self._confidence(requests)
        return indexed_queries(self._solved(confidence), without_history(confidence))

    def item_vectors(self) -> Scores:
        """See `Indexable`."""
        return indexed_items(self._vectors, self._popularity)

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder."""
        hub.save(path, self, {"popularity": self._popularity, "vectors": self._vectors})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder; this needs no `implicit`."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.item_text = folder.items, folder.item_text
        system._popularity = folder.arrays["popularity"]
        system._set_vectors(folder.arrays["vectors"])
        system.item_text, system.provenance = folder.item_text, dict(folder.facts["provenance"])
        return system

    def _confidence(self, requests: Sequence[Request]) -> csr_array:
        """float32[n, items.size], that of the events of each history."""
        confidence = history_matrix(RequestBatch.of(requests), self.items.size, self.config.decay)
        confidence.data = np.maximum(confidence.data * np.float32(self.config.alpha), 1)
        return confidence

    def _solved(self, confidence: csr_array) -> Vectors:
        """The closed form of the paper for each row of `confidence`, float32[n, items.size]: float32[n, factors].

        Rows of similar length are solved together: their items' vectors are stacked and one batched product makes all their matrices.
        """
        factors = self._vectors.shape[1]
        users = np.zeros((confidence.shape[0], factors), np.float32)
        lengths = np.diff(confidence.indptr)
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        for rows in _similar(order, lengths, factors):
            width = int(lengths[rows].max())
            place = confidence.indptr[rows][:, None] + np.arange(width)
            real = np.arange(width) < lengths[rows][:, None]
            place = np.where(real, place, 0)
            trust = np.where(real, confidence.data[place], 0)
            # Places beyond a history point at the vector of PAD, which is zero and adds nothing.
            vectors = self._vectors[np.where(real, confidence.indices[place], 0)]
            matrix = self._gram + (vectors * (trust - 1)[:, :, None]).transpose(0, 2, 1) @ vectors
            users[rows] = np.linalg.solve(matrix, np.einsum("nl,nlf->nf", trust, vectors)[:, :, None])[:, :, 0]
        return users

    def _set_vectors(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self._vectors[0] = 0
        self._gram = vectors.T @ vectors + np.float32(self.config.l2) * np.eye(vectors.shape[1], dtype=np.float32)


def _similar(order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], factors: int) -> list[npt.NDArray[np.int64]]:
    """Cut `order`, rows by rising length, into blocks that neither waste padding nor hold more than `_NUMBERS_A_BLOCK`."""
    size = 2.0 ** np.ceil(np.log2(lengths[order])) * factors + factors**2
    doubled = np.flatnonzero(np.diff(size)) + 1
    parts = np.split(order, doubled)
    rows = [max(1, int(_NUMBERS_A_BLOCK // s)) for s in size[np.concatenate([[0], doubled]).astype(np.int64)]] if len(order) else []
    return [part[a : a + n] for part, n in zip(parts, rows, strict=False) for a in range(0, len(part), n)]
