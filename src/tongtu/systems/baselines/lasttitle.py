"""Last title: search the catalogue with the title of the newest item.

Idea: whoever bought a blue nail polish is shown what else is called so. GLoSS (its authors call this Last Item Search) and other systems that
write queries are hard put to beat it, and every such system should stand beside it.

What ours does: BM25 (Robertson & Zaragoza, FnTIR 2009) over titles; the newest item that has a title asks; a wish adds its words. Items that no word
reaches follow by popularity, which is also the answer to an empty history.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import FitOptions, Request, RequestBatch, Scores, TopK
from tongtu.ranking import top_k
from tongtu.systems._catalogue import with_items
from tongtu.systems._titles import TITLES, Searching, TitleSearch
from tongtu.systems.baselines._histories import popularity_share, require_events

if TYPE_CHECKING:
    import polars as pl

    from tongtu.data.dataset import Dataset
    from tongtu.vocab import Vocab


class LastTitle:
    """The titles of the catalogue, and how popular each item is."""

    @configuration
    class Config:
        """Settings of the search.

        Attributes:
            search: Of BM25.
            longest: Letters of a title.
        """

        search: Searching = Field(default_factory=Searching)
        longest: int = Field(100, ge=8)

    hears_wishes: ClassVar[bool] = True
    items: Vocab
    item_text: pl.Series | None

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions | None = None) -> Self:
        """Index all titles.

        Raises:
            DataError: If there are no events, or no title has a word.
        """
        options = options or FitOptions()
        started = time.perf_counter()
        require_events(data)
        self._search = TitleSearch.of_data(data, self.config.longest, self.config.search)
        self.items, self.item_text, self._counts = data.items, data.item_text, data.item_counts
        self.provenance = {"seed": options.seed, "fit_seconds": time.perf_counter() - started, "parameters": int(self._search.index.scores.nnz)}
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """BM25 float32[n, width], positive where a word reaches the item; below zero, by popularity, elsewhere."""
        batch = RequestBatch.of(requests)
        row, place = batch.events()
        code = batch.item[place]
        titled = np.diff(self._search.index.counts.indptr)[code] > 0
        newest = np.zeros(len(batch), np.int64)
        newest[row[titled]] = code[titled]
        query = self._search.index.counts[newest]
        if batch.wish is not None:
            query = query + self._search.counted([wish or "" for wish in batch.wish])
        reached: Scores = (query @ self._search.index.scores[:, items]).toarray()
        return np.where(reached > 0, reached, popularity_share(self._counts)[items] - 1)

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def with_items(self, items: pl.DataFrame, keep: bool = True) -> Self:
        """The same recommender for other items, whose titles are indexed now; see `core.Extends`. A column "title" is heeded."""
        found = with_items(self.items, self.item_text, items, keep)
        other = copy.copy(self)
        other.items, other.item_text, other._counts = found.items, found.text, self._counts[found.old]
        other._counts[0] = 0
        other._search = self._search.after(found, items, self.config.longest)
        other.provenance = dict(self.provenance)
        return other

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder."""
        hub.save(path, self, {"popularity": self._counts}, texts={TITLES: self._search.written()})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.item_text, system._counts = folder.items, folder.item_text, folder.arrays["popularity"]
        system._search = TitleSearch.read(folder.texts[TITLES], system.config.search)
        system.provenance = dict(folder.facts["provenance"])
        return system
