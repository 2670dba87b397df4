"""Histories with what is known of their users, and what prompts learn from them.

Shapes: B users, F attributes, W numbers of a vector that tells of a user (of a text, or from another model), T positions, D width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from tongtu.config import configuration
from tongtu.core import PAD
from tongtu.nn.batch import Batch, Sequences
from tongtu.nn.contrastive import info_nce
from tongtu.nn.losses import CatalogueLoss
from tongtu.nn.sequence import SequenceModel


@dataclass(frozen=True)
class ProfileBatch(Batch):
    """Item sequences and their users.

    Attributes:
        profile: int64[B, F], codes of the users' attributes, 0 for unknown.
        told: float32[B, W], zeros for unknown; None where nothing is told in vectors.
    """

    profile: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    told: Tensor | None = None


@dataclass(frozen=True)
class Profiles(Sequences):
    """Sequences, attribute codes int64[n, F] and vectors float32[n, W] of each one's user, and the fingerprint of the model that learns from them."""

    profile: npt.NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.int64))
    told: npt.NDArray[np.float32] | None = None
    base: str = ""

    def batch(self, rows: npt.NDArray[np.int64]) -> ProfileBatch:
        """See `Examples`."""
        found = super().batch(rows)
        told = None if self.told is None else torch.from_numpy(self.told[rows])
        return ProfileBatch(found.item, found.length, time=found.time, user=found.user, profile=torch.from_numpy(self.profile[rows]), told=told)

    def columns(self) -> Iterator[npt.NDArray[Any]]:
        """See `Examples`; a resumed run must find the same base."""
        yield from super().columns()
        yield from (self.profile, np.frombuffer(self.base.encode(), np.uint8))
        if self.told is not None:
            yield self.told


@configuration
class PromptContrast:
    """Settings of prompt-oriented contrastive learning.

    Attributes:
        weight: Beside the loss of the next item; 0 leaves it out.
        temperature: Cosines are divided by this.
        profile_mask: Share of the numbers of the attributes' vectors that a masked profile lacks.
        history_mask: Share of the items that a masked history lacks; what is left keeps its place.
    """

    weight: Annotated[float, Field(ge=0)] = 0.4
    temperature: Annotated[float, Field(gt=0)] = 1.0
    profile_mask: Annotated[float, Field(ge=0, lt=1)] = 0.2
    history_mask: Annotated[float, Field(ge=0, lt=1)] = 0.2


class PromptedModel(SequenceModel, Protocol):
    """What the objective sees of a network with prompts."""

    def states(self, batch: Batch, keep_BE: Tensor | None) -> Tensor: ...


class FirstItems:
    """Every event is predicted from those before it and the prompt, also the first, which has the prompt alone.

    Args:
        loss: Of each event.
        contrast: A user's vector is told from other users' by one with a masked profile, and one with a masked history.
        hide: Chance that an attribute, or a vector, is unknown, so that unknown ones are ordinary.
        width: The numbers of a profile (`PromptGenerator.known`).
    """

    def __init__(self, loss: CatalogueLoss, contrast: PromptContrast, hide: float, width: int) -> None:
        self._loss, self._contrast, self._hide, self._width = loss, contrast, hide, width

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        """Inputs are all events but the last, and may be none; target t is event t; some attributes become unknown."""
        assert isinstance(batch, ProfileBatch)
        width = max(batch.item.shape[1] - 1, 1)
        length = batch.length - 1
        item = batch.item[:, :width] * (torch.arange(width) < length[:, None])
        short = (0, width + 1 - batch.item.shape[1])  # where no history has two events, there is one input, of which nothing is seen
        target = functional.pad(batch.item, short)
        times = {} if batch.time is None else {"time": batch.time[:, :width], "next_time": functional.pad(batch.time[:, 1:], short)}
        hidden = torch.rand(len(item), batch.profile.shape[1] + 1, generator=draw) < self._hide
        profile, told = batch.profile.masked_fill(hidden[:, 1:], 0), None if batch.told is None else batch.told.masked_fill(hidden[:, :1], 0)
        return dataclasses.replace(batch, item=item, length=length, target=target, profile=profile, told=told, **times)

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
        """The summed loss of all events, and of telling users apart where that has a weight."""
        assert batch.target is not None
        wanted, states = batch.target != PAD, net.hidden(batch)
        target = batch.target[wanted]
        loss = self._loss(states[wanted], net.item_vectors(slice(None)), target, draw)
        if not self._contrast.weight:
            return loss
        return loss + self._contrast.weight * self._users(net, batch, states, draw) * (len(target) / len(batch.length))  # type: ignore[arg-type]

    def _users(self, net: PromptedModel, batch: Batch, states: Tensor, draw: torch.Generator) -> Tensor:
        """Summed InfoNCE over users, each after a number of events drawn at random."""
        assert isinstance(batch, ProfileBatch)
        config, device, row = self._contrast, states.device, torch.arange(len(batch.length), device=states.device)
        after = (torch.rand(len(row), generator=draw).to(device) * (batch.length + 1)).long()
        known = batch.profile if batch.told is None else torch.cat([batch.profile, batch.told.double()], 1)
        _, profile = torch.unique(known, dim=0, return_inverse=True)
        who = torch.where(after == 0, profile, len(row) + row)  # without history, users of one profile are one user
        keep = (torch.rand(len(row), self._width, generator=draw) >= config.profile_mask).to(device)
        left = (torch.rand(batch.item.shape, generator=draw) >= config.history_mask).to(device)
        views = (net.states(batch, keep), net.states(dataclasses.replace(batch, item=batch.item * left), None))
        own = states[row, after]
        return torch.stack([info_nce(own, view[row, after], who, config.temperature) for view in views]).sum()
