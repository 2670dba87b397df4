"""ItemKNN: an item is as good as its likeness to the items of the history.

Paper: Deshpande & Karypis, "Item-based top-N recommendation algorithms", ACM TOIS 2004.
Idea: two items are alike if the same users met them; each item keeps its most alike neighbours, and a history's score for an
item is the sum of the likenesses of its items to it.

Ours differs: likeness is damped by a constant in the denominator (shrinkage), so that two items met once, by the same user,
are not perfectly alike; older events of a history weigh less (`decay = 1` is the paper's model); and items that no neighbour reaches are not tied at
zero but follow in the order of popularity, which is also the answer to an empty history.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array, vstack

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import FitOptions, Request, Scores, TopK
from tongtu.progress import progress
from tongtu.ranking import top_k
from tongtu.systems.baselines._histories import popularity_share, user_item_matrix
from tongtu.systems.baselines._links import ItemLinks

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from tongtu.data.dataset import Dataset
    from tongtu.vocab import Vocab

_PAIRS_A_BLOCK = 20_000_000
"""Co-occurrences computed at a time: bounds the memory of the build at about a gigabyte."""


class ItemKNN:
    """Nearest neighbours between items, held as a sparse matrix [items.size, items.size]: row = item met, column = item scored."""

    @configuration
    class Config:
        """Settings of ItemKNN.

        Attributes:
            similarity: "cosine" n_ij / sqrt(n_i n_j); "jaccard" n_ij / (n_i + n_j - n_ij); "conditional" n_ij / (n_i n_j^exponent).
            neighbours: How many of its most alike items each item keeps.
            shrinkage: Added to the denominator.
            exponent: How strongly "conditional" holds back popular items: 0 not at all, 1 wholly.
            decay: Weight of an event of the history against the one after it; 1 weighs all alike, as the paper does.
        """

        similarity: Literal["cosine", "jaccard", "conditional"] = "cosine"
        neighbours: int = Field(1000, ge=1)
        shrinkage: float = Field(10.0, ge=0)
        exponent: float = Field(0.5, ge=0, le=1)
        decay: float = Field(0.7, gt=0, le=1)

    items: Vocab
    item_text: pl.Series | None

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions | None = None) -> Self:
        """Find each item's neighbours, a block of items at a time."""
        options = options or FitOptions()
        started = time.perf_counter()
        met = user_item_matrix(data)
        users = met.T.tocsr()
        self.items, self.item_text = data.items, data.item_text
        counts = np.diff(users.indptr).astype(np.float32)
        blocks = []
        with progress("ItemKNN", data.items.size, "items", options.quiet) as bar:
            for start, stop in _blocks(users, met):
                together = users[start:stop] @ met
                blocks.append(self._neighbours(together.tocsr(), counts, start))
                bar.advance(stop - start)
        self._links = ItemLinks(csr_array(vstack(blocks, format="csr")), popularity_share(data.item_counts))
        self.provenance = {"seed": options.seed, "fit_seconds": time.perf_counter() - started, "parameters": int(self._links.weights.nnz)}
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Summed likeness float32[n, width], positive where a neighbour reaches the item; below zero, by popularity, elsewhere."""
        return self._links.score(requests, items, self.config.decay)

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder."""
        hub.save(path, self, self._links.arrays())

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.item_text, system._links = folder.items, folder.item_text, ItemLinks.of(folder.arrays)
        system.provenance = dict(folder.facts["provenance"])
        return system

    def _neighbours(self, together: csr_array, counts: npt.NDArray[np.float32], start: int) -> csr_array:
        """The nearest neighbours of the items from `start` on, given how often each was met together with each other item."""
        row = np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
        column, both = together.indices, together.data
        other = column != row + start
        row, column, both = row[other], column[other], both[other]
        mine, theirs = counts[row + start], counts[column]
        match self.config.similarity:
            case "cosine":
                norm = np.sqrt(mine * theirs)
            case "jaccard":
                norm = mine + theirs - both
            case "conditional":
                norm = mine * theirs**self.config.exponent
        likeness = (both / (norm + np.float32(self.config.shrinkage))).astype(np.float32)
        order = np.lexsort((column, -likeness, row))
        length = np.bincount(row, minlength=together.shape[0])
        rank = np.arange(len(row)) - np.repeat(np.cumsum(length) - length, length)
        kept = order[rank < self.config.neighbours]
        return csr_array((likeness[kept], (row[kept], column[kept])), shape=together.shape)


def _blocks(users: csr_array, met: csr_array) -> list[tuple[int, int]]:
    """Ranges of items whose products with all items have about `_PAIRS_A_BLOCK` terms each."""
    terms = np.concatenate([np.zeros(1), np.cumsum(users @ np.diff(met.indptr).astype(np.float64))])
    wanted = np.arange(_PAIRS_A_BLOCK, terms[-1], _PAIRS_A_BLOCK)
    cuts = np.unique(np.concatenate([[0], np.searchsorted(terms, wanted), [users.shape[0]]]))
    return [(int(a), int(b)) for a, b in pairwise(cuts)]
