"""The item-sequence network of SASRec and BERT4Rec, and the protocols of networks and objectives."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from tongtu.config import configuration
from tongtu.core import PAD
from tongtu.nn.batch import Batch
from tongtu.nn.edits import LayerEdits
from tongtu.nn.transformer import BLOCKS, BlockKind


class SequenceModel(Protocol):
    """What objectives see of a network."""

    def hidden(self, batch: Batch) -> Tensor:
        """States [B, T, D] from which the item at each position's target is predicted."""
        ...

    def item_vectors(self, items: slice) -> Tensor:
        """Vectors [I, D] of the item codes in a slice; a score is a dot product of state and item vector."""
        ...


@runtime_checkable
class Promptable(SequenceModel, Protocol):
    """What prompts and adapters besides see of a network: its layers, and a way through them."""

    causal: bool
    places: int

    @property
    def layers(self) -> int:
        """How many layers there are; each has `places` for adapters."""
        ...

    @property
    def input_scale(self) -> float:
        """How many times as long as its vector an item's input of the first layer is."""
        ...

    def embed(self, batch: Batch) -> Tensor:
        """Inputs [B, T, D] of the first layer."""
        ...

    def encode(self, x_BTD: Tensor, batch: Batch, edits: LayerEdits | None = None) -> Tensor:
        """States [B, T, D] after all layers; with a prefix of P vectors [B, P + T, D], the prefix's first."""
        ...


class Objective(Protocol):
    """What a network learns from whole sequences."""

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        """Whole sequences to inputs and targets; every random choice comes from `draw`."""
        ...

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
        """The loss summed over all targets of a marked batch."""
        ...


@configuration
class BodyConfig:
    """The size of a Transformer over item sequences.

    Attributes:
        max_length: Events of history that are read, the newest.
        width: Of item vectors and states.
        blocks, heads: Of the Transformer.
        inner: Width of the feed-forward part, as a multiple of `width`.
        dropout: Of embeddings and block outputs.
        block: "sasrec" as in the paper, "prenorm", "ligr" (gated, eSASRec) or "bert" (post-norm).
        positions: "absolute" adds a vector for each age to the input; "relative" adds a number for each distance to the
            attention of each head, as T5 does (Raffel et al., JMLR 2020, section 2.1).
    """

    max_length: Annotated[int, Field(ge=1, le=10_000)] = 50
    width: Annotated[int, Field(ge=1)] = 64
    blocks: Annotated[int, Field(ge=1)] = 2
    heads: Annotated[int, Field(ge=1)] = 1
    inner: Annotated[float, Field(gt=0)] = 4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    block: BlockKind = "prenorm"
    positions: Literal["absolute", "relative"] = "absolute"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")


