from __future__ import annotations

import torch
from torch import nn

from tongtu.nn.answer import Undrawn


def test_a_network_that_gets_saved_weights_is_made_without_drawing_and_without_end() -> None:
    state = torch.random.get_rng_state()
    with Undrawn():
        table = torch.full((200, 8), 9.0)
        nn.init.trunc_normal_(table, std=0.02, a=-0.04, b=0.04)
        layer = nn.Linear(8, 8)
    assert not table.any() and torch.isfinite(layer.weight).all()
    assert torch.equal(torch.random.get_rng_state(), state)
