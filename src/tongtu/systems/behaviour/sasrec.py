"""SASRec: a causal Transformer reads the history and predicts the next item at every position.

Papers: Kang & McAuley, "Self-Attentive Sequential Recommendation" (ICDM 2018); Klenitskiy & Vasilev, "Turning Dross Into Gold
Loss" (RecSys 2023) for the softmax losses; Petrov & Macdonald, "gSASRec" (RecSys 2023) for gBCE; Tikhonovich et al.,
"eSASRec" (RecSys 2025) for the gated blocks.

How ours differs: positions count from the newest event (the original counts from the left of a left-padded window, which is
the same thing); all positions of a sequence train at once in batches of equal length; the default block is the usual pre-norm
one and the default loss the full softmax, since the original block and binary cross-entropy measure worse on every data set
here. `block = "sasrec"`, `inner = 1`, `loss.kind = "bce"`, `loss.negatives = 1` is the paper's model; `block = "ligr"` with
`loss.kind = "sampled"` is eSASRec.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import polars as pl
import torch
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import FitOptions, Offsets, Request, RequestBatch, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.nn.answer import arrays_of, load_arrays, score_requests, with_popularity
from tongtu.nn.losses import LossConfig, make_loss
from tongtu.nn.objectives import NextItem
from tongtu.nn.sequence import BodyConfig, ItemSequenceNet
from tongtu.ranking import top_k
from tongtu.train.batches import training_sequences
from tongtu.train.loop import train
from tongtu.train.settings import Training
from tongtu.vocab import Vocab


@configuration
class SASRecConfig(BodyConfig):
    """Settings of SASRec: those of its body (`BodyConfig`), how it learns, and from what.

    Attributes:
        windows: Learn each user's newest `max_length` events ("last") or the whole history in windows ("all").
        loss: Which loss.
        training: How to train.
    """

    windows: Literal["last", "all"] = "last"
    loss: LossConfig = Field(default_factory=LossConfig)
    training: Training = Field(default_factory=Training)


class SASRec:
    """SASRec with a choice of losses and blocks; see the module's text."""

    Config: ClassVar[type[SASRecConfig]] = SASRecConfig
    items: Vocab
    item_text: pl.Series
    counts: Offsets
    net: ItemSequenceNet

    def __init__(self, config: SASRecConfig | None = None) -> None:
        self.config = config or SASRecConfig()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Learn from every event of `data`; with `options.validate`, the best epoch's weights are kept."""
        started, config = time.monotonic(), self.config
        self.items, self.item_text, self.counts = data.items, data.item_text, data.item_counts
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.net = ItemSequenceNet(config, data.items.size)
        objective = NextItem(make_loss(config.loss, data.item_counts))
        sequences = training_sequences(data, config.max_length + 1, config.windows)
        validate = options.validate
        done = train(self.net, objective, sequences, config.training, options, None if validate is None else lambda: validate(self))
        self.provenance = {
            "seed": options.seed,
            "fit_seconds": time.monotonic() - started,
            "parameters": sum(p.numel() for p in self.net.parameters()),
            "epochs": done.epochs,
            "curves": done.curves,
        }
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Dot products (or cosines over the temperature) of the last state with the items; popularity without a known item."""
        batch = RequestBatch.of(requests)
        scores = score_requests(self.net, batch, items, self.config.max_length, temperature=self.config.loss.temperature)
        return with_popularity(scores, batch, self.counts, items)

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder."""
        hub.save(path, self, {**arrays_of(self.net), "counts": self.counts})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        model = cls(hub.restore_config(folder, SASRecConfig))
        model.items, model.counts = folder.items, folder.arrays["counts"]
        model.provenance = dict(folder.facts["provenance"])
        model.net = ItemSequenceNet(model.config, model.items.size)
        load_arrays(model.net, folder.arrays, path)
        return model
