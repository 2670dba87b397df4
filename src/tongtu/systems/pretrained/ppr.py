"""PPR: one model pretrained on everybody, and prompts that a generator makes from what is known of a user.

Paper: Wu, Xie et al., "Personalized Prompts for Sequential Recommendation" (TKDE 2024; arXiv 2205.09666). Its authors published no code.

Prompt vectors stand before the history in every layer; a user without history is answered from them alone. "light" tunes only what makes the
prompts, so that many small folders share one pretrained model; "full" tunes everything.

How ours differs: any base that reads from left to right (SASRec, HSTU, UniSRec); the loss of the base instead of BPR; all events of a
history train at once, the first from the prompt alone; attributes are made unknown at random in training (`hide`), so that who tells less
is answered too; prompts are as long as the items they stand before (times the base's input scale); each of the two masked views is paired
with the unmasked one, after a number of events drawn at random.

    tongtu fit sasrec --data OWN --all-events --out base
    tongtu fit ppr --data OWN --all-events --set base=base --out prompts
    tongtu recommend prompts --attribute age=25 --attribute gender=F
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from pydantic import Field
from torch import Tensor

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import FitOptions, Offsets, Request, RequestBatch, Scores, TopK
from tongtu.data.attributes import AttributeReader
from tongtu.data.dataset import Dataset
from tongtu.nn.losses import make_loss
from tongtu.nn.profiles import FirstItems, Profiles, PromptContrast
from tongtu.nn.prompts import Known, PromptedNet, PromptGenerator, profile_states, score_profiles
from tongtu.ranking import top_k
from tongtu.systems.behaviour import sequence
from tongtu.systems.pretrained._base import Base, BaseConfig, base_for, forget, found_again
from tongtu.systems.pretrained._told import Teller, TellingConfig, without_text
from tongtu.systems.pretrained._tuning import first_events, load_added, own_net, save, tuned_facts
from tongtu.train.settings import Training
from tongtu.vocab import Vocab

_EVENTS_AT_ONCE = 1 << 20


@configuration
class PPRConfig(BaseConfig, TellingConfig):
    """Settings of PPR: those of its base (`BaseConfig`), what else is told of users (`TellingConfig`), its prompts, and how they learn.

    Attributes:
        mode: Only what makes the prompts learns ("light"), or everything ("full").
        attributes: User attributes to read; None takes all that most users have.
        buckets: Parts into which an attribute with many numbers is cut.
        prompts: Prompt vectors of each layer.
        inner: Width of the generator between its two linear layers.
        shots: Events of history up to which the prompts learn; 0 learns users without history only.
        hide: Chance that an attribute is unknown in training.
        contrast: Prompt-oriented contrastive learning.
        training: How to train the prompts.
    """

    mode: Literal["light", "full"] = "light"
    attributes: tuple[str, ...] | None = None
    buckets: Annotated[int, Field(ge=2)] = 10
    prompts: Annotated[int, Field(ge=1)] = 1
    inner: Annotated[int, Field(ge=1)] = 128
    shots: Annotated[int, Field(ge=0)] = 9
    hide: Annotated[float, Field(ge=0, lt=1)] = 0.1
    contrast: PromptContrast = Field(default_factory=PromptContrast)
    training: Training = Field(default_factory=Training)


class PPR:
    """PPR; see the module's text."""

    Config: ClassVar[type[PPRConfig]] = PPRConfig
    items: Vocab
    item_text: pl.Series | None
    counts: Offsets
    base: Base
    reader: AttributeReader
    teller: Teller
    net: PromptedNet

    def __init__(self, config: PPRConfig | None = None) -> None:
        self.config = config or PPRConfig()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Learn prompts from the beginnings of all users' histories; the base stays as it is, "full" tunes a copy."""
        started, config = time.monotonic(), self.config
        self.base = base_for(config, data, options)
        users, stop, length = first_events(data, 1 + min(config.shots, self.base.system.config.max_length), least=1)
        self.reader = AttributeReader.learn(without_text(data, config), config.attributes, config.buckets)
        self.teller = Teller.learn(config, data)
        profile, told = self.reader.of_users(data), self.teller.of_users(data)
        told = None if told is None else told[users]
        examples = Profiles(data.item, stop, length, data.time, profile=profile[users], told=told, base=self.base.fingerprint)
        loss = make_loss(self.base.system.config.loss, data.item_counts)
        objective = FirstItems(loss, config.contrast, config.hide, self._generator().known)
        sequence.learn(self, data, options, lambda: self._started(data, profile), objective, examples, config.training)
        forget(options)
        self.provenance |= {"fit_seconds": time.monotonic() - started, **tuned_facts(self)}
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """As the base scores, from the last state behind the prompts; without a known item, from that of the last prompt."""
        batch, config = RequestBatch.of(requests), self.base.system.config
        return score_profiles(self.net, batch, self._known(batch), items, config.max_length, config.loss.temperature)

    def user_vectors(self, requests: Sequence[Request]) -> Scores:
        """The states from which it scores; never zeros, since also a user of whom nothing is known has a prompt."""
        batch = RequestBatch.of(requests)
        vectors: Scores = profile_states(self.net, batch, self._known(batch), self.base.system.config.max_length).numpy()
        return vectors

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder; with mode "light" and a base that lies in a folder, it is small and names that one."""
        save(self, path, self.config.mode == "full", {"attributes": self.reader.facts(), "told": self.teller.facts()}, self.teller.arrays())

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder; those on the same base share one copy of it.

        Raises:
            ModelError: If it is damaged, or its base is not found or another one.
        """
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.base = found_again(Path(path), folder.facts["base"])
        system.reader = AttributeReader.restore(folder.facts["attributes"])
        system.teller = Teller.restore(system.config, folder.facts["told"], folder.arrays)
        system.items, system.item_text, system.counts = folder.items, system.base.system.item_text, system.base.system.counts
        system.provenance = dict(folder.facts["provenance"])
        system.net = PromptedNet(system.base.system.net, system._generator(), frozen=True)
        load_added(system.net, folder)
        return system

    def _known(self, requests: RequestBatch) -> Known:
        """What prompts are made from."""
        return self.reader.of_requests(requests), self.teller.of_requests(requests)

    def _generator(self) -> PromptGenerator:
        layers, config = self.base.system.net.layers, self.config
        return PromptGenerator(self.reader.sizes, _width(self.base), layers, config.prompts, config.inner, self.teller.width)

    def _started(self, data: Dataset, profile: npt.NDArray[np.int64]) -> PromptedNet:
        """The network as training finds it."""
        generator = self._generator()
        generator.start(mean_vectors(self.base.system.net.item_vectors(slice(None)).detach(), data, profile, self.reader.sizes))
        return PromptedNet(own_net(self.base), generator, self.config.mode == "light")


