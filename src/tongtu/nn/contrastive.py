"""What a text model learns on several domains at once (UniSRec, Hou et al., KDD 2022, section 2.3).

Shapes: N rows, D width, B sequences, T positions, W width of a text vector.

In the authors' code a row that must not count as negative has its logit set to 0 before the exponential, and so counts as
e^0 = 1; here it is minus infinity and counts as nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from tongtu.config import configuration
from tongtu.core import PAD
from tongtu.nn.batch import Batch
from tongtu.nn.objectives import shifted
from tongtu.nn.sequence import SequenceModel
from tongtu.nn.text_sequence import TextSequenceNet


@configuration
class ContrastiveConfig:
    """Settings of the two contrastive objectives.

    Attributes:
        temperature: Cosines are divided by this.
        sequence_weight: Of the sequence-sequence objective beside the sequence-item one.
        item_drop: Chance that an item of an augmented sequence is left out.
        word_drop: Chance that an item of an augmented sequence is read with words missing.
        item_drop_share: Share of the batches augmented by dropping items; the others drop words.
    """

    temperature: Annotated[float, Field(gt=0)] = 0.07
    sequence_weight: Annotated[float, Field(ge=0)] = 1e-3
    item_drop: Annotated[float, Field(ge=0, lt=1)] = 0.2
    word_drop: Annotated[float, Field(ge=0, le=1)] = 0.2
    item_drop_share: Annotated[float, Field(ge=0, le=1)] = 0.9


def info_nce(query_ND: Tensor, key_ND: Tensor, item_N: Tensor, temperature: float) -> Tensor:
    """Summed InfoNCE: row i's query against all keys, of which key i is right; keys of other rows with the same item do not count.

    Args:
        query_ND: Queries.
        key_ND: Keys, one a query.
        item_N: What each row stands for; equal ones are not each other's negatives.
        temperature: Cosines are divided by this.
    """
    logits = functional.normalize(query_ND, dim=-1) @ functional.normalize(key_ND, dim=-1).T / temperature
    own = torch.eye(len(item_N), dtype=torch.bool, device=item_N.device)
    excluded = (item_N[:, None] == item_N) & ~own
    right = torch.arange(len(item_N), device=item_N.device)
    return functional.cross_entropy(logits.masked_fill(excluded, -torch.inf), right, reduction="sum")


class Contrastive:
    """Sequence-item and sequence-sequence InfoNCE; negatives are the other rows of the batch, whatever their domain.

    How ours differs: every position of a sequence is a row of the sequence-item objective, which is what the authors' cutting
    into prefixes amounts to; the sequence-sequence objective has one row a sequence.

    Args:
        config: Settings.
        fewer_words_VW: Text vectors of all items with some of their words missing.
    """

    def __init__(self, config: ContrastiveConfig, fewer_words_VW: Tensor) -> None:
        self._config, self._fewer_words = config, fewer_words_VW

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        """See `shifted`."""
        return shifted(batch)

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
        """The summed loss of all positions with a target."""
        assert batch.target is not None and isinstance(net, TextSequenceNet)
        config, wanted = self._config, batch.target != PAD
        codes, place = torch.unique(torch.cat([batch.item.flatten(), batch.target[wanted]]), return_inverse=True)
        table = net.vectors_of(codes)
        item_BT, target_N = place[: batch.item.numel()].view_as(batch.item), place[batch.item.numel() :]
        hidden = net.states(table[item_BT], batch)
        loss = info_nce(hidden[wanted], table[target_N], target_N, config.temperature)
        if config.sequence_weight:
            newest = _newest(batch.length)
            row = torch.arange(len(batch.item), device=newest.device)
            other = self._augmented(net, batch, (codes, table, item_BT), draw)
            pairs = info_nce(hidden[row, newest], other, batch.target[row, newest], config.temperature)
            # one row a sequence against one a position: the weight holds for the means of both
            loss = loss + config.sequence_weight * pairs * (len(target_N) / max(len(row), 1))
        return loss

    def _augmented(self, net: TextSequenceNet, batch: Batch, items: tuple[Tensor, Tensor, Tensor], draw: torch.Generator) -> Tensor:
        """States [B, D] of the sequences with items or words missing."""
        config, (codes, table, item_BT) = self._config, items
        device = batch.item.device
        chance = torch.rand(2, generator=draw)
        if float(chance[0]) < config.item_drop_share:
            kept, length = drop_items(batch.valid, config.item_drop, draw)
            shorter = dataclasses.replace(batch, item=batch.item.gather(1, kept), length=length, target=None, time=None, next_time=None)
            hidden = net.states(table[item_BT.gather(1, kept)], shorter)
        else:
            length = batch.length
            changed = (torch.rand(item_BT.shape, generator=draw) < config.word_drop).to(device)
            poorer = net.vectors_of(codes, self._fewer_words.to(device))
            hidden = net.states(torch.where(changed[..., None], poorer[item_BT], table[item_BT]), batch)
        return hidden[torch.arange(len(hidden), device=device), _newest(length)]


def drop_items(valid_BT: Tensor, chance: float, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which positions stay when items are left out at random; a sequence's first item always stays.

    Returns:
        int64[B, T], the old position of what stands at each new one, with the left-out ones behind the end, and int64[B], how many stay.
    """
    left_out = (torch.rand(valid_BT.shape, generator=draw) < chance).to(valid_BT.device)
    left_out[:, 0] = False
    stays = valid_BT & ~left_out
    return torch.argsort((~stays).to(torch.int8), dim=1, stable=True), stays.sum(1)


def _newest(length_B: Tensor) -> Tensor:
    return (length_B - 1).clamp_min(0)
