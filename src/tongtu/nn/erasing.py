"""What is taken out of user vectors in closed form: the mean of a value that is told, the direction of an attribute that is not.

Of users who tell their values, what vectors of those values have in common is subtracted: ridge regression of vectors on values. That costs no dimension.
Of others, the directions along which their attributes show are projected out (Belrose et al., "LEACE: Perfect linear concept erasure in closed
form", NeurIPS 2023, section 4; theirs takes as many directions as an attribute has values less one, ours the strongest few).

Shapes: N vectors, D width, A attributes, C values of all attributes together, S combinations of attributes (0 is none).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tongtu.nn.eliminators import combination

_RIDGE = 3e-3  # beside the mean variance: states behind a LayerNorm lie in fewer dimensions than they have
_TINY = 1e-9
_DOUBT = 100  # users whose vectors must tell of a value before half of what they have in common is believed


class Eraser(nn.Module):
    """What is taken out for each combination of attributes; at first nothing.

    Args:
        counts: For each attribute, how many users have each value; the first is code 1's.
        width: D.
        directions: Taken out for each attribute; an attribute of two values has but one.
    """

    mean: Tensor
    covariance: Tensor
    cross: Tensor
    map: Tensor
    seen: Tensor
    within: Tensor
    offset: Tensor
    shares: Tensor
    users: Tensor

    def __init__(self, counts: Sequence[Tensor], width: int, directions: int) -> None:
        super().__init__()
        S, C = 2 ** len(counts), sum(len(count) for count in counts)
        ends = list(itertools.accumulate(len(count) for count in counts))
        self.places = [slice(end - len(count), end) for end, count in zip(ends, counts, strict=True)]
        self.directions = directions
        self.register_buffer("shares", torch.cat([count / count.sum().clamp_min(1) for count in counts]).float())
        self.register_buffer("users", torch.stack([count.sum() for count in counts]).max().float())
        self.register_buffer("seen", torch.zeros(S))
        self.register_buffer("mean", torch.zeros(S, width))
        self.register_buffer("covariance", torch.zeros(S, width, width))
        self.register_buffer("cross", torch.zeros(S, C, width))
        self.register_buffer("within", torch.zeros(S, C, C))
        self.register_buffer("offset", torch.zeros(S, C, width))
        self.register_buffer("map", torch.eye(width).repeat(S, 1, 1))

    def forward(self, states_BTD: Tensor, forget_BA: Tensor, told_BA: Tensor) -> Tensor:
        """The states, each row without what is to be forgotten; `told_BA` has the codes of what is told, 0 for unknown."""
        number_B = combination(forget_BA)
        mean_B1D = self.mean[number_B][:, None]
        projected = mean_B1D + (states_BTD - mean_B1D) @ self.map[number_B].transpose(1, 2)
        shifted = states_BTD - (self._centred(told_BA)[:, None] @ self.offset[number_B])
        silent_B = (forget_BA & (told_BA == 0)).any(1)
        return torch.where(silent_B[:, None, None], projected, shifted)

    @torch.no_grad()
    def forget(self) -> None:
        """Start anew."""
        for table in (self.seen, self.mean, self.covariance, self.cross, self.within):
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
            self.within[number].lerp_(z.T @ z / len(x), weight)
            self.offset[number], self.map[number] = self._offset(number), self._map(number)

    def _centred(self, secret_NA: Tensor) -> Tensor:
        """[N, C], whether a user has a value, less the share of those who do; zeros where it is unknown."""
        parts = []
        for codes, place in zip(secret_NA.unbind(1), self.places, strict=True):
            share = self.shares[place]
            one_hot = functional.one_hot(codes, len(share) + 1)[:, 1:] - share
            parts.append(one_hot * (codes > 0)[:, None])
        return torch.cat(parts, 1)

    def _offset(self, number: int) -> Tensor:
        """[C, D], what vectors of each value have in common; zeros for attributes that are not in the combination."""
        asked = torch.cat([torch.full((place.stop - place.start,), number >> attribute & 1) for attribute, place in enumerate(self.places)])
        asked = asked.to(self.shares)[:, None]
        doubt = _DOUBT / self.users.clamp_min(1) * torch.eye(len(asked), device=asked.device)
        found: Tensor = torch.linalg.solve(self.within[number] * asked * asked.T + doubt, self.cross[number] * asked)
        return found

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
                spread = (self.shares[place] * (1 - self.shares[place])).clamp_min(_TINY).sqrt()
                cross = (self.cross[number, place] / spread[:, None]).double()
                strongest = min(self.directions, len(cross) - 1, len(unit))
                found.append(torch.linalg.svd(cross @ whiten, full_matrices=False)[2][:strongest])
        basis = torch.linalg.qr(torch.cat(found).T)[0]
        made: Tensor = (unit - back @ basis @ basis.T @ whiten).float()
        return made