def mean_vectors(items_VD: Tensor, data: Dataset, profile: npt.NDArray[np.int64], sizes: Sequence[int]) -> list[Tensor]:
    """For each attribute, the mean item vector [size, D] of the events of users with each value; that of all events where there are none, and for unknown."""
    sums = [torch.zeros(size, items_VD.shape[1]) for size in sizes]
    counts = [torch.zeros(size) for size in sizes]
    codes = torch.from_numpy(profile)
    for first in range(0, data.n_events, _EVENTS_AT_ONCE):
        part = slice(first, first + _EVENTS_AT_ONCE)
        vectors = items_VD[torch.from_numpy(data.item[part].astype(np.int64))]
        user = torch.from_numpy(data.event_user[part].astype(np.int64)) - 1
        for column, (total, count) in enumerate(zip(sums, counts, strict=True)):
            total.index_add_(0, codes[user, column], vectors)
            count.index_add_(0, codes[user, column], torch.ones(len(user)))
    everybody = sums[0].sum(0) / counts[0].sum()
    means = []
    for total, count in zip(sums, counts, strict=True):
        none = count == 0
        none[0] = True
        means.append(torch.where(none[:, None], everybody, total / count.clamp_min(1)[:, None]))
    return means


def _width(base: Base) -> int:
    width: int = base.system.net.item_vectors(slice(0, 1)).shape[1]
    return width
