"""Transformer blocks over item sequences.

Shapes: B sequences, T positions, D width, H heads. Attention goes through `scaled_dot_product_attention`, never through
`nn.TransformerEncoder`, whose evaluation path gives other numbers than its training path under a float mask.

A block takes adapters, one after attention and one after its feed-forward part, or none (see `tongtu.nn.edits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tongtu.nn.edits import Adapter, adapted

BlockKind = Literal["sasrec", "prenorm", "ligr", "bert"]


class Attention(nn.Module):
    """Multi-head attention. `mask` is None for left to right, else bool (true where a key may be seen) or float (added to the logits)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        assert width % heads == 0, "width must be a multiple of heads"
        self.heads, self.dropout = heads, dropout
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, query_BTD: Tensor, key_BTD: Tensor, mask: Tensor | None) -> Tensor:
        B, T, D = query_BTD.shape
        q = self.query(query_BTD).view(B, T, self.heads, -1).transpose(1, 2)
        k, v = self.key_value(key_BTD).view(B, T, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        x = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, dropout_p=dropout)
        out: Tensor = self.out(x.transpose(1, 2).reshape(B, T, D))
        return out


class FeedForward(nn.Sequential):
    """Two linear layers with an activation between them."""

    def __init__(self, width: int, inner: int, activation: type[nn.Module], dropout: float) -> None:
        super().__init__(nn.Linear(width, inner), activation(), nn.Dropout(dropout), nn.Linear(inner, width))


class SwiGLU(nn.Module):
    """`W_out(Drop(SiLU(W_a x) * W_b x))` without biases, as in LiGR."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.gate_and_value = nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        gate, value = self.gate_and_value(x_BTD).chunk(2, -1)
        out: Tensor = self.out(self.drop(functional.silu(gate) * value))
        return out


class SASRecBlock(nn.Module):
    """The block of the SASRec paper and code: only the query is normed, and residuals start from normed values."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm_query, self.norm_inner = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, inner, nn.ReLU, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, mask: Tensor | None, adapters: Sequence[Adapter] = ()) -> Tensor:
        query = self.norm_query(x_BTD)
        x = self.norm_inner(query + adapted(adapters, 0, self.attention(query, x_BTD, mask)))
        out: Tensor = x + adapted(adapters, 1, self.drop(self.feed_forward(x)))
        return out


class PreNormBlock(nn.Module):
    """The usual pre-norm block with GELU."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention, self.norm_inner = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, 0.0)
        self.feed_forward = FeedForward(width, inner, nn.GELU, 0.0)
        self.drop = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, mask: Tensor | None, adapters: Sequence[Adapter] = ()) -> Tensor:
        normed = self.norm_attention(x_BTD)
        x = x_BTD + adapted(adapters, 0, self.drop(self.attention(normed, normed, mask)))
        out: Tensor = x + adapted(adapters, 1, self.drop(self.feed_forward(self.norm_inner(x))))
        return out


class LiGRBlock(nn.Module):
    """Pre-norm with residuals gated by the un-normed input (LiGR; eSASRec, RecSys 2025)."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention, self.norm_inner = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.feed_forward = Attention(width, heads, dropout), SwiGLU(width, inner, dropout)
        self.gate_attention, self.gate_inner = nn.Linear(width, width), nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, mask: Tensor | None, adapters: Sequence[Adapter] = ()) -> Tensor:
        normed = self.norm_attention(x_BTD)
        x = x_BTD + torch.sigmoid(self.gate_attention(x_BTD)) * adapted(adapters, 0, self.drop(self.attention(normed, normed, mask)))
        out: Tensor = x + torch.sigmoid(self.gate_inner(x)) * adapted(adapters, 1, self.drop(self.feed_forward(self.norm_inner(x))))
        return out


class BertBlock(nn.Module):
    """The post-norm block of BERT4Rec."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention, self.norm_inner = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = FeedForward(width, inner, nn.GELU, 0.0)
        self.drop = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, mask: Tensor | None, adapters: Sequence[Adapter] = ()) -> Tensor:
        x = self.norm_attention(x_BTD + adapted(adapters, 0, self.drop(self.attention(x_BTD, x_BTD, mask))))
        out: Tensor = self.norm_inner(x + adapted(adapters, 1, self.drop(self.feed_forward(x))))
        return out


BLOCKS: dict[BlockKind, type[nn.Module]] = {"sasrec": SASRecBlock, "prenorm": PreNormBlock, "ligr": LiGRBlock, "bert": BertBlock}
