"""A sequence network whose items are texts: an adaptor makes item vectors, so that items never met in training have them too.

Shapes: B sequences, T positions, V item codes (`PAD` included), N some of them, W width of a text vector, D of an item vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tongtu.core import PAD, Offsets
from tongtu.nn.adaptor import MixtureAdaptor
from tongtu.nn.batch import Batch, Sequences
from tongtu.nn.losses import CatalogueLoss
from tongtu.nn.objectives import shifted
from tongtu.nn.sequence import BodyConfig, SequenceBody, SequenceModel

Vectors = npt.NDArray[np.float32]
_AT_ONCE = 65_536  # items whose vectors are worked out together


class TextSequenceNet(SequenceBody):
    """Text vectors through an adaptor, with or without an id vector added, and a `SequenceBody` over them.

    The text vectors belong to a catalogue and not to the network: they are no part of its weights. An item without text has a
    row of zeros there, and no text part: its id vector speaks alone, or nothing does.

    Args:
        config: The size of the body.
        adaptor: Makes vectors of the body's width.
        vectors: Text vectors [V, W], rows of length 1 or 0.
        ids: Whether each item has a vector of its own besides.
        trained: bool[V], items whose id vector will be learned; those of others are zero. None for all.
    """

    def __init__(self, config: BodyConfig, adaptor: MixtureAdaptor, vectors: Vectors, ids: bool = False, trained: npt.NDArray[np.bool_] | None = None) -> None:
        super().__init__(config)
        self.adaptor = adaptor
        self.id = nn.Embedding(len(vectors), config.width, padding_idx=PAD) if ids else None
        self.start(*([] if self.id is None else [self.id]))
        if self.id is not None and trained is not None:
            with torch.no_grad():
                self.id.weight[torch.from_numpy(~trained)] = 0
        self._table: Tensor | None = None
        self.text: Tensor
        self.register_buffer("text", torch.from_numpy(vectors), persistent=False)
        self.adaptor.centre(self.text)

    def vectors_of(self, codes_N: Tensor, text_VW: Tensor | None = None) -> Tensor:
        """Item vectors [N, D] of item codes; `text_VW` are other texts of the same items."""
        text_NW = (self.text if text_VW is None else text_VW)[codes_N]
        x: Tensor = self.adaptor(text_NW) * (text_NW != 0).any(-1, keepdim=True)
        return x if self.id is None else x + self.id(codes_N)

    def embed(self, batch: Batch) -> Tensor:
        """See `Promptable`."""
        return self.inputs(self._vectors()[batch.item], batch)

    def states(self, item_BTD: Tensor, batch: Batch) -> Tensor:
        """States [B, T, D] of item vectors in the order of a batch."""
        return self.encode(self.inputs(item_BTD, batch), batch)

    def hidden(self, batch: Batch) -> Tensor:
        """See `SequenceModel`."""
        return self.states(self._vectors()[batch.item], batch)

    def item_vectors(self, items: slice) -> Tensor:
        """See `SequenceModel`."""
        return self._vectors()[items]

    def _vectors(self) -> Tensor:
        """All item vectors [V, D]; worked out once after training, since then they stay."""
        codes = torch.arange(len(self.text), device=self.text.device)
        if self.training:
            return self.vectors_of(codes)
        if self._table is None or self._table.device != self.text.device:
            with torch.no_grad():
                self._table = torch.cat([self.vectors_of(part) for part in torch.split(codes, _AT_ONCE)])
        return self._table

    def train(self, mode: bool = True) -> TextSequenceNet:
        """As every module; item vectors are worked out anew afterwards."""
        self._table = None
        super().train(mode)
        return self


@dataclass(frozen=True)
class TextSequences(Sequences):
    """Sequences of items with text vectors: a resumed run must find the same vectors."""

    vectors: Vectors | None = None

    def columns(self) -> Iterator[npt.NDArray[Any]]:
        """See `Examples`."""
        yield from super().columns()
        if self.vectors is not None:
            yield self.vectors


class NextText:
    """The next item at every position, among those that occur in training: from being a negative, the others could only learn that nobody wants them.

    Args:
        loss: Of each position, against a table of the items of `counts` that are not zero, behind a row for `PAD`.
        counts: int64[V], events of each item.
    """

    def __init__(self, loss: CatalogueLoss, counts: Offsets) -> None:
        self._loss = loss
        seen = seen_codes(counts)
        place = np.zeros(len(counts), np.int64)
        place[seen] = np.arange(len(seen))
        self._seen, self._place = torch.from_numpy(seen), torch.from_numpy(place)

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        """See `shifted`."""
        return shifted(batch)

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
        """The summed loss of all positions with a target; every item's vector is worked out once."""
        return self._loss(*self._answers(net, batch), draw)

    @torch.no_grad()
    def surprise(self, net: SequenceModel, batch: Batch) -> tuple[Tensor, int]:
        """See `tongtu.nn.objectives.Surprised`."""
        return self._loss.surprise(*self._answers(net, batch)), len(self._seen) - 1

    def _answers(self, net: SequenceModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """States at the positions with a target, the table, and the targets' rows in it."""
        assert batch.target is not None and isinstance(net, TextSequenceNet)
        device = batch.item.device
        table, place = net.vectors_of(self._seen.to(device)), self._place.to(device)
        wanted = batch.target != PAD
        states = net.states(table[place[batch.item]], batch)
        return states[wanted], table, place[batch.target[wanted]]


def seen_codes(counts: Offsets) -> npt.NDArray[np.int64]:
    """`PAD`, and the codes of items that occur."""
    return np.concatenate([np.zeros(1, np.int64), np.flatnonzero(counts)])
