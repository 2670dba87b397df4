"""New tokens as a small table of their own, behind the frozen or learning table of a pretrained model.

The old table keeps its numbers to the bit when it is frozen: no gradient, weight decay or moment of the optimiser ever meets it.

Shapes: V old tokens, N new ones, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class ExtendedEmbedding(nn.Module):
    """Vectors of old tokens from `base`, of the tokens from V on from `rows` [N, D]."""

    def __init__(self, base: nn.Embedding, rows: nn.Parameter, first: int) -> None:
        super().__init__()
        self.base, self.rows, self.first = base, rows, first

    @property
    def weight(self) -> Tensor:
        """The whole table [V + N, D]."""
        return torch.cat([self.base.weight[: self.first], self.rows])

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors [..., D]."""
        new = tokens >= self.first
        old: Tensor = self.base(tokens.masked_fill(new, 0))
        rows = functional.embedding((tokens - self.first).clamp_min(0), self.rows)
        scale: Any = getattr(self.base, "embed_scale", 1.0)  # some models scale what they look up
        return torch.where(new[..., None], (rows * scale).to(old.dtype), old)


class ExtendedHead(nn.Module):
    """Logits [..., V + N] of old tokens by `base`, of new ones by `rows` [N, D]."""

    def __init__(self, base: nn.Linear, rows: nn.Parameter, first: int) -> None:
        super().__init__()
        self.base, self.rows, self.first = base, rows, first

    @property
    def weight(self) -> Tensor:
        """The whole table [V + N, D]."""
        return torch.cat([self.base.weight[: self.first], self.rows])

    def forward(self, states: Tensor) -> Tensor:
        """Logits [..., V + N]."""
        bias = None if self.base.bias is None else self.base.bias[: self.first]
        return torch.cat([functional.linear(states, self.base.weight[: self.first], bias), functional.linear(states, self.rows)], -1)


def extend(net: Any, first: int, new: int) -> None:
    """Give a model of transformers `new` tokens from number `first` on; they start near the mean of its old ones, drawn from torch's generator."""
    table, head = net.get_input_embeddings(), net.get_output_embeddings()
    rows = _rows(table.weight, first, new)
    net.set_input_embeddings(ExtendedEmbedding(table, rows, first))
    net.set_output_embeddings(ExtendedHead(head, rows if head.weight is table.weight else _rows(head.weight, first, new), first))
    net.config.get_text_config().vocab_size = first + new


def _rows(weight: Tensor, first: int, new: int) -> nn.Parameter:
    old = weight.detach()[:first].float()
    # near their mean: rows as far from it as others would at first be likelier than most
    return nn.Parameter(old.mean(0) + 0.2 * old.std() * torch.randn(new, old.shape[1]))
