"""From the vectors of a row to one vector: of a text's tokens, or of a user's clicks.

Shapes: N rows, T places, W width. Places that a mask leaves out have no part in the result; a row without any place gives zeros.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

PoolingKind = Literal["attention", "mean", "cls"]


class AttentionPooling(nn.Module):
    """Weights a_i ~ exp(q^T tanh(V r_i + v)), the additive attention of NAML, NRMS and PLM-NR.

    Args:
        width: W.
        query: Width of the query q.
    """

    def __init__(self, width: int, query: int) -> None:
        super().__init__()
        self.inner, self.query = nn.Linear(width, query), nn.Linear(query, 1, bias=False)

    def forward(self, x_NTW: Tensor, valid_NT: Tensor) -> Tensor:
        logits = self.query(torch.tanh(self.inner(x_NTW))).squeeze(-1).float()
        lowest = torch.finfo(logits.dtype).min  # not -inf: a row without any place would become NaN
        weight = logits.masked_fill(~valid_NT, lowest).softmax(-1) * valid_NT
        return torch.einsum("nt,ntw->nw", weight.to(x_NTW.dtype), x_NTW)


class MeanPooling(nn.Module):
    """The mean of all places."""

    def forward(self, x_NTW: Tensor, valid_NT: Tensor) -> Tensor:
        weight = valid_NT.to(x_NTW.dtype)
        weight = weight / weight.sum(1, keepdim=True).clamp_min(1)
        return torch.einsum("nt,ntw->nw", weight, x_NTW)


class FirstPooling(nn.Module):
    """The first place: [CLS]."""

    def forward(self, x_NTW: Tensor, valid_NT: Tensor) -> Tensor:
        return x_NTW[:, 0] * valid_NT[:, :1]


def make_pooling(kind: PoolingKind, width: int, query: int) -> nn.Module:
    """The pooling of this name."""
    if kind == "attention":
        return AttentionPooling(width, query)
    return MeanPooling() if kind == "mean" else FirstPooling()
