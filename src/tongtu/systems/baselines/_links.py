"""Weights from item to item, and the scores of histories by them: what ItemKNN and sequential rules share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from tongtu.core import Request, RequestBatch, Scores
from tongtu.systems.baselines._histories import history_matrix


class ItemLinks:
    """A sparse matrix of weights [items.size, items.size] (row = item met, column = item scored), and popularity where it says nothing.

    Args:
        weights: The matrix.
        popularity: float32[items.size] in [0, 1).
    """

    def __init__(self, weights: csr_array, popularity: Scores) -> None:
        self.weights, self.popularity = weights, popularity

    def score(self, requests: Sequence[Request], items: slice, decay: float) -> Scores:
        """Summed weights float32[n, width], positive where a link reaches the item; below zero, by popularity, elsewhere.

        Args:
            requests: n requests.
            items: Item codes to score.
            decay: Weight of an event of the history against the one after it.
        """
        histories = history_matrix(RequestBatch.of(requests), self.weights.shape[0], decay)
        reached: Scores = (histories @ self.weights)[:, items].toarray()
        return np.where(reached > 0, reached, self.popularity[items] - 1)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """For `tongtu.hub.save`."""
        return {"popularity": self.popularity, "weight": self.weights.data, "item": self.weights.indices, "offset": self.weights.indptr}

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """From the arrays of a model folder."""
        size = len(arrays["popularity"])
        return cls(csr_array((arrays["weight"], arrays["item"], arrays["offset"]), shape=(size, size)), arrays["popularity"])
