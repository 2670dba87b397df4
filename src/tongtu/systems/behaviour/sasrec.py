"""SASRec: a causal Transformer reads the history and predicts the next item at every position.

Papers: Kang & McAuley, "Self-Attentive Sequential Recommendation" (ICDM 2018); Klenitskiy & Vasilev, "Turning Dross Into Gold
Loss" (RecSys 2023) for the softmax losses; Petrov & Macdonald, "gSASRec" (RecSys 2023) for gBCE; Tikhonovich et al.,
"eSASRec" (RecSys 2025) for the gated blocks.

How ours differs: positions count from the newest event (the original counts from the left of a left-padded window, which is
the same thing); all positions of a sequence train at once in batches of equal length; and the default loss is the full
softmax. `loss.kind = "bce"`, `loss.negatives = 1`, `loss.share = "position"` is the paper's model; `block = "ligr"`, `inner = 4`
with `loss.kind = "sampled"` is eSASRec. Figures on Beauty, Sports and MovieLens-1M: benchmarks/results/quality_*.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import polars as pl
import torch
from pydantic import Field

from tongtu.config import configuration
from tongtu.core import FitOptions, Offsets, Request, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.nn.losses import LossConfig, make_loss
from tongtu.nn.neighbours import NeighbourConfig, Neighbours, cooccurrence_vectors
from tongtu.nn.objectives import NextItem
from tongtu.nn.sequence import BodyConfig, ItemSequenceNet
from tongtu.nn.transformer import BlockKind
from tongtu.ranking import top_k
from tongtu.systems.behaviour import sequence
from tongtu.train.batches import training_sequences
from tongtu.train.settings import Training
from tongtu.vocab import Vocab

_START_STD = 0.1  # of vectors that start from co-occurrence; .02 of noise leaves no such memory


@configuration
class SASRecConfig(BodyConfig):
    """Settings of SASRec: those of its body (`BodyConfig`), how it learns, and from what.

    Attributes:
        windows: Learn each user's newest `max_length` events ("last") or the whole history in windows ("all").
        loss: Which loss.
        start: Item vectors start as "noise", or from the training data's "cooccurrence", which shortens and steadies training.
        neighbours: Part of the targets goes to co-occurrence neighbours (our addition; off by default; full softmax only).
        training: How to train.
    """

    inner: Annotated[float, Field(gt=0)] = 1
    block: BlockKind = "sasrec"
    windows: Literal["last", "all"] = "last"
    loss: LossConfig = Field(default_factory=LossConfig)
    start: Literal["noise", "cooccurrence"] = "noise"
    neighbours: NeighbourConfig = Field(default_factory=NeighbourConfig)
    training: Training = Field(default_factory=Training)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.neighbours.share and self.loss.kind != "softmax":
            raise ValueError("neighbours.share needs loss.kind = 'softmax'")


class SASRec:
    """SASRec with a choice of losses and blocks; see the module's text."""

    Config: ClassVar[type[SASRecConfig]] = SASRecConfig
    items: Vocab
    item_text: pl.Series | None
    counts: Offsets
    net: ItemSequenceNet

    def __init__(self, config: SASRecConfig | None = None) -> None:
        self.config = config or SASRecConfig()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Learn from every event of `data`; with `options.validate`, the best epoch's weights are kept."""
        config = self.config
        neighbours = Neighbours(data, config.neighbours) if config.neighbours.share else None
        objective = NextItem(make_loss(config.loss, data.item_counts), neighbours)
        sequences = training_sequences(data, config.max_length + 1, config.windows)
        return sequence.learn(self, data, options, lambda: _network(config, data, options.seed), objective, sequences, config.training)

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Dot products (or cosines over the temperature) of the last state with the items; popularity without a known item."""
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
        return sequence.reopen(cls, path, ItemSequenceNet)


def _network(config: SASRecConfig, data: Dataset, seed: int) -> ItemSequenceNet:
    net = ItemSequenceNet(config, data.items.size)
    if config.start == "cooccurrence":
        with torch.no_grad():
            net.item.weight.copy_(cooccurrence_vectors(data, config.width, _START_STD, seed))
    return net
