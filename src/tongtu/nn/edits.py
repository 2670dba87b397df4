"""Changes to what a sequence network computes that leave its weights alone: prefixes before each layer, adapters within it.

Shapes: L layers, B sequences, P prefix vectors, D width, T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Adapter = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LayerEdits:
    """What is put into a network's layers.

    Attributes:
        prefix: [L, B, P, D], vectors that stand before position 0. Before every layer they are overwritten by the layer's own, every position
            sees them, and neither positions nor ages of items move. They are in the units of the layers' inputs.
        adapters: For each layer one function for each of its places (`Promptable.places`): after attention and after the feed-forward
            part, before what they give is added to the layer's input.
    """

    prefix: Tensor | None = None
    adapters: Sequence[Sequence[Adapter]] | None = None

    @property
    def width(self) -> int:
        """P, how many vectors stand before position 0."""
        return 0 if self.prefix is None else self.prefix.shape[2]

    def before(self, layer: int, x_BTD: Tensor) -> Tensor:
        """The input [B, P + T, D] of a layer, from the items' inputs [B, T, D] of the first or the output of the layer before."""
        if self.prefix is None:
            return x_BTD
        return torch.cat([self.prefix[layer], x_BTD if layer == 0 else x_BTD[:, self.width :]], 1)

    def within(self, layer: int) -> Sequence[Adapter]:
        """The adapters of a layer; none where there are none."""
        return () if self.adapters is None else self.adapters[layer]


def adapted(adapters: Sequence[Adapter], place: int, x: Tensor) -> Tensor:
    """`x` through the adapter of a place, if there is one."""
    return adapters[place](x) if adapters else x