class SequenceBody(nn.Module):
    """A Transformer over item vectors that come from anywhere: a table, or an encoder of texts.

    Positions are counted from the newest event backwards (`Batch.age`). Whoever builds on it calls `start` at the end.

    Args:
        config: The size.
        causal: Left to right if true, else every position sees all others.
        item: A table to hold before everything else: the order of creation decides what a seed gives.
    """

    places = 2

    def __init__(self, config: BodyConfig, causal: bool = True, item: nn.Embedding | None = None) -> None:
        super().__init__()
        D = config.width
        self.causal = causal
        self.scale = 1.0 if config.block == "bert" else D**0.5  # BERT norms its input; elsewhere items must outweigh what blocks add to them
        if item is not None:
            self.item = item
        absolute = config.positions == "absolute"
        self.position = nn.Embedding(config.max_length + 1, D) if absolute else None
        self.distance = None if absolute else nn.Parameter(torch.zeros(config.blocks, config.heads, 2 * config.max_length + 1))
        self.drop = nn.Dropout(config.dropout)
        self.norm_input = nn.LayerNorm(D) if config.block == "bert" else nn.Identity()
        inner = round(D * config.inner)
        self.blocks = nn.ModuleList(BLOCKS[config.block](D, config.heads, inner, config.dropout) for _ in range(config.blocks))
        self.norm_output = nn.Identity() if config.block == "bert" else nn.LayerNorm(D)

    def start(self, *tables: nn.Embedding) -> None:
        """Small random numbers for `tables`, whose row `PAD` is zero, and for the positions."""
        for table in (*tables, self.position):
            if table is not None:
                nn.init.trunc_normal_(table.weight, std=0.02, a=-0.04, b=0.04)
        with torch.no_grad():
            for table in tables:
                table.weight[PAD] = 0

    def inputs(self, item_BTD: Tensor, batch: Batch) -> Tensor:
        """Item vectors as inputs [B, T, D] of the first block."""
        x = item_BTD * self.scale
        if self.position is not None:
            x = x + self.position(batch.age)
        out: Tensor = self.drop(self.norm_input(x))
        return out

    @property
    def layers(self) -> int:
        """See `Promptable`."""
        return len(self.blocks)

    @property
    def input_scale(self) -> float:
        """See `Promptable`."""
        return self.scale

    def encode(self, x_BTD: Tensor, batch: Batch, edits: LayerEdits | None = None) -> Tensor:
        """States [B, T, D] after all blocks; see `Promptable`."""
        edits = edits or LayerEdits()
        T, P = x_BTD.shape[1], edits.width
        seen = None if self.causal else _behind(batch.valid, P)[:, None, None, :]
        for number, block in enumerate(self.blocks):
            mask = seen if self.distance is None else self._bias(self.distance[number], seen, T, P)
            x_BTD = block(edits.before(number, x_BTD), mask, edits.within(number))
        out: Tensor = self.norm_output(x_BTD)
        return out

    def _bias(self, distance_HL: Tensor, seen: Tensor | None, T: int, P: int) -> Tensor:
        """What attention adds to its logits, [1 or B, H, P + T, P + T]: a number for each distance of items, 0 for prefixes, -inf where nothing may be seen."""
        places = torch.arange(P + T, device=distance_HL.device)
        apart = places[:, None] - places
        near = (apart[P:, P:] + distance_HL.shape[1] // 2).clamp(0, distance_HL.shape[1] - 1)
        bias = distance_HL[:, near]
        if P:
            bias = functional.pad(bias, (P, 0, P, 0))
        return bias[None].masked_fill(apart < 0 if seen is None else ~seen, -torch.inf)


def _behind(valid_BT: Tensor, P: int) -> Tensor:
    """bool[B, P + T]: what is real behind a prefix of P vectors, which always are."""
    return functional.pad(valid_BT, (P, 0), value=True) if P else valid_BT


class ItemSequenceNet(SequenceBody):
    """A table of item vectors, a `SequenceBody`, and the same table as output layer.

    Args:
        config: The size.
        size: Item codes, `PAD` included.
        causal: Left to right if true, else every position sees all others.
        extra: Input codes behind the items that are never answers (the [MASK] of BERT4Rec).
        head: Whether states pass dense-GELU-LayerNorm and item logits get a bias, as in BERT4Rec.
    """

    def __init__(self, config: BodyConfig, size: int, causal: bool = True, extra: int = 0, head: bool = False) -> None:
        D = config.width
        super().__init__(config, causal, nn.Embedding(size + extra, D, padding_idx=PAD))
        self.size = size
        self.head = nn.Sequential(nn.Linear(D, D), nn.GELU(), nn.LayerNorm(D)) if head else None
        self.bias = nn.Parameter(torch.zeros(size)) if head else None
        self.start(self.item)

    def embed(self, batch: Batch) -> Tensor:
        """Inputs [B, T, D] of the first block."""
        return self.inputs(self.item(batch.item), batch)

    def hidden(self, batch: Batch) -> Tensor:
        """See `SequenceModel`; with a head, states carry a constant 1 that meets the item bias."""
        x = self.encode(self.embed(batch), batch)
        if self.head is None:
            return x
        x = self.head(x)
        return torch.cat([x, x.new_ones(*x.shape[:-1], 1)], -1)

    def item_vectors(self, items: slice) -> Tensor:
        """See `SequenceModel`."""
        vectors = self.item.weight[: self.size][items]
        return vectors if self.bias is None else torch.cat([vectors, self.bias[items, None]], 1)
