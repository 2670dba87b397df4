"""Bias eliminators: what a frozen sequence network is given so that its user vectors say nothing of some attributes.

Source: Wu et al., "Selective Fairness in Recommendation via Prompts" (SIGIR 2022), section 3.3.

Shapes: B users, A attributes that may be left out, K eliminators, L layers, P prompt vectors, D width, T positions.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from tongtu.nn.adapters import BottleneckAdapter
from tongtu.nn.edits import LayerEdits
from tongtu.nn.profiles import ProfileBatch
from tongtu.nn.sequence import Promptable

Mode = Literal["combinations", "compositional"]
_STD = 0.01


@dataclass(frozen=True)
class ForgetBatch(ProfileBatch):
    """Item sequences, what their users tell of themselves (`profile` [B, A]), and which of it they want left out.

    Attributes:
        forget: bool[B, A].
        secret: int64[B, A], the true codes, also of what `profile` does not tell; 0 for unknown. None outside training.
    """

    forget: Tensor = dataclasses.field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.bool))
    secret: Tensor | None = None


def combination(forget_BA: Tensor) -> Tensor:
    """int64[B], the number of each row's combination of attributes; 0 is none."""
    return (forget_BA * 2 ** torch.arange(forget_BA.shape[1], device=forget_BA.device)).sum(1)


def chosen(forget_BA: Tensor, mode: Mode) -> Tensor:
    """bool[B, K], which eliminators each row takes: the one of its combination, or those of its attributes, which add up."""
    if mode == "compositional":
        return forget_BA
    K = 2 ** forget_BA.shape[1] - 1
    return combination(forget_BA)[:, None] == torch.arange(1, K + 1, device=forget_BA.device)


def how_many(attributes: int, mode: Mode) -> int:
    """K."""
    return attributes if mode == "compositional" else 2**attributes - 1


class PromptEliminators(nn.Module):
    """Task prompts, a prompt for each attribute's value, and adapters in each layer; those of several eliminators add up.

    Args:
        sizes: Codes of each attribute; code 0 is unknown.
        mode: What there is one of.
        base: The network.
        prompts: P, of each layer, besides one for each attribute.
        inner: Width within the adapters.
    """

    start: Tensor

    def __init__(self, sizes: Sequence[int], mode: Mode, base: Promptable, prompts: int, inner: int) -> None:
        super().__init__()
        K, L, self.mode = how_many(len(sizes), mode), base.layers, mode
        items_VD = base.item_vectors(slice(None)).detach()[1:]
        D = items_VD.shape[1]
        self.register_buffer("start", items_VD.mean(0))
        self.task = nn.Parameter(torch.randn(K, L, prompts, D) * items_VD.std(0))
        self.personal = nn.ParameterList(torch.randn(K, size, L, D) * _STD for size in sizes)
        self.adapters = nn.ModuleList(nn.ModuleList(AddedAdapters(K, D, inner) for _ in range(base.places)) for _ in range(L))

    def prompts(self, taken_BK: Tensor, profile_BA: Tensor) -> Tensor:
        """[L, B, P + A, D]."""
        weight_BK = taken_BK.to(self.start.dtype)
        task = torch.einsum("bk,klpd->lbpd", weight_BK, self.task)
        of_values = [torch.einsum("bk,kbld->lbd", weight_BK, table[:, codes]) for table, codes in zip(self.personal, profile_BA.unbind(1), strict=True)]
        return self.start + torch.cat([task, torch.stack(of_values, 2)], 2)

    def forward(self, base: Promptable, batch: ForgetBatch) -> Tensor:
        """States [B, T, D]."""
        taken_BK = chosen(batch.forget, self.mode)
        prefix = self.prompts(taken_BK, batch.profile) * base.input_scale
        adapters = [[partial(part, taken_BK) for part in layer.children()] for layer in self.adapters.children()]
        states = base.encode(base.embed(batch), batch, LayerEdits(prefix, adapters))
        return states[:, prefix.shape[2] :]


class AddedAdapters(nn.Module):
    """K adapters at one place; each row goes through those it takes, and their changes add up."""

    def __init__(self, K: int, width: int, inner: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(BottleneckAdapter(width, inner) for _ in range(K))

    def forward(self, taken_BK: Tensor, x: Tensor) -> Tensor:
        out = x
        for part, taken_B in zip(self.parts, taken_BK.unbind(1), strict=True):
            assert isinstance(part, BottleneckAdapter)
            rows = taken_B.nonzero()[:, 0]
            if len(rows):
                out = out.index_add(0, rows, part.change(x[rows]))
        return out


class FilterEliminators(nn.Module):
    """The baseline: a network on the user vector alone, which adds to it."""

    def __init__(self, attributes: int, mode: Mode, width: int, inner: int) -> None:
        super().__init__()
        self.mode = mode
        self.filters = AddedAdapters(how_many(attributes, mode), width, inner)

    def forward(self, base: Promptable, batch: ForgetBatch) -> Tensor:
        """States [B, T, D]."""
        out: Tensor = self.filters(chosen(batch.forget, self.mode), base.hidden(batch))
        return out


class Copy(nn.Module):
    """The other baseline: a copy of the network that may change as a whole, whatever is to be forgotten."""

    def __init__(self, base: Promptable) -> None:
        super().__init__()
        self.copy: Any = copy.deepcopy(cast(Any, base))
        self.copy.requires_grad_(True)

    def forward(self, base: Promptable, batch: ForgetBatch) -> Tensor:
        """States [B, T, D]."""
        states: Tensor = self.copy.hidden(batch)
        return states
