"""A closed-form map that takes out of user vectors the directions along which an attribute shows.

Source: Belrose et al., "LEACE: Perfect linear concept erasure in closed form" (NeurIPS 2023), section 4. Theirs takes out as many
directions as an attribute has values less one; ours the strongest few of each attribute, and it is learned batch by batch.

Shapes: N vectors, D width, A attributes, C values of all attributes together, S combinations of attributes (0 is none).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_RIDGE = 3e-3  # beside the mean variance: states behind a LayerNorm lie in fewer dimensions than they have
_TINY = 1e-9


class Eraser(nn.Module):
    """One map for each combination of attributes; at first none changes anything.

    Args:
        shares: For each attribute, the share of the users who have each value; the first is code 1's.
        width: D.
        directions: Taken out for each attribute; an attribute of two values has but one.
    """

    mean: Tensor
    covariance: Tensor
    cross: Tensor
    map: Tensor
    seen: Tensor
    shares: Tensor

    def __init__(self, shares: Sequence[Tensor], width: int, directions: int) -> None:
        super().__init__()
        S, C = 2 ** len(shares), sum(len(share) for share in shares)
        ends = list(itertools.accumulate(len(share) for share in shares))
        self.places = [slice(end - len(share), end) for end, share in zip(ends, shares, strict=True)]
        self.directions = directions
        self.register_buffer("shares", torch.cat([share.float() for share in shares]))
        self.register_buffer("seen", torch.zeros(S))
        self.register_buffer("mean", torch.zeros(S, width))
        self.register_buffer("covariance", torch.zeros(S, width, width))
        self.register_buffer("cross", torch.zeros(S, C, width))
        self.register_buffer("map", torch.eye(width).repeat(S, 1, 1))

    def forward(self, states_BTD: Tensor, combination_B: Tensor) -> Tensor:
        """The states, each row without what its combination says."""
        mean_B1D = self.mean[combination_B][:, None]
        return mean_B1D + (states_BTD - mean_B1D) @ self.map[combination_B].transpose(1, 2)

    @torch.no_grad()
    def forget(self) -> None:
        """Start anew."""
        for table in (self.seen, self.mean, self.covariance, self.cross):
            table.zero_()

    @torch.no_grad()
    def watch(self, x_ND: Tensor, combination_N: Tensor, secret_NA: Tensor, newest: float) -> None:
        """Learn from some vectors and the codes of their users' attributes, 0 for unknown.

        Args:
            newest: How much the newest batch weighs at least; 0 gives all batches the same weight.
        """
        for number in sorted(set(combination_N.tolist())):
            if not number:
                continue
            rows = combination_N == number
            x, z = x_ND[rows], self._centred(secret_NA[rows])
            self.seen[number] += 1
            weight = max(newest, 1 / float(self.seen[number]))
            self.mean[number].lerp_(x.mean(0), weight)
            x = x - self.mean[number]
            self.covariance[number].lerp_(x.T @ x / len(x), weight)
            self.cross[number].lerp_(z.T @ x / len(x), weight)
            self.map[number] = self._map(number)

    def _centred(self, secret_NA: Tensor) -> Tensor:
        """[N, C], whether a user has a value, less the share of those who do; zeros where it is unknown."""
        parts = []
        for codes, place in zip(secret_NA.unbind(1), self.places, strict=True):
            share = self.shares[place]
            one_hot = functional.one_hot(codes, len(share) + 1)[:, 1:] - share
            parts.append(one_hot * (codes > 0)[:, None] / (share * (1 - share)).clamp_min(_TINY).sqrt())
        return torch.cat(parts, 1)

    def _map(self, number: int) -> Tensor:
        """[D, D]: whiten, project the directions out, and put the rest back as it was."""
        covariance = self.covariance[number].double()
        unit = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        value, vector = torch.linalg.eigh(covariance + (_RIDGE * covariance.diagonal().mean() + _TINY) * unit)
        root = value.clamp_min(_TINY).sqrt()
        whiten, back = (vector / root) @ vector.T, (vector * root) @ vector.T
        found = []
        for attribute, place in enumerate(self.places):
            if number >> attribute & 1:
                cross = self.cross[number, place].double()
                strongest = min(self.directions, len(cross) - 1, len(unit))
                found.append(torch.linalg.svd(cross @ whiten, full_matrices=False)[2][:strongest])
        basis = torch.linalg.qr(torch.cat(found).T)[0]
        made: Tensor = (unit - back @ basis @ basis.T @ whiten).float()
        return made
