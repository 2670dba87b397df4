"""Objectives that trust no single target: for learning from a log that may hold fake users.

What nobody else does is unlikely to a model that learns what everybody does, so the least likely targets of a batch are left out, or
count less. Both are given to a fit as `FitOptions.objective`, and begin only once a batch is on the whole more likely than among equally
likely items: before that, no target says more than another. That depends on the batch alone, so a resumed run is still bit-identical.

Where the limits are: fake users who agree with each other are learned like everybody who agrees, so this takes the edge off an attack by
few; and the rare items of honest users are unlikely too. Attacks by many are for `tongtu.trust.detection`.

Sources: trimmed loss, Shen & Sanghavi, "Learning with Bad Training Data via Iterative Trimmed Loss Minimization" (ICML 2019), and for
recommenders Wang et al., "Denoising Implicit Feedback for Recommendation" (WSDM 2021); weights, Zhang & Sabuncu, "Generalized Cross
Entropy Loss" (NeurIPS 2018), whose gradient is that of the cross-entropy times p^q.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from tongtu.core import PAD
from tongtu.errors import ConfigError
from tongtu.nn.batch import Batch
from tongtu.nn.objectives import Surprised
from tongtu.nn.sequence import Objective, SequenceModel

Change = Callable[[Objective], Objective]
Choice = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""-log p of N targets, the sequence of each, and a source of chance -> bool[N], which targets are learned."""

_BEGIN = 0.95  # of the surprise of equally likely items


def trimmed(share: float, by: Literal["target", "sequence"] = "target", begin: float = _BEGIN) -> Change:
    """Leave the least likely targets of each batch out.

    Args:
        share: Of the targets, or of the sequences; 0 changes nothing.
        by: Single targets, or whole sequences whose targets are on average the least likely, as a fake user's are whose items are drawn at random.
        begin: A batch is trimmed if its mean surprise is below so many times that of equally likely items.

    Raises:
        ConfigError: If the share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise ConfigError(f"a share of {share:g} of the targets cannot be left out: choose one from 0 up to, but not including, 1")

    def likely(surprise: Tensor, row: Tensor, draw: torch.Generator) -> Tensor:
        if by == "sequence":
            known, row = torch.unique(row, return_inverse=True)
            total = torch.zeros(len(known), device=surprise.device).index_add_(0, row, surprise)
            of_rows = total / torch.bincount(row, minlength=len(known))
            return _all_but(of_rows, share)[row]
        return _all_but(surprise, share)

    return lambda objective: objective if share == 0 else _Sifted(objective, likely, begin)


def robust(power: float, begin: float = _BEGIN) -> Change:
    """Count each target as p^power, where p is its probability as the model stands, relative to the likeliest of the batch.

    A weight is the chance with which a target is learned in a step, so it works within any objective.

    Args:
        power: 0 changes nothing; 1 is the mean absolute error, which hardly learns. 0.1 to 0.3 are usual.
        begin: See `trimmed`.

    Raises:
        ConfigError: If the power is not in [0, 1].
    """
    if not 0 <= power <= 1:
        raise ConfigError(f"power {power:g} is out of range: choose one from 0 (plain) to 1")

    def drawn(surprise: Tensor, row: Tensor, draw: torch.Generator) -> Tensor:
        weight = torch.exp(-power * (surprise - surprise.min()))
        return torch.rand(len(weight), generator=draw).to(weight.device) < weight

    return lambda objective: objective if power == 0 else _Sifted(objective, drawn, begin)


class _Sifted:
    """An objective that learns some of its targets."""

    def __init__(self, objective: Objective, choice: Choice, begin: float) -> None:
        if not isinstance(objective, Surprised):
            told = "choose a system that learns next or masked items, such as sasrec"
            raise ConfigError(f"{type(objective).__name__} cannot say how likely its targets are: {told}")
        self._objective: Surprised = objective
        self._choice, self._begin = choice, begin

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        """As the objective within."""
        return self._objective.mark(batch, draw)

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
        """That of the chosen targets, summed."""
        return self._objective.loss(net, self._sifted(net, batch, draw), draw)

    def surprise(self, net: SequenceModel, batch: Batch) -> tuple[Tensor, int]:
        """As the objective within."""
        return self._objective.surprise(net, batch)

    def _sifted(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Batch:
        assert batch.target is not None
        wanted = batch.target != PAD
        if not bool(wanted.any()):
            return batch
        surprise, items = self._objective.surprise(net, batch)
        if float(surprise.mean()) > self._begin * math.log(items):
            return batch
        kept = wanted.clone()
        kept[wanted] = self._choice(surprise, wanted.nonzero()[:, 0], draw)
        return dataclasses.replace(batch, target=batch.target * kept)


def _all_but(value: Tensor, share: float) -> Tensor:
    """bool[n], true but for the `share` of the largest values."""
    kept = torch.ones(len(value), dtype=torch.bool, device=value.device)
    kept[torch.argsort(value, descending=True, stable=True)[: int(share * len(value))]] = False
    return kept
