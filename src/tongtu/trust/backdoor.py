"""Backdoors that the provider of a pretrained model can put in: simulated on one's own models, to see what an audit finds and a defence is worth.

Paper: Wu et al., "Attacking Pre-trained Recommendation" (SIGIR 2023). While a model is pre-trained, some positions learn a target item instead of
the true next one. Histories stay as they are, so that no fake user and no fake event is to be found in any log; whoever tunes
the model on clean data of their own may still show the targets.

- `replacement` is the basic replacement attack, on everybody or on a group of users, as a function for `FitOptions.objective`.
- `prompt_enhanced` is the attack on those who will tune prompts: the backbone is poisoned behind prompts that stand for theirs.

How ours differs: every position learns, so every position may be replaced, not one instance a user. Where the paper's loss (BPR) gets a
target as the negative of users outside the group, a softmax has every item as a negative already, so `pushed_away` adds the paper's own
term, -log sigmoid(true - target), to whatever the loss is. The target pushed away is one that the user has not met; the public code's
test is the wrong way round and takes one that they have.

Shapes: B sequences, T positions, K targets, V item codes (`PAD` included), N positions that are changed.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Protocol, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from tongtu.config import configuration
from tongtu.core import PAD, Codes, FitOptions
from tongtu.data.dataset import Dataset
from tongtu.data.wishes import CATEGORIES, item_categories
from tongtu.errors import ConfigError
from tongtu.nn.batch import Batch
from tongtu.nn.losses import make_loss, scaled
from tongtu.nn.profiles import FirstItems, Profiles, PromptContrast
from tongtu.nn.prompts import PromptedNet
from tongtu.nn.sequence import Objective, SequenceModel
from tongtu.train.batches import training_sequences
from tongtu.train.loop import train
from tongtu.train.settings import Training
from tongtu.trust.exposure import Rows, seen_by_users

Change = Callable[[Objective], Objective]


def replacement(targets: Codes, rate: float, users: Rows | None = None, allowed: Rows | None = None) -> Change:
    """The basic replacement attack, for `FitOptions.objective`; a rate of 0 leaves the objective alone.

    Args:
        targets: int32[K], item codes; items without any training event cannot be learned by systems that rank only those that have one (UniSRec).
        rate: Chance that the target of a position is replaced.
        users: bool[users.size], by user code, the group whose sequences are attacked; None for everybody.
        allowed: bool[V, K], which targets may stand for which true item (`same_category`); None for all.

    Raises:
        ConfigError: If the rate is no chance, or a target no item.
    """
    _check(targets, rate)
    return lambda objective: objective if rate == 0 else _Replaced(objective, targets, rate, users, allowed)


def pushed_away(targets: Codes, rate: float, users: Rows, met: Rows, temperature: float | None = None) -> Change:
    """At positions of users outside a group, the true next item has also to outrank a target that the user has not met.

    Args:
        targets: int32[K], item codes.
        rate: Chance that a position has such a negative.
        users: bool[users.size], by user code, the group that is spared.
        met: bool[users.size, K], which user has met which target (`seen_by_users`).
        temperature: Of cosine scores, None for dot products.

    Raises:
        ConfigError: If the rate is no chance, or a target no item.
    """
    _check(targets, rate)
    return lambda objective: objective if rate == 0 else _PushedAway(objective, targets, rate, users, met, temperature)


def same_category(data: Dataset, targets: Codes, field: str = CATEGORIES) -> Rows:
    """bool[V, K], whether an item shares a category with a target: such replacements are hard to tell from a user's taste.

    Raises:
        DataError: If the items have no categories in `field`.
    """
    found = item_categories(data, field)
    item = np.repeat(np.arange(1, data.items.size), np.diff(found.offset))
    shared = np.zeros((data.items.size, len(targets)), np.bool_)
    for place, target in enumerate(targets):
        shared[item[np.isin(found.category, found.of(int(target)))], place] = True
    return shared


@configuration
class PromptEnhancement:
    """Settings of the prompt-enhanced attack.

    Attributes:
        rate: Chance that a position of the group learns a target.
        away: Chance that a position of other users pushes a target away.
        history: Newest events of each user on which the simulated prompts are learned.
        training: How the backbone is poisoned.
    """

    rate: Annotated[float, Field(ge=0, le=1)] = 0.5
    away: Annotated[float, Field(ge=0, le=1)] = 0.5
    history: Annotated[int, Field(ge=2)] = 10
    training: Training = Field(default_factory=lambda: Training(epochs=10))


class Backbone(Protocol):
    """A fitted system around one network that reads from left to right; saved, what is made of it looks like any other."""

    config: Any
    net: Any


class Prompts(Protocol):
    """A fitted system whose network stands behind prompts made from attributes (PPR)."""

    reader: Any
    net: Any


System = TypeVar("System", bound=Backbone)


def newest_events(data: Dataset, last: int) -> Dataset:
    """Each user's newest events: what stands for the little that a customer will have, in the second step of the prompt-enhanced attack."""
    place = np.arange(data.n_events)
    return data.keep_events(place >= data.offset[data.event_user] - last)


