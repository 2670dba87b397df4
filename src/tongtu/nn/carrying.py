"""What a network has learned, given to a new one of the same settings whose catalogue may be another."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tongtu.core import PAD, Codes

_BY_ITEM = ("item.weight", "bias")  # of a network over items: one row a code, and behind them rows that are no items, such as [MASK]


def carry_over(net: nn.Module, start: nn.Module, places: Codes) -> None:
    """Copy the weights of `start` into `net`; items that `start` does not know keep the vectors they have.

    Args:
        net: The new network.
        start: The one that has learned.
        places: int32[items of `net`, PAD included], the code that each item has in `start`, `PAD` where it has none.
    """
    learned, new = start.state_dict(), net.state_dict()
    known = np.flatnonzero(places != PAD)
    rows, old_rows = torch.from_numpy(known), torch.from_numpy(places[known].astype(np.int64))
    with torch.no_grad():
        for name, tensor in new.items():
            given: Tensor = learned[name]
            if name in _BY_ITEM:
                tensor[rows] = given[old_rows]
                behind = len(tensor) - len(places)
                if behind:
                    tensor[-behind:] = given[-behind:]
            else:
                tensor.copy_(given)
