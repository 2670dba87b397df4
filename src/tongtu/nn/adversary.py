"""Who tries to infer attributes from user vectors in training, so that eliminators learn to hide them.

Source: Wu et al., "Selective Fairness in Recommendation via Prompts" (SIGIR 2022), section 3.4, and the authors' code.

Shapes: N user vectors, B users, A attributes, D width, T positions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from tongtu.config import configuration
from tongtu.core import PAD
from tongtu.nn.batch import Batch
from tongtu.nn.eliminators import ForgetBatch, combination
from tongtu.nn.forgetful import ForgetfulNet, user_states
from tongtu.nn.losses import CatalogueLoss
from tongtu.nn.objectives import shifted
from tongtu.nn.sequence import SequenceModel

_SURE = 0.1  # a discriminator of two classes that is surer than this pushes no further, as in the authors' code


@configuration
class AdversaryConfig:
    """Settings of the discriminators, and of what they cannot do.

    Attributes:
        weight: Of what the discriminators know, beside the loss of the next item.
        inner: Their inner width.
        rate: Their learning rate, as a multiple.
        warmup: Steps in which they alone learn.
        directions: Taken out in closed form for each attribute that is not told (`tongtu.nn.erasing`); with 0 nothing is, told or not.
    """

    weight: Annotated[float, Field(ge=0)] = 1.0
    inner: Annotated[int, Field(ge=1)] = 64
    rate: Annotated[float, Field(gt=0)] = 5.0
    warmup: Annotated[int, Field(ge=0)] = 50
    directions: Annotated[int, Field(ge=0)] = 1


class Adversary(nn.Module):
    """A discriminator for each attribute of each combination.

    Args:
        shares: For each attribute, the share of the users who have each value; the first is code 1's.
        width: D.
        inner: Inner width.
    """

    steps: Tensor

    def __init__(self, shares: Sequence[Tensor], width: int, inner: int) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        for place, share in enumerate(shares):
            self.register_buffer(f"rarity_{place}", torch.where(share > 0, 1 / (len(share) * share.clamp_min(1e-9)), 0.0).float())
        self.heads = nn.ModuleDict()
        for number in range(1, 2 ** len(shares)):
            for place, share in enumerate(shares):
                if number >> place & 1:
                    self.heads[f"{number}-{place}"] = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, len(share)))

    def forward(self, x_ND: Tensor, combination_N: Tensor, secret_NA: Tensor) -> tuple[Tensor, Tensor]:
        """The discriminators' loss, which leaves the vectors alone, and what they know, which leaves the discriminators alone."""
        loss = known = x_ND.new_zeros(())
        for name, head in self.heads.items():
            number, place = (int(part) for part in name.split("-"))
            rows = (combination_N == number) & (secret_NA[:, place] > 0)
            if not rows.any():
                continue
            x, code, weight = x_ND[rows], secret_NA[rows, place] - 1, self.get_buffer(f"rarity_{place}")
            share = float(rows.sum()) / len(x_ND)
            loss = loss + share * functional.cross_entropy(head(x.detach()), code, weight)
            known = known + share * _right(functional_call(head, {part: value.detach() for part, value in head.named_parameters()}, x), code, weight)
        return loss, known


def _right(logits_NC: Tensor, code_N: Tensor, weight_C: Tensor) -> Tensor:
    """Mean probability of the true class. It is bounded, and so is its gradient; that of a likelihood would be largest for what is hidden best."""
    right = logits_NC.softmax(1).gather(1, code_N[:, None])[:, 0]
    if logits_NC.shape[1] == 2:
        right = right.clamp(_SURE, 1 - _SURE)
    weight = weight_C[code_N]
    return (right * weight).sum() / weight.sum().clamp_min(1e-9)


class Forgetting:
    """The next item after every event, from states that tell the discriminators nothing.

    Args:
        loss: Of each event.
        config: Of the adversary.
        hide: Chance that an attribute is not told.
    """

    def __init__(self, loss: CatalogueLoss, config: AdversaryConfig, hide: float) -> None:
        self._loss, self._config, self._hide = loss, config, hide

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        """See `shifted`; some attributes are not told."""
        marked = shifted(batch)
        assert isinstance(marked, ForgetBatch)
        hidden = torch.rand(marked.profile.shape, generator=draw) < self._hide
        return dataclasses.replace(marked, profile=marked.profile.masked_fill(hidden, 0))

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
        """The summed loss of all events, of the discriminators, and of what they know once they are warm."""
        assert isinstance(net, ForgetfulNet) and isinstance(net.adversary, Adversary)
        assert isinstance(batch, ForgetBatch) and batch.target is not None and batch.secret is not None
        states, wanted = net.hidden(batch), batch.target != PAD
        target = batch.target[wanted]
        own = self._loss(states[wanted], net.item_vectors(slice(None)), target, draw)
        x, row = user_states(states, batch.length)
        loss, known = net.adversary(x, combination(batch.forget)[row], batch.secret[row])
        weight = self._config.weight if net.adversary.steps >= self._config.warmup else 0.0
        net.adversary.steps += 1
        total: Tensor = own + len(target) * (loss + weight * known)
        return total
