"""PFRec: one model pretrained on everybody, and bias eliminators for the attributes a user may want left out.

Paper: Wu, Xie et al., "Selective Fairness in Recommendation via Prompts" (SIGIR 2022); its authors' code is wyqing20/PFRec.

The pretrained model stays as it is. A request that wants attributes left out (`Request.forget`) is answered from a user vector that an eliminator has
changed: prompt vectors before the history in every layer, some of them of what the user tells of these attributes, and two adapters a
layer. Discriminators try to infer the attributes from the vectors in training, and the eliminators learn that they fail. Requests
that forget nothing get the pretrained model's own answer.

How ours differs: any base that reads from left to right, and its own loss; all eliminators and discriminators learn side by side in one
run; the vectors are looked at after a quarter, a half, three quarters and all of histories that end at random places; the prompts of
attributes' values learn (the authors' code leaves them as they were drawn); what the discriminators of several classes know is bounded
for those of two as well. Behind the eliminator, what is left is taken out in closed form (`tongtu.nn.erasing`), since on some hundred users
discriminators alone find too little: what vectors of a told value have in common, or the strongest direction of an attribute that is not told.
`mode = "compositional"` has one eliminator an attribute, and several add up: n of them instead of 2^n - 1 (what is counted and not learned is
still kept for each combination). No validation chooses the epoch: NDCG would choose the one that has forgotten least. The baselines
`way = "filter"` and "full" are those of the paper where `adversary.directions = 0`.

    tongtu fit sasrec --data OWN --all-events --out base
    tongtu fit pfrec --data OWN --all-events --set base=base --set 'attributes=["gender", "age"]' --out fair
    tongtu recommend fair --history ID,ID --attribute gender=F --forget gender
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import FitOptions, Offsets, Request, RequestBatch, Scores, TopK
from tongtu.data.attributes import AttributeCodes, AttributeReader
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError
from tongtu.nn.adversary import Adversary, AdversaryConfig, Forgetting
from tongtu.nn.answer import with_popularity
from tongtu.nn.eliminators import Copy, FilterEliminators, Mode, PromptEliminators
from tongtu.nn.erasing import Eraser
from tongtu.nn.forgetful import ForgetfulNet, Kind, forgetful_states
from tongtu.nn.losses import make_loss, scaled
from tongtu.ranking import top_k
from tongtu.systems.behaviour import sequence
from tongtu.systems.pretrained._base import Base, BaseConfig, base_for, forget, found_again
from tongtu.systems.pretrained._forgetting import Secrets, wanted
from tongtu.systems.pretrained._tuning import load_added, own_net, save, tuned_facts
from tongtu.train.batches import token_batches
from tongtu.train.settings import Training
from tongtu.vocab import Vocab

_SETTLING = 4  # times that each history is seen, up to other places, before the map gets its last form
_MOST = 6  # attributes; so many have 63 combinations, each with discriminators of its own


@configuration
class PFRecConfig(BaseConfig):
    """Settings of PFRec: those of its base (`BaseConfig`), what may be forgotten, and how that is learned.

    Attributes:
        attributes: User attributes that may be left out; None takes all that most users have.
        buckets: Parts into which an attribute with many numbers is cut.
        way: "prompts" and adapters as in the paper, a "filter" on the user vector, or a "full" copy of the base, tuned to forget all
            `attributes` at once.
        mode: An eliminator for each of the "combinations" of attributes, or for each attribute, which add up ("compositional").
        prompts: Task prompts of each layer.
        inner: Width within adapters and filters.
        hide: Chance that an attribute is not told in training.
        adversary: Who tries to infer the attributes in training.
        training: How to train; the last epoch is kept.
    """

    attributes: tuple[str, ...] | None = None
    buckets: Annotated[int, Field(ge=2)] = 10
    way: Literal["prompts", "filter", "full"] = "prompts"
    mode: Mode = "combinations"
    prompts: Annotated[int, Field(ge=1)] = 10
    inner: Annotated[int, Field(ge=1)] = 16
    hide: Annotated[float, Field(ge=0, lt=1)] = 0.1
    adversary: AdversaryConfig = Field(default_factory=AdversaryConfig)
    training: Training = Field(default_factory=lambda: Training(epochs=5, average=0.95))


class PFRec:
    """PFRec; see the module's text."""

    Config: ClassVar[type[PFRecConfig]] = PFRecConfig
    items: Vocab
    item_text: pl.Series | None
    counts: Offsets
    base: Base
    reader: AttributeReader
    net: ForgetfulNet

    def __init__(self, config: PFRecConfig | None = None) -> None:
        self.config = config or PFRecConfig()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Learn to forget from all users' histories; the last epoch is kept, since NDCG alone would choose the one that has forgotten least."""
        started, config = time.monotonic(), self.config
        self.base = base_for(config, data, options)
        self.reader = AttributeReader.learn(data, config.attributes, config.buckets)
        if len(self.reader.fields) > _MOST:
            names = ", ".join(field.name for field in self.reader.fields)
            raise ConfigError(f"{len(self.reader.fields)} attributes ({names}) have too many combinations: name at most {_MOST} as attributes")
        if self.reader.fields:
            codes = self.reader.of_users(data)
            secrets = Secrets(data, self.base.system.config.max_length + 1, codes, config.way == "full", config.mode, self.base.fingerprint)
            objective = Forgetting(make_loss(self.base.system.config.loss, data.item_counts), config.adversary, config.hide)
            without = dataclasses.replace(options, validate=None)
            sequence.learn(self, data, without, lambda: self._started(codes), objective, secrets, config.training)
            self._settle(secrets, options)
        else:
            self.items, self.item_text, self.counts, self.net = data.items, data.item_text, data.item_counts, self._network(self.base.system.net).eval()
            self.provenance = {"seed": options.seed, "epochs": 0, "curves": []}
        forget(options)
        self.provenance |= {"parameters": sum(p.numel() for p in self.net.parameters()), "fit_seconds": time.monotonic() - started, **tuned_facts(self)}
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """The base's scores for requests that forget nothing; else as the base scores, from the vectors that have forgotten.

        Raises:
            ConfigError: If a request forgets what no eliminator was trained for.
        """
        batch, base = RequestBatch.of(requests), self.base.system
        asked = wanted(batch, self.reader)
        some = np.flatnonzero(asked.any(1))
        if not len(some):
            return base.score(batch, items)
        scores = np.zeros((len(batch), base.items.size), np.float32)[:, items]
        rest = np.flatnonzero(~asked.any(1))
        if len(rest):
            scores[rest] = base.score(batch.take(rest), items)
        part = batch.take(some)
        with torch.inference_mode():
            vectors = self.net.item_vectors(items).float().cpu()
            left, right = scaled(self._vectors(part, asked[some]), vectors, base.config.loss.temperature)
            scores[some] = with_popularity((left @ right.T).numpy(), part, self.counts, items)
        return scores

    def user_vectors(self, requests: Sequence[Request]) -> Scores:
        """float32[n, width], the vectors from which `score` scores: what a request wants forgotten, its vector has forgotten."""
        batch = RequestBatch.of(requests)
        asked = wanted(batch, self.reader)
        some = asked.any(1)
        vectors = sequence.user_vectors(self.base.system, batch, self.base.system.config.max_length)
        if some.any():
            vectors[some] = self._vectors(batch.take(np.flatnonzero(some)), asked[some]).numpy()
        return vectors

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder; it is small and names its base where that lies in a folder and was not tuned itself."""
        save(self, path, False, {"attributes": self.reader.facts()}, {"counts": self.counts})

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
        system.items, system.item_text, system.counts = folder.items, system.base.system.item_text, folder.arrays["counts"]
        system.provenance = dict(folder.facts["provenance"])
        system.net = system._network(system.base.system.net)
        load_added(system.net, folder)
        return system

    def _vectors(self, requests: RequestBatch, asked: npt.NDArray[np.bool_]) -> torch.Tensor:
        """float32[n, D] of requests that want something forgotten; what is told of it helps to forget it."""
        told = self.reader.of_requests(dataclasses.replace(requests, forget=None))
        asked = np.ones_like(asked) if self.config.way == "full" else asked
        return forgetful_states(self.net, requests, told, asked, self.base.system.config.max_length)

    def _network(self, base: Any, adversary: Adversary | None = None, counts: Sequence[torch.Tensor] | None = None) -> ForgetfulNet:
        config, sizes, width = self.config, self.reader.sizes, base.item_vectors(slice(0, 1)).shape[1]
        made: Kind
        if config.way == "prompts":
            made = PromptEliminators(sizes, config.mode, base, config.prompts, config.inner)
        elif config.way == "filter":
            made = FilterEliminators(len(sizes), config.mode, width, config.inner)
        else:
            made = Copy(base)
        counts = [torch.zeros(size - 1) for size in sizes] if counts is None else counts
        eraser = Eraser(counts, width, config.adversary.directions) if config.adversary.directions and self.reader.fields else None
        return ForgetfulNet(base, made, eraser, adversary, config.adversary.rate)

    def _started(self, codes: AttributeCodes) -> ForgetfulNet:
        """The network as training finds it."""
        base, config = own_net(self.base), self.config.adversary
        counts = [torch.bincount(torch.from_numpy(column), minlength=size)[1:] for column, size in zip(codes.T, self.reader.sizes, strict=True)]
        shares = [count / count.sum().clamp_min(1) for count in counts]
        return self._network(base, Adversary(shares, base.item_vectors(slice(0, 1)).shape[1], config.inner), counts)

    def _settle(self, secrets: Secrets, options: FitOptions) -> None:
        """The adversary has done its part; the map gets its last form from all users once more."""
        self.net.adversary, training = None, self.config.training
        epochs = range(training.epochs, training.epochs + _SETTLING)
        drawn = ((secrets.epoch(options.seed, number), number) for number in epochs)
        self.net.settle(
            examples.batch(rows) for examples, number in drawn for rows in token_batches(examples.length, training.tokens, options.seed, number)
        )
