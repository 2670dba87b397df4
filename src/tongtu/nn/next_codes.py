"""What a `CodeNet` learns: the codes of the next item, and where wanted which item's text it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tongtu.core import PAD, Offsets
from tongtu.nn.batch import Batch, Sequences
from tongtu.nn.codes import CodeNet
from tongtu.nn.objectives import shifted
from tongtu.nn.sequence import SequenceModel
from tongtu.nn.softmax import full_softmax

_UNTOLD = 0.1  # of the sequences: users who are not known are asked about too


@dataclass(frozen=True)
class CodedSequences(Sequences):
    """Sequences of items that are known by further columns, codes and text vectors: a resumed run must find the same."""

    known_by: tuple[npt.NDArray[Any], ...] = ()

    def columns(self) -> Iterator[npt.NDArray[Any]]:
        """See `Examples`."""
        yield from super().columns()
        yield from self.known_by


class NextCodes:
    """An `Objective`: cross entropy of each code of the next item, among the codes of its level.

    Args:
        last: Whether each sequence's last item alone is learned.
        dense: Weight of the cross entropy of the next item itself among all items of `counts` that are not zero, by cosine of text and state.
        temperature: By which these cosines are divided.
        counts: int64[V], events of each item.
    """

    def __init__(self, last: bool, dense: float, temperature: float, counts: Offsets) -> None:
        self._last, self._dense, self._temperature = last, dense, temperature
        seen = np.flatnonzero(counts)
        place = np.zeros(len(counts), np.int64)
        place[seen] = np.arange(1, len(seen) + 1)
        self._seen, self._place = torch.from_numpy(seen), torch.from_numpy(place)

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        """All events but the last, and what comes after each; some users become unknown."""
        marked = shifted(batch)
        if self._last and marked.target is not None:
            newest = torch.arange(marked.item.shape[1]) == marked.length[:, None] - 1
            marked = dataclasses.replace(marked, target=torch.where(newest, marked.target, PAD))
        if marked.user is None:
            return marked
        told = torch.rand(len(marked.user), generator=draw) >= _UNTOLD
        return dataclasses.replace(marked, user=torch.where(told, marked.user, PAD))

    def loss(self, net: SequenceModel | CodeNet, batch: Batch, draw: torch.Generator) -> Tensor:
        """The loss summed over all targets, of all levels."""
        net = cast(CodeNet, net)
        states, target = net.read(batch), net.targets(batch)
        asked = target != PAD
        loss = net.surprise(net.answers(batch, target, states)[asked], target[asked]).sum()
        if not self._dense:
            return loss
        device = target.device
        table = net.likenesses(self._seen.to(device)) / self._temperature
        table = torch.cat([table.new_zeros(1, table.shape[1]), table])
        wished = net.wishes(net.asked(batch), states)[asked]
        return loss + self._dense * full_softmax(wished, table, self._place.to(device)[target[asked]], torch.float32)
