"""Sequential rules: an item is as good as how often it has followed the newest items of the history.

Paper: Ludewig & Jannach, "Evaluation of session-based recommendation algorithms", UMUAI 2018 (SR); Kamehkhosh et al. (2017).
Idea: count which items stood behind which in the histories, nearer pairs weighing more; a history's score for an item is the
sum of its rules, newer events weighing more.

Ours differs: pairs read backwards in time count too, at a discount, since the order of purchases of one day says little;
frequent items are held down on both sides of a rule; all events of the history speak, not the newest alone; and items that
no rule reaches follow in the order of popularity. In sparse logs this needs no training and is hard to beat: try it first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field
from scipy.sparse import csr_array

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import FitOptions, Request, Scores, TopK
from tongtu.data.cooccurrence import rules, strongest
from tongtu.ranking import top_k
from tongtu.systems.baselines._histories import popularity_share, require_events
from tongtu.systems.baselines._links import ItemLinks

if TYPE_CHECKING:
    import polars as pl

    from tongtu.data.dataset import Dataset
    from tongtu.vocab import Vocab


class SequentialRules:
    """Rules between items, held as a sparse matrix [items.size, items.size]: row = item met, column = item that follows."""

    @configuration
    class Config:
        """Settings of sequential rules.

        Attributes:
            distance_decay: Weight of a pair for each step between its events.
            backward: Weight of a pair read against its order, against 1 along it.
            source_power, neighbour_power: How strongly frequent items are held down as what was met and as what follows.
            decay: Weight of an event of the history against the one after it.
            rules: Strongest rules kept for each item.
        """

        distance_decay: float = Field(0.8, gt=0, le=1)
        backward: float = Field(0.5, ge=0, le=1)
        source_power: float = Field(0.5, ge=0, le=1)
        neighbour_power: float = Field(0.3, ge=0, le=1)
        decay: float = Field(0.6, gt=0, le=1)
        rules: int = Field(1000, ge=1)

    items: Vocab
    item_text: pl.Series | None

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions | None = None) -> Self:
        """Count the rules."""
        options, config, started = options or FitOptions(), self.config, time.perf_counter()
        require_events(data)
        self.items, self.item_text = data.items, data.item_text
        found = rules(data, config.distance_decay, config.backward, config.source_power, config.neighbour_power)
        self._links = ItemLinks(csr_array(strongest(found, config.rules)), popularity_share(data.item_counts))
        self.provenance = {"seed": options.seed, "fit_seconds": time.perf_counter() - started, "parameters": int(self._links.weights.nnz)}
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Summed rules float32[n, width], positive where one reaches the item; below zero, by popularity, elsewhere."""
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
