"""Fine-tuning: the pretrained model as it is, fine-tuned whole, or with adapters or LoRA; what prompts must beat on the same base and events.

Papers: Houlsby et al. (ICML 2019) for adapters, Hu et al. (ICLR 2022) for LoRA.

How ours differs: bases, the events learned from and the training loop are those of PPR (`tongtu.systems.pretrained.ppr`), so that a comparison
is at an equal budget. None of these ways reads attributes: a user without history gets what is popular.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field
from torch import nn

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import FitOptions, Offsets, Request, RequestBatch, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.nn.adapters import AdaptedNet, Way
from tongtu.nn.answer import score_requests, with_popularity
from tongtu.nn.losses import make_loss
from tongtu.nn.objectives import NextItem
from tongtu.nn.profiles import Profiles
from tongtu.ranking import top_k
from tongtu.systems.behaviour import sequence
from tongtu.systems.pretrained._base import Base, BaseConfig, base_for, forget, found_again
from tongtu.systems.pretrained._tuning import first_events, load_added, own_net, save, tuned_facts
from tongtu.train.settings import Training
from tongtu.vocab import Vocab


@configuration
class FineTuningConfig(BaseConfig):
    """Settings of fine-tuning: those of its base (`BaseConfig`), what is tuned, and how.

    Attributes:
        way: What learns: "all" weights, an "adapter" after attention and feed-forward part of each layer, "lora" on the layers' linear
            maps, or "none".
        rank: Inner width of the adapters, or rank of LoRA.
        shots: Events of history up to which is learned.
        training: How to train.
    """

    way: Way = "all"
    rank: Annotated[int, Field(ge=1)] = 16
    shots: Annotated[int, Field(ge=1)] = 9
    training: Training = Field(default_factory=Training)


class FineTuning:
    """Fine-tuning; see the module's text."""

    Config: ClassVar[type[FineTuningConfig]] = FineTuningConfig
    items: Vocab
    item_text: pl.Series | None
    counts: Offsets
    base: Base
    net: AdaptedNet

    def __init__(self, config: FineTuningConfig | None = None) -> None:
        self.config = config or FineTuningConfig()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Learn from the beginnings of all users' histories; the base stays as it is, what is tuned is a copy."""
        started, config = time.monotonic(), self.config
        self.base = base_for(config, data, options)
        _, stop, length = first_events(data, 1 + min(config.shots, self.base.system.config.max_length), least=2)
        examples = Profiles(data.item, stop, length, data.time, profile=np.zeros((len(stop), 0), np.int64), base=self.base.fingerprint)
        if config.way == "none":
            self.items, self.item_text, self.counts, self.net = data.items, data.item_text, data.item_counts, self._network().eval()
            parameters = sum(p.numel() for p in self.net.parameters())
            self.provenance = {"seed": options.seed, "parameters": parameters, "epochs": 0, "curves": []}
        else:
            objective = NextItem(make_loss(self.base.system.config.loss, data.item_counts))
            sequence.learn(self, data, options, self._network, objective, examples, config.training)
        forget(options)
        self.provenance |= {"fit_seconds": time.monotonic() - started, **tuned_facts(self)}
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """As the base scores; popularity without a known item."""
        batch, config = RequestBatch.of(requests), self.base.system.config
        return with_popularity(score_requests(self.net, batch, items, config.max_length, temperature=config.loss.temperature), batch, self.counts, items)

    def user_vectors(self, requests: Sequence[Request]) -> Scores:
        """The last states, from which it scores; see `Represents`."""
        return sequence.user_vectors(self, requests, self.base.system.config.max_length)

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder; it is small and names its base where that lies in a folder and was not tuned itself."""
        save(self, path, self.config.way == "all", {}, {"counts": self.counts})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder.

        Raises:
            ModelError: If it is damaged, or its base is not found or another one.
        """
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.base = found_again(Path(path), folder.facts["base"])
        system.items, system.item_text, system.counts = folder.items, system.base.system.item_text, folder.arrays["counts"]
        system.provenance = dict(folder.facts["provenance"])
        system.net = AdaptedNet(_same_weights(system.base.system.net), system.config.way, system.config.rank)
        load_added(system.net, folder)
        return system

    def _network(self) -> AdaptedNet:
        return AdaptedNet(own_net(self.base), self.config.way, self.config.rank)


def _same_weights(net: Any) -> Any:
    """A copy of a network that shares its weights, but not what is hooked to its parts."""
    assert isinstance(net, nn.Module)
    net.eval()
    return copy.deepcopy(net, {id(tensor): tensor for tensor in itertools.chain(net.parameters(), net.buffers())})
