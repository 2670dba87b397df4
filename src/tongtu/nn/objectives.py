"""What sequence models learn: the next item at every position (SASRec, HSTU) or masked items (BERT4Rec)."""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tongtu.core import PAD
from tongtu.nn.batch import Batch
from tongtu.nn.losses import CatalogueLoss
from tongtu.nn.neighbours import Neighbours
from tongtu.nn.sequence import Objective, SequenceModel


@runtime_checkable
class Surprised(Objective, Protocol):
    """An objective that can say how unlikely each of its targets is, for those who look for odd ones."""

    def surprise(self, net: SequenceModel, batch: Batch) -> tuple[Tensor, int]:
        """-log p of each target of a marked batch, float32[targets] in the order of its rows, without a gradient; and among how many items."""
        ...


class NextItem:
    """Every position learns the item after it: all positions of a sequence train at once.

    Args:
        loss: Of each position.
        neighbours: Where part of the targets goes, if anywhere; needs the full softmax.
    """

    def __init__(self, loss: CatalogueLoss, neighbours: Neighbours | None = None) -> None:
        self._loss, self._neighbours = loss, neighbours

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        """See `shifted`."""
        return shifted(batch)

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
        """The summed loss of all positions with a target."""
        return target_loss(self._loss, net, batch, draw, self._neighbours)

    def surprise(self, net: SequenceModel, batch: Batch) -> tuple[Tensor, int]:
        """See `Surprised`."""
        return target_surprise(self._loss, net, batch)


class Cloze:
    """Masked items are to be restored from both sides (BERT4Rec, section 3.6).

    A share of the sequences has only its last item masked, which is the question asked at prediction time; leaving that out
    is a known cause of weak BERT4Rec results.

    Args:
        loss: Of the masked positions.
        mask: The code of [MASK].
        probability: Of masking an item.
        last_only: Share of sequences in which just the last item is masked.
    """

    def __init__(self, loss: CatalogueLoss, mask: int, probability: float, last_only: float) -> None:
        self._loss, self._mask, self._probability, self._last_only = loss, mask, probability, last_only

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        """Some items become [MASK] and targets; a sequence in which none was drawn masks its last."""
        valid = batch.valid
        newest = (batch.age == 0) & valid
        chosen = (torch.rand(batch.item.shape, generator=draw) < self._probability) & valid
        only_last = torch.rand(len(batch.item), 1, generator=draw) < self._last_only
        chosen = torch.where(only_last | ~chosen.any(1, keepdim=True), newest, chosen)
        item = torch.where(chosen, self._mask, batch.item)
        return dataclasses.replace(batch, item=item, target=torch.where(chosen, batch.item, PAD))

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
        """The summed loss of the masked positions."""
        return target_loss(self._loss, net, batch, draw)

    def surprise(self, net: SequenceModel, batch: Batch) -> tuple[Tensor, int]:
        """See `Surprised`."""
        return target_surprise(self._loss, net, batch)


def shifted(batch: Batch) -> Batch:
    """Inputs are all events but the last, targets all but the first."""
    times = {} if batch.time is None else {"time": batch.time[:, :-1], "next_time": batch.time[:, 1:]}
    length = batch.length - 1
    item = batch.item[:, :-1]
    valid = torch.arange(item.shape[1]) < length[:, None]
    return dataclasses.replace(batch, item=item * valid, length=length, target=batch.item[:, 1:], **times)


def target_loss(loss: CatalogueLoss, net: SequenceModel, batch: Batch, draw: torch.Generator, neighbours: Neighbours | None = None) -> Tensor:
    """The loss at the positions that have a target, against the whole item table."""
    assert batch.target is not None
    wanted = batch.target != PAD
    target = batch.target[wanted]
    soft = None if neighbours is None else neighbours.soft_targets(batch.item, wanted, target)
    return loss(net.hidden(batch)[wanted], net.item_vectors(slice(None)), target, draw, soft)


@torch.no_grad()
def target_surprise(loss: CatalogueLoss, net: SequenceModel, batch: Batch) -> tuple[Tensor, int]:
    """-log p of the targets, against the whole item table, and the number of items; see `Surprised`."""
    assert batch.target is not None
    wanted, items = batch.target != PAD, net.item_vectors(slice(None))
    return loss.surprise(net.hidden(batch)[wanted], items, batch.target[wanted]), len(items) - 1
