"""HSTU: a generative recommender whose attention knows how much time has passed.

Paper: Zhai et al., "Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
Recommendations" (ICML 2024), which reports NDCG@10 .1720 (and .1893 with 8 blocks) on MovieLens-1M with 3,706 items.

How ours differs: dense attention over batches of nearly equal length instead of jagged CUDA kernels; early stopping on
validation, where the authors' code watches the test item; positions count from the newest event; and `time_anchor` says
openly whether the time of the request is used (the authors' choice, and an advantage over models that see no time) or not.
Without times in the data it works on positions alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import polars as pl
from pydantic import Field

from tongtu.config import configuration
from tongtu.core import FitOptions, Offsets, Request, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.nn.hstu import HSTUBodyConfig, HSTUNet
from tongtu.nn.losses import LossConfig, make_loss
from tongtu.nn.objectives import NextItem
from tongtu.ranking import top_k
from tongtu.systems.behaviour import sequence
from tongtu.train.batches import training_sequences
from tongtu.train.settings import Training
from tongtu.vocab import Vocab


@configuration
class HSTUConfig(HSTUBodyConfig):
    """Settings of HSTU: those of its body (`HSTUBodyConfig`), and how it learns.

    Attributes:
        windows: Learn each user's newest `max_length` events ("last") or the whole history in windows ("all").
        loss: Cosine logits at temperature .05 as in the paper; its loss is `kind = "sampled"`, 128 negatives each position.
        training: How to train.
    """

    windows: Literal["last", "all"] = "last"
    loss: LossConfig = Field(default_factory=lambda: LossConfig(temperature=0.05))
    training: Training = Field(default_factory=lambda: Training(betas=(0.9, 0.98)))


class HSTU:
    """HSTU; see the module's text."""

    Config: ClassVar[type[HSTUConfig]] = HSTUConfig
    items: Vocab
    item_text: pl.Series | None
    counts: Offsets
    net: HSTUNet

    def __init__(self, config: HSTUConfig | None = None) -> None:
        self.config = config or HSTUConfig()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Learn from every event of `data`; with `options.validate`, the best epoch's weights are kept."""
        config = self.config
        objective = NextItem(make_loss(config.loss, data.item_counts))
        sequences = training_sequences(data, config.max_length + 1, config.windows)
        return sequence.learn(self, data, options, lambda: HSTUNet(config, data.items.size), objective, sequences, config.training)

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Cosines over the temperature of the last state with the items; popularity without a known item."""
        return sequence.score(self, requests, items, self.config.max_length)

    def user_vectors(self, requests: Sequence[Request]) -> Scores:
        """The last states; see `Represents`."""
        return sequence.user_vectors(self, requests, self.config.max_length)

    def query_vectors(self, requests: Sequence[Request]) -> Scores:
        """See `Indexable`."""
        return sequence.query_vectors(self, requests, self.config.max_length)

    def item_vectors(self) -> Scores:
        """See `Indexable`."""
        return sequence.item_vectors(self)

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder."""
        sequence.save(self, path)

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        return sequence.reopen(cls, path, HSTUNet)
