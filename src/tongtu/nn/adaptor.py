"""From text vectors to item vectors: parametric whitening and a mixture of experts (UniSRec, Hou et al., KDD 2022, section 2.2).

Shapes: N items, W width of a text vector, D of an item vector, G experts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEAST_NOISE = 0.01
_START_STD = 0.06  # text vectors of length 1, less their mean, have small features; the authors start at .02 from longer ones


class MixtureAdaptor(nn.Module):
    """`sum_k g_k(x) W_k (dropout_k(x) - b_k)`: each expert is a parametric whitening, each item mixes all of them by its own gate.

    Gates are `softmax(x V + noise)`, and in training the noise is normal with the scale `softplus(x U) + 0.01`; V and U start
    at zero, so at first all experts weigh alike. How ours differs: an expert drops the same features of all items in a step,
    which is a mask on its weights; a mask for every item of a catalogue would cost as much as the products.

    Args:
        text_width: W.
        width: D.
        experts: G; a single one is plain parametric whitening.
        dropout: Of the text vectors.
    """

    def __init__(self, text_width: int, width: int, experts: int = 8, dropout: float = 0.2) -> None:
        super().__init__()
        self.width, self.experts = width, experts
        self.whitening = nn.Parameter(torch.empty(experts * width, text_width).normal_(0, _START_STD))
        self.mean = nn.Parameter(torch.zeros(experts, text_width))
        self.gate = nn.Parameter(torch.zeros(experts, text_width))
        self.noise = nn.Parameter(torch.zeros(experts, text_width))
        self.drop = nn.Dropout(dropout)  # of an expert's features

    def forward(self, text_NW: Tensor) -> Tensor:
        """Item vectors [N, D] of text vectors [N, W]."""
        whitening_GDW = self.whitening.view(self.experts, self.width, -1)
        shift_GD = torch.einsum("gdw,gw->gd", whitening_GDW, self.mean)
        kept_GDW = whitening_GDW * self.drop(self.mean.new_ones(self.mean.shape))[:, None]
        out_NGD = functional.linear(text_NW, kept_GDW.flatten(0, 1), -shift_GD.flatten()).view(-1, self.experts, self.width)
        if self.experts == 1:
            return out_NGD[:, 0]
        return (out_NGD * self.gates(text_NW)[:, :, None]).sum(1)  # a batched product of such small matrices is slower

    @torch.no_grad()
    def centre(self, text_VW: Tensor) -> None:
        """Start from the mean of a catalogue's texts: what all of them share says nothing, and takes long to be unlearned."""
        known = text_VW[(text_VW != 0).any(-1)]
        if len(known):
            self.mean.copy_(known.mean(0).expand_as(self.mean))

    def gates(self, text_NW: Tensor) -> Tensor:
        """What each expert weighs for each item, [N, G]; rows sum to 1."""
        logits = text_NW @ self.gate.T
        if self.training:
            scale = functional.softplus(text_NW @ self.noise.T) + _LEAST_NOISE
            logits = logits + torch.randn_like(logits) * scale
        return torch.softmax(logits, -1)
