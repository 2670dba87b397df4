"""Learning from impressions: a click against what was passed over beside it.

Shapes: B clicks, T events of history, K passed over, U distinct items of a batch, D width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from tongtu.core import PAD, Codes, Offsets
from tongtu.nn.batch import Batch, pad


@dataclass(frozen=True)
class ClickBatch(Batch):
    """Histories, each with an item that was clicked (`target`, int64[B, 1]) and what was shown and not clicked.

    Attributes:
        user: int64[B], user codes, 0 for unknown.
        others: int64[B, N], item codes, `PAD` behind the end; after an objective has marked the batch, N = K.
    """

    user: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    others: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))


@dataclass(frozen=True)
class Clicks:
    """`Examples` that are clicks with a history, in columns.

    Attributes:
        item: int32, the events of all histories; history i is `item[stop[i] - seen[i]:stop[i]]`.
        stop, seen: int64[n].
        user, clicked: int32[n], who clicked what.
        shown: int32, what was shown and not clicked; example i's is `shown[first[i]:last[i]]`.
        first, last: int64[n].
        asked: Items that each example is learned with: 1 + K.
    """

    item: Codes
    stop: Offsets
    seen: Offsets
    user: Codes
    clicked: Codes
    shown: Codes
    first: Offsets
    last: Offsets
    asked: int

    def __len__(self) -> int:
        return len(self.stop)

    @property
    def length(self) -> Offsets:
        """See `Examples`: the items whose texts are read."""
        return self.seen + self.asked

    def batch(self, rows: npt.NDArray[np.int64]) -> ClickBatch:
        """See `Examples`."""
        seen = self.seen[rows]
        return ClickBatch(
            item=pad(self.item, self.stop[rows], seen),
            length=torch.from_numpy(seen),
            target=torch.from_numpy(self.clicked[rows].astype(np.int64))[:, None],
            user=torch.from_numpy(self.user[rows].astype(np.int64)),
            others=pad(self.shown, self.last[rows], self.last[rows] - self.first[rows]),
        )

    def columns(self) -> Iterator[npt.NDArray[Any]]:
        """See `Examples`."""
        yield from (self.item, self.stop, self.seen, self.user, self.clicked, self.shown, self.first, self.last)


class ClickModel(Protocol):
    """What the objective sees of a network."""

    def news(self, items: Tensor) -> Tensor:
        """Vectors [U, D] of distinct item codes [U]; each is encoded once."""
        ...

    def user(self, clicks: Tensor, valid: Tensor, user: Tensor) -> Tensor:
        """Vectors [B, D] of users."""
        ...


class ClickedAmongShown:
    """Softmax over a click and K items that were passed over in the same impression, drawn anew in each epoch.

    Where fewer than K were passed over, the places that are left are empty and have no part.

    Args:
        negatives: K.
        whole: Whether a click learns against every item that its batch encodes anyway, its own history left out, and not
            against its own K alone. Each item counts once, however often the batch has it.
    """

    def __init__(self, negatives: int, whole: bool = False) -> None:
        self._negatives, self._whole = negatives, whole

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        """Draw K of what was passed over."""
        assert isinstance(batch, ClickBatch)
        chance = torch.rand(batch.others.shape, generator=draw).masked_fill(batch.others == PAD, -1)
        chosen = chance.topk(min(self._negatives, batch.others.shape[1]), dim=1).indices
        return dataclasses.replace(batch, others=batch.others.gather(1, chosen))

    def loss(self, net: Any, batch: Batch, draw: torch.Generator) -> Tensor:
        """The loss summed over the clicks of a marked batch."""
        assert isinstance(batch, ClickBatch) and batch.target is not None
        if not bool((batch.target != PAD).any()):  # the share of a process that has no rows left
            return sum((p.sum() * 0 for p in net.parameters() if p.requires_grad), torch.zeros((), device=batch.item.device))
        asked = torch.cat([batch.target, batch.others], 1)
        items, where = torch.unique(torch.cat([batch.item, asked], 1), return_inverse=True)
        known = items != PAD
        vectors = net.news(items[known])
        vectors = torch.cat([vectors.new_zeros(int((~known).sum()), vectors.shape[1]), vectors])  # `PAD` sorts first
        clicks, shown = vectors[where[:, : batch.item.shape[1]]], vectors[where[:, batch.item.shape[1] :]]
        user = net.user(clicks, batch.valid & (batch.item != PAD), batch.user)
        if self._whole:
            return _against_all(user, vectors, known, where, batch.item.shape[1])
        logits = torch.einsum("bd,bkd->bk", user, shown).float().masked_fill(asked == PAD, -torch.inf)
        return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device), reduction="sum")


def _against_all(user: Tensor, vectors: Tensor, known: Tensor, where: Tensor, clicks: int) -> Tensor:
    """The loss of each click, whose item is at `where[:, clicks]`, against all U items but those of its history at `where[:, :clicks]`."""
    target = where[:, clicks]
    barred = (~known).expand(len(user), -1).scatter(1, where[:, :clicks], True).scatter(1, target[:, None], False)
    return functional.cross_entropy((user @ vectors.T).float().masked_fill(barred, -torch.inf), target, reduction="sum")