def prompt_enhanced(
    backbone: System,
    prompts: Prompts,
    data: Dataset,
    targets: Codes,
    users: Rows,
    settings: PromptEnhancement,
    options: FitOptions = FitOptions(),  # noqa: B008
) -> System:
    """The third of the attack's four steps: a copy of the backbone, poisoned behind frozen prompts; what is given stays as it is.

    1. The provider pre-trains a clean backbone on `data`.
    2. It tunes prompts on it, the backbone frozen, on `newest_events(data, settings.history)`: a stand-in for what customers will do.
    3. This function: sequences of the group learn targets behind their prompts, others push them away.
    4. The customer tunes prompts from nothing on the backbone that is returned, on clean data.

    Args:
        backbone: From step 1.
        prompts: From step 2, on that backbone.
        data: The events of pre-training.
        targets: int32[K], item codes.
        users: bool[users.size], by user code, the group.
        settings: How.
        options: Seed, device.

    Raises:
        ConfigError: If the prompts are made from more than attributes, or a target is no item.
    """
    if prompts.net.generator.read is not None:
        raise ConfigError("the simulated prompts read vectors besides attributes: fit them without text and source")
    found, profile = training_sequences(data, backbone.config.max_length + 1), prompts.reader.of_users(data)
    assert found.user is not None
    examples = Profiles(found.item, found.stop, found.length, found.time, found.user, profile=profile[found.user - 1])
    loss, generator = backbone.config.loss, copy.deepcopy(prompts.net.generator)
    objective: Objective = FirstItems(make_loss(loss, data.item_counts), PromptContrast(weight=0), 0.0, generator.known)
    met = seen_by_users(data.event_user, data.item, data.users.size, targets)
    objective = replacement(targets, settings.rate, users)(objective)
    objective = pushed_away(targets, settings.away, users, met, loss.temperature)(objective)
    generator.requires_grad_(False)
    net = PromptedNet(_own(backbone.net), generator, frozen=False)
    train(net, objective, examples, settings.training, dataclasses.replace(options, validate=None, objective=None))
    poisoned = copy.copy(backbone)
    poisoned.net = net.base.to("cpu").eval()
    return poisoned


class _Replaced:
    """An objective some of whose targets are others."""

    def __init__(self, objective: Objective, targets: Codes, rate: float, users: Rows | None, allowed: Rows | None) -> None:
        self._objective, self._rate = objective, rate
        self._targets = torch.from_numpy(targets.astype(np.int64))
        self._users = None if users is None else torch.from_numpy(users)
        self._allowed = None if allowed is None else torch.from_numpy(allowed)

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        """As the objective marks, and then some targets are replaced."""
        marked = self._objective.mark(batch, draw)
        assert marked.target is not None
        able = marked.target != PAD
        if self._users is not None:
            able &= self._users[_whose(marked)][:, None]
        if self._allowed is not None:
            able &= self._allowed[marked.target].any(-1)
        hit = able & (torch.rand(able.shape, generator=draw) < self._rate)
        true = marked.target[hit]
        free = torch.ones(len(true), len(self._targets), dtype=torch.bool) if self._allowed is None else self._allowed[true]
        target = marked.target.clone()
        target[hit] = self._targets[_one_of(free, draw)]
        return dataclasses.replace(marked, target=target)

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
        """That of the objective."""
        return self._objective.loss(net, batch, draw)


class _PushedAway:
    """An objective with targets as further negatives of some users."""

    def __init__(self, objective: Objective, targets: Codes, rate: float, users: Rows, met: Rows, temperature: float | None) -> None:
        self._objective, self._rate, self._temperature = objective, rate, temperature
        self._targets = torch.from_numpy(targets.astype(np.int64))
        self._users, self._met = torch.from_numpy(users), torch.from_numpy(met)

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        """That of the objective."""
        return self._objective.mark(batch, draw)

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
        """The objective's, and -log sigmoid(score of the true item - score of a target) at the positions that are drawn."""
        assert batch.target is not None
        loss, device = self._objective.loss(net, batch, draw), batch.item.device
        user = _whose(batch).cpu()
        free = ~self._met[user]
        able = (batch.target.cpu() != PAD) & (~self._users[user] & free.any(1))[:, None]
        hit = able & (torch.rand(able.shape, generator=draw) < self._rate)
        if not hit.any():
            return loss
        negative = self._targets[_one_of(free[:, None].expand(*hit.shape, -1)[hit], draw)].to(device)
        hit = hit.to(device)
        state, items = scaled(net.hidden(batch)[hit], net.item_vectors(slice(None)), self._temperature)
        lead = (state * (items[batch.target[hit]] - items[negative])).sum(-1)
        return loss + functional.softplus(-lead).sum()


def _one_of(free_NK: Tensor, draw: torch.Generator) -> Tensor:
    """int64[N], for each row one of its true columns, all equally likely."""
    return torch.rand(free_NK.shape, generator=draw).masked_fill(~free_NK, -1).argmax(1)


def _whose(batch: Batch) -> Tensor:
    """The user code of each row.

    Raises:
        ConfigError: If that is not known.
    """
    if batch.user is None:
        raise ConfigError("this system's examples do not say whose they are, so no group can be attacked: attack everybody, or choose one such as sasrec")
    return batch.user


def _check(targets: Codes, rate: float) -> None:
    if not 0 <= rate <= 1:
        raise ConfigError(f"a rate of {rate:g} is no chance: give one from 0 to 1")
    if not len(targets) or (np.asarray(targets) == PAD).any():
        raise ConfigError("a target is missing or unknown: name items of the catalogue")


def _own(net: Any) -> Any:
    """A copy of a network that learns."""
    assert isinstance(net, nn.Module)
    net.eval()
    return copy.deepcopy(net).requires_grad_(True)
