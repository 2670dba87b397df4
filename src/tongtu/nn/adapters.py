"""Other light ways to tune a sequence network: adapters in its layers, and low-rank changes of its linear maps.

Sources: Houlsby et al., "Parameter-Efficient Transfer Learning for NLP" (ICML 2019); Hu et al., "LoRA" (ICLR 2022).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tongtu.core import PAD
from tongtu.nn.batch import Batch
from tongtu.nn.edits import LayerEdits
from tongtu.nn.sequence import Promptable

Way = Literal["none", "all", "adapter", "lora"]
_STD = 0.01


class BottleneckAdapter(nn.Module):
    """`x + up(ReLU(down(LayerNorm(x))))`, close to `x` in the beginning."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm, self.down, self.up = nn.LayerNorm(width), nn.Linear(width, inner), nn.Linear(inner, width)
        for linear in (self.down, self.up):
            nn.init.normal_(linear.weight, std=_STD)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(x)

    def change(self, x: Tensor) -> Tensor:
        """What is added to `x`."""
        out: Tensor = self.up(torch.relu(self.down(self.norm(x))))
        return out


class LowRank(nn.Module):
    """What is added to a linear map's output: `up(down(x))` of some rank, nothing in the beginning."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(linear.in_features, rank, bias=False), nn.Linear(rank, linear.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.up(self.down(x))
        return out


class AdaptedNet(nn.Module):
    """A sequence network that is tuned.

    Args:
        base: The network. Unless everything learns, it gets no gradient and stays in evaluation mode; "lora" hooks itself to its linear maps.
        way: What learns.
        rank: Inner width of adapters, or the rank of LoRA.
    """

    def __init__(self, base: Promptable, way: Way, rank: int) -> None:
        super().__init__()
        assert isinstance(base, nn.Module)
        self.base, self.frozen = base, way != "all"
        base.requires_grad_(not self.frozen)
        width = base.item_vectors(slice(PAD, 1)).shape[1]
        layers, places = (base.layers, base.places) if way == "adapter" else (0, 0)
        self.adapters = nn.ModuleList(nn.ModuleList(BottleneckAdapter(width, rank) for _ in range(places)) for _ in range(layers))
        linear = {name: part for name, part in base.named_modules() if isinstance(part, nn.Linear) and name.startswith("blocks.")} if way == "lora" else {}
        self.changes = nn.ModuleDict({name.replace(".", "-"): LowRank(part, rank) for name, part in linear.items()})
        for name, part in linear.items():
            part.register_forward_hook(_Adding(self.changes[name.replace(".", "-")]))

    def hidden(self, batch: Batch) -> Tensor:
        """See `SequenceModel`."""
        edits = LayerEdits(adapters=[list(layer.children()) for layer in self.adapters]) if len(self.adapters) else None
        states: Tensor = self.base.encode(self.base.embed(batch), batch, edits)
        return states

    def item_vectors(self, items: slice) -> Tensor:
        """See `SequenceModel`."""
        vectors: Tensor = self.base.item_vectors(items)
        return vectors

    def train(self, mode: bool = True) -> AdaptedNet:
        """As every module, but a frozen base stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.base.eval()
        return self


class _Adding:
    """Adds to what a linear map gives."""

    def __init__(self, change: nn.Module) -> None:
        self.change = change

    def __call__(self, linear: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        added: Tensor = self.change(inputs[0])
        return output + added
