"""BERT4Rec: a bidirectional Transformer restores masked items; the next item is a [MASK] behind the history.

Papers: Sun et al., "BERT4Rec" (CIKM 2019); Petrov & Macdonald, "A Systematic Review and Replicability Study of BERT4Rec"
(RecSys 2022), whose converged model reaches NDCG@10 .1516 on MovieLens-1M over the full catalogue, and Klenitskiy & Vasilev
(RecSys 2023), .1537.

How ours differs: positions count from the newest event; masks are drawn anew each epoch instead of ten fixed copies; the
samples with only the last item masked, which the original adds to its data, are a share `last_only` of every batch; training
stops on validation instead of after 400,000 steps, at which the original is far from converged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import polars as pl
import torch
from pydantic import Field

from tongtu.config import configuration
from tongtu.core import FitOptions, Offsets, Request, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.nn.batch import Batch
from tongtu.nn.losses import LossConfig, make_loss
from tongtu.nn.objectives import Cloze
from tongtu.nn.sequence import BodyConfig, ItemSequenceNet
from tongtu.nn.transformer import BlockKind
from tongtu.ranking import top_k
from tongtu.systems.behaviour import sequence
from tongtu.train.batches import training_sequences
from tongtu.train.settings import Training
from tongtu.vocab import Vocab


@configuration
class BERT4RecConfig(BodyConfig):
    """Settings of BERT4Rec: those of its body (`BodyConfig`), its masking, and how it learns.

    Attributes:
        mask: Probability of masking an item (the paper: .2 on MovieLens-1M, .6 on Beauty).
        last_only: Share of the sequences in which only the last item is masked.
        windows: Learn each user's newest `max_length` events ("last") or the whole history in windows ("all").
        loss: Of the masked positions.
        training: How to train; a cloze model needs several times the epochs of SASRec.
    """

    heads: Annotated[int, Field(ge=1)] = 2
    block: BlockKind = "bert"
    mask: Annotated[float, Field(gt=0, lt=1)] = 0.2
    last_only: Annotated[float, Field(ge=0, le=1)] = 0.1
    windows: Literal["last", "all"] = "last"
    loss: LossConfig = Field(default_factory=LossConfig)
    training: Training = Field(default_factory=lambda: Training(epochs=200, patience=20))


class BERT4Rec:
    """BERT4Rec; see the module's text."""

    Config: ClassVar[type[BERT4RecConfig]] = BERT4RecConfig
    items: Vocab
    item_text: pl.Series | None
    counts: Offsets
    net: ItemSequenceNet

    def __init__(self, config: BERT4RecConfig | None = None) -> None:
        self.config = config or BERT4RecConfig()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Learn from every event of `data`; with `options.validate`, the best epoch's weights are kept."""
        config, size = self.config, data.items.size
        objective = Cloze(make_loss(config.loss, data.item_counts), mask=size, probability=config.mask, last_only=config.last_only)
        sequences = training_sequences(data, config.max_length, config.windows)
        return sequence.learn(self, data, options, lambda: _network(config, size), objective, sequences, config.training)

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Logits of a [MASK] behind the history; popularity without a known item."""
        return sequence.score(self, requests, items, self._room, lambda history: _append(history, self.items.size))

    def user_vectors(self, requests: Sequence[Request]) -> Scores:
        """The states of a [MASK] behind the history; see `Represents`."""
        return sequence.user_vectors(self, requests, self._room, lambda history: _append(history, self.items.size))

    def query_vectors(self, requests: Sequence[Request]) -> Scores:
        """See `Indexable`."""
        return sequence.query_vectors(self, requests, self._room, lambda history: _append(history, self.items.size))

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
        return sequence.reopen(cls, path, _network)

    @property
    def _room(self) -> int:
        return self.config.max_length - 1  # the [MASK] takes one place


def _network(config: BERT4RecConfig, size: int) -> ItemSequenceNet:
    return ItemSequenceNet(config, size, causal=False, extra=1, head=True)


def _append(history: Batch, mask: int) -> Batch:
    """The histories with [MASK] behind them."""
    item = torch.cat([history.item, history.item.new_zeros(len(history.item), 1)], 1)
    return dataclasses.replace(history, item=item.scatter(1, history.length[:, None], mask), length=history.length + 1, time=None, next_time=None)
