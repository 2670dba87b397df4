"""Distillation: a fresh model learns one's own log and the lists of a model from elsewhere, with some items left out of them.

Source: Li et al., "Neural Attention Distillation" (ICLR 2021), with lists of items in place of attention maps. What the fresh model knows of
the items left out is what the log says of them.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from tongtu.core import PAD, Codes, FitOptions, Recommender
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError, ModelError
from tongtu.nn.batch import Batch
from tongtu.nn.losses import scaled
from tongtu.nn.sequence import Objective, SequenceModel
from tongtu.nn.softmax import full_softmax
from tongtu.trust.defences import Network, body_config

_PLAIN = FitOptions()


def distil(
    teacher: Network, student: Recommender, data: Dataset, leave_out: Codes, share: float = 0.5, width: int = 50, options: FitOptions = _PLAIN
) -> Recommender:
    """Fit a fresh model to a log and to another model's lists.

    Args:
        teacher: The model to learn from; it reads from left to right.
        student: Not fitted yet, with a full softmax over the next item as its loss.
        data: The log, in the teacher's codes.
        leave_out: int32[n], items that the teacher is not believed about; what is left of its list shares their weight.
        share: Of the loss that is the teacher's.
        width: Items of the teacher's list at each position.
        options: Of the student's fit.

    Raises:
        ConfigError: If the student has another loss.
        ModelError: If the log has other items than the teacher.
    """
    loss: Any = getattr(student.config, "loss", None)
    if loss is None or loss.kind != "softmax":
        told = "choose a student such as sasrec, with loss.kind = 'softmax'"
        raise ConfigError(f"{type(student).__name__} does not learn by a full softmax over items: {told}")
    if teacher.items != data.items:
        raise ModelError(f"the teacher knows other items than {data.name}: bring the log into the teacher's catalogue")
    net, sharpness = copy.deepcopy(teacher.net).eval().requires_grad_(False), body_config(teacher).loss.temperature
    lists = _Lists(net, sharpness, torch.from_numpy(np.asarray(leave_out, np.int64)), width)

    def taught(objective: Objective) -> Objective:
        return _Taught(objective if options.objective is None else options.objective(objective), lists, share, loss.temperature)

    return student.fit(data, dataclasses.replace(options, objective=taught))


@dataclasses.dataclass(frozen=True)
class _Lists:
    """What a teacher would recommend at each position, with some items left out."""

    net: nn.Module
    temperature: float | None
    leave_out: Tensor
    width: int

    @torch.no_grad()
    def __call__(self, batch: Batch, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Codes int64[N, width] and probabilities float32[N, width] at the wanted positions."""
        net = cast(SequenceModel, self.net.to(batch.item.device))
        state, table = scaled(net.hidden(batch)[wanted], net.item_vectors(slice(None)), self.temperature)
        logits = state.float() @ table.float().T
        logits[:, PAD] = -torch.inf
        logits[:, self.leave_out.to(logits.device)] = -torch.inf
        best, codes = logits.topk(min(self.width, logits.shape[1] - 1 - len(self.leave_out)), dim=1)
        return codes, torch.softmax(best, 1)


class _Taught:
    """An objective, and beside it a teacher's lists as soft targets."""

    def __init__(self, objective: Objective, lists: _Lists, share: float, temperature: float | None) -> None:
        self._objective, self._lists, self._share, self._temperature = objective, lists, share, temperature

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        """As the objective."""
        return self._objective.mark(batch, draw)

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
        """Both, summed over the targets."""
        assert batch.target is not None
        wanted = batch.target != PAD
        own = self._objective.loss(net, batch, draw)
        state, table = scaled(net.hidden(batch)[wanted], net.item_vectors(slice(None)), self._temperature)
        learned = full_softmax(state, table, batch.target[wanted], torch.float32, soft=self._lists(batch, wanted))
        return (1 - self._share) * own + self._share * learned
