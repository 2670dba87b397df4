"""HSTU: hierarchical sequential transduction units (Zhai et al., "Actions Speak Louder than Words", ICML 2024).

Shapes: B sequences, T positions, D width, H heads, K width of a head's queries, keys and values.

A block has no softmax and no feed-forward part: `SiLU(QK^T + bias) / n` weighs the values, and a gate U multiplies what comes
out. The bias is a learned number for each distance in positions and one for each bucket of elapsed time, shared by the heads.
Time counts to the moment for which a row predicts: with `anchor = "request"` that is when the next item is asked for (its own
time in training), as in the authors' code; with "last_event" it is the row's own event, for services that must prepare their
answers ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from tongtu.config import configuration
from tongtu.core import PAD
from tongtu.nn.batch import Batch
from tongtu.nn.edits import Adapter, LayerEdits, adapted

_BUCKETS = 129
_LOG_WIDTH = 0.301  # of a time bucket: seconds grow by 35 % from one to the next


@configuration
class HSTUBodyConfig:
    """The size of an HSTU network.

    Attributes:
        max_length: Events of history that are read, the newest.
        width: Of item vectors and states.
        blocks, heads: Of the network.
        head_width: Width of a head's queries, keys and values; None for `width / heads`.
        dropout: Of the input and of each block's output.
        time_anchor: Time runs back from the "request" or from the "last_event"; see the module's text.
        use_time: Whether elapsed time is seen at all.
    """

    max_length: Annotated[int, Field(ge=1, le=10_000)] = 50
    width: Annotated[int, Field(ge=1)] = 64
    blocks: Annotated[int, Field(ge=1)] = 2
    heads: Annotated[int, Field(ge=1)] = 1
    head_width: Annotated[int, Field(ge=1)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    time_anchor: Literal["request", "last_event"] = "request"
    use_time: bool = True

    @property
    def inner(self) -> int:
        """Width of one head."""
        return self.head_width or max(1, self.width // self.heads)


class HSTUBlock(nn.Module):
    """One block: gate, attention by SiLU with position and time bias, projection, residual."""

    def __init__(self, config: HSTUBodyConfig) -> None:
        super().__init__()
        self.heads, self.inner = config.heads, config.inner
        across = config.heads * config.inner
        self.project = nn.Linear(config.width, 4 * across, bias=False)
        self.out = nn.Linear(across, config.width)
        self.position_bias = nn.Parameter(torch.empty(config.max_length + 1).normal_(0, 0.02))
        self.time_bias = nn.Parameter(torch.empty(_BUCKETS).normal_(0, 0.02))
        self.drop = nn.Dropout(config.dropout)
        self.over = config.max_length + 1  # the authors divide by the padded length, not by each sequence's own
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.xavier_uniform_(self.out.weight)

    def forward(self, x_BTD: Tensor, bucket_BTT: Tensor | None, prefix: int = 0, adapters: Sequence[Adapter] = ()) -> Tensor:
        B, T, D = x_BTD.shape
        mixed = functional.silu(self.project(functional.layer_norm(x_BTD, (D,))))
        u, v, q, k = mixed.view(B, T, 4, self.heads, self.inner).permute(2, 0, 3, 1, 4)
        places = torch.arange(T - prefix, device=x_BTD.device)
        distance = (places[:, None] - places).clamp(0, len(self.position_bias) - 1)
        bias = self.position_bias[distance]
        if bucket_BTT is not None:
            bias = bias + look_up(functional.pad(self.time_bias, (0, 1)), bucket_BTT)[:, None]
        if prefix:
            bias = functional.pad(bias, (prefix, 0, prefix, 0))
        weight_BHTT = functional.silu(q @ k.transpose(-1, -2) + bias).tril() / self.over
        y = functional.layer_norm((weight_BHTT @ v).transpose(1, 2).reshape(B, T, -1), (self.heads * self.inner,))
        out: Tensor = x_BTD + adapted(adapters, 0, self.out(self.drop(u.transpose(1, 2).reshape(B, T, -1) * y)))
        return out


class HSTUNet(nn.Module):
    """Item and position embeddings, HSTU blocks, and the item table as output layer; states are compared by cosine."""

    causal = True
    places = 1

    def __init__(self, config: HSTUBodyConfig, size: int) -> None:
        super().__init__()
        self.config = config
        self.item = nn.Embedding(size, config.width, padding_idx=PAD)
        self.position = nn.Embedding(config.max_length + 1, config.width)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(HSTUBlock(config) for _ in range(config.blocks))
        for table in (self.item, self.position):
            nn.init.trunc_normal_(table.weight, std=0.02, a=-0.04, b=0.04)
        with torch.no_grad():
            self.item.weight[PAD] = 0

    @property
    def layers(self) -> int:
        """See `Promptable`."""
        return len(self.blocks)

    @property
    def input_scale(self) -> float:
        """See `Promptable`."""
        return float(self.config.width**0.5)

    def embed(self, batch: Batch) -> Tensor:
        """Inputs [B, T, D] of the first block."""
        x = self.item(batch.item) * self.config.width**0.5 + self.position(batch.age)
        out: Tensor = self.drop(x)
        return out

    def encode(self, x_BTD: Tensor, batch: Batch, edits: LayerEdits | None = None) -> Tensor:
        """States [B, T, D] after all blocks; see `Promptable`."""
        edits = edits or LayerEdits()
        bucket = time_buckets(batch, self.config.time_anchor) if self.config.use_time else None
        for number, block in enumerate(self.blocks):
            x_BTD = block(edits.before(number, x_BTD), bucket, edits.width, edits.within(number))
        return x_BTD

    def hidden(self, batch: Batch) -> Tensor:
        """States [B, T, D] from which each position's next item is predicted."""
        return self.encode(self.embed(batch), batch)

    def item_vectors(self, items: slice) -> Tensor:
        """Vectors [I, D] of the item codes in a slice."""
        return self.item.weight[items]


def time_buckets(batch: Batch, anchor: Literal["request", "last_event"]) -> Tensor | None:
    """Buckets int64[B, T, T] of the time from each column's event to each row's anchor, `_BUCKETS` for an event of unknown time; None without times."""
    if batch.time is None:
        return None
    row = batch.time if anchor == "last_event" or batch.next_time is None else batch.next_time
    elapsed = (row[:, :, None] - batch.time[:, None, :]).clamp_min_(1).float()
    return elapsed.log_().div_(_LOG_WIDTH).clamp_max_(_BUCKETS - 1).long().masked_fill_((batch.time < 0)[:, None, :], _BUCKETS)


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """`table[index]` for a short table and a long index, with a gradient that is one weighted count."""
    found: Tensor = _LookUp.apply(table, index)  # type: ignore[no-untyped-call]
    return found


class _LookUp(torch.autograd.Function):
    """PyTorch's own gradient of indexing adds element by element, which takes longer than the attention itself."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows, ctx.kind = len(table), table.dtype
        return table[index]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        return torch.bincount(index.flatten(), gradients[0].flatten().float(), minlength=ctx.rows).to(ctx.kind), None
