"""User encoders of news recommendation: from the vectors of what a user clicked to one vector.

    naml    additive attention over the clicks (Wu et al., IJCAI 2019)
    nrms    multi-head self-attention, then additive attention (Wu et al., EMNLP 2019)
    lstur   a GRU over the clicks and a vector of the user's own (An et al., ACL 2019): "ini" starts the GRU from that vector, "con" puts
            it beside the GRU's last state. While training, half of the users are masked, so that whoever is not known has an answer.

Shapes: B users, T clicks, D width. Clicks stand from place 0, oldest first, and are padded behind their end; padding never enters.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tongtu.core import PAD
from tongtu.nn.pooling import AttentionPooling
from tongtu.nn.transformer import Attention

UserKind = Literal["naml", "nrms", "lstur-ini", "lstur-con"]


class NAML(nn.Module):
    """Additive attention over the clicks."""

    def __init__(self, width: int, query: int) -> None:
        super().__init__()
        self.pool = AttentionPooling(width, query)

    def forward(self, clicks_BTD: Tensor, valid_BT: Tensor, user_B: Tensor) -> Tensor:
        out: Tensor = self.pool(clicks_BTD, valid_BT)
        return out


class NRMS(nn.Module):
    """Each click sees the others, then additive attention."""

    def __init__(self, width: int, query: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention, self.drop = Attention(width, heads, dropout), nn.Dropout(dropout)
        self.pool = AttentionPooling(width, query)

    def forward(self, clicks_BTD: Tensor, valid_BT: Tensor, user_B: Tensor) -> Tensor:
        seen = valid_BT | ~valid_BT.any(1, keepdim=True)  # attention over nothing would be NaN; the pooling leaves such rows at zero
        x = self.attention(clicks_BTD, clicks_BTD, seen[:, None, None, :])
        out: Tensor = self.pool(self.drop(x), valid_BT)
        return out


class LSTUR(nn.Module):
    """A GRU for what was clicked lately, and a vector for who the user is. User 0 is anybody who is not known.

    Args:
        width: D.
        users: User codes, 0 included.
        beside: Whether the user's vector stands beside the GRU's state ("con") or is its first state ("ini").
        masked: Share of users that are made unknown in each training step.
    """

    def __init__(self, width: int, users: int, beside: bool, masked: float = 0.5) -> None:
        super().__init__()
        own = width // 2 if beside else width
        self.beside, self.masked = beside, masked
        self.gru = nn.GRU(width, width - own if beside else width, batch_first=True)
        self.user = nn.Embedding(users, own)
        nn.init.zeros_(self.user.weight)

    def forward(self, clicks_BTD: Tensor, valid_BT: Tensor, user_B: Tensor) -> Tensor:
        user = torch.where(user_B < self.user.num_embeddings, user_B, PAD)
        if self.training:
            user = torch.where(torch.rand(user.shape, device=user.device) < self.masked, PAD, user)
        own = self.user(user)
        start = None if self.beside else own[None]
        states, _ = self.gru(clicks_BTD, start)
        length = valid_BT.sum(1)
        last = states.gather(1, (length - 1).clamp_min(0)[:, None, None].expand(-1, 1, states.shape[2]))[:, 0]
        empty = (length == 0)[:, None]
        if self.beside:
            return torch.cat([last.masked_fill(empty, 0), own], 1)
        return torch.where(empty, own, last)


def make_user_encoder(kind: UserKind, width: int, query: int, heads: int, dropout: float, users: int) -> nn.Module:
    """The user encoder of this name: from clicks [B, T, D], which of them are real [B, T] and user codes [B] to [B, D]."""
    if kind == "naml":
        return NAML(width, query)
    if kind == "nrms":
        return NRMS(width, query, heads, dropout)
    return LSTUR(width, users, beside=kind == "lstur-con")
