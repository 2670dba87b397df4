"""A frozen sequence network, its eliminators and the map behind them: states that have forgotten what a request says.

Shapes: B users, A attributes, D width, T positions.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tongtu.core import RequestBatch
from tongtu.nn.answer import blocks, trimmed
from tongtu.nn.batch import Batch, request_batch
from tongtu.nn.eliminators import Copy, FilterEliminators, ForgetBatch, PromptEliminators, combination
from tongtu.nn.erasing import Eraser
from tongtu.nn.sequence import Promptable

_PLACES = (0.25, 0.5, 0.75, 1.0)  # of a history, after which its user's vector is looked at
_NEWEST = 0.02  # weight of the newest batch in what the map knows of the states


Kind = PromptEliminators | FilterEliminators | Copy


class ForgetfulNet(nn.Module):
    """A frozen sequence network whose states forget what a `ForgetBatch` says.

    Args:
        base: The network; it gets no gradient and stays in evaluation mode.
        eliminators: Make its states forget.
        eraser: Takes out what shows all the same, or None.
        adversary: Tries to infer what was forgotten; needed in training alone.
        rate: Its learning rate, as a multiple.
    """

    def __init__(self, base: Promptable, eliminators: Kind, eraser: Eraser | None, adversary: nn.Module | None, rate: float) -> None:
        super().__init__()
        assert isinstance(base, nn.Module) and base.causal
        self.base, self.eliminators, self.eraser, self.adversary = base, eliminators, eraser, adversary
        self.rate_factors = {"adversary.": rate}
        base.requires_grad_(False)

    def hidden(self, batch: Batch) -> Tensor:
        """See `SequenceModel`."""
        assert isinstance(batch, ForgetBatch)
        states: Tensor = self.eliminators(self.base, batch)
        if self.eraser is None:
            return states
        if self.training:
            self._watch(self.eraser, states, batch, _NEWEST)
        erased: Tensor = self.eraser(states, batch.forget, batch.profile)
        return erased

    @torch.inference_mode()
    def settle(self, batches: Iterable[ForgetBatch]) -> None:
        """Give the map its last form, by the states of the weights as they are."""
        if self.eraser is not None:
            self.eraser.forget()
            for batch in batches:
                self._watch(self.eraser, self.eliminators(self.base, batch), batch, 0.0)

    def _watch(self, eraser: Eraser, states: Tensor, batch: ForgetBatch, newest: float) -> None:
        assert batch.secret is not None
        x, row = user_states(states.detach(), batch.length)
        eraser.watch(x, combination(batch.forget)[row], batch.secret[row], newest)

    def item_vectors(self, items: slice) -> Tensor:
        """See `SequenceModel`."""
        net = self.eliminators.copy if isinstance(self.eliminators, Copy) else self.base
        vectors: Tensor = net.item_vectors(items)
        return vectors

    def train(self, mode: bool = True) -> ForgetfulNet:
        """As every module, but the base stays in evaluation mode."""
        super().train(mode)
        self.base.eval()
        return self


def user_states(states_BTD: Tensor, length_B: Tensor) -> tuple[Tensor, Tensor]:
    """Users' vectors [N, D] after histories of several lengths, and int64[N], whose they are."""
    place = (length_B[:, None] * torch.tensor(_PLACES, device=length_B.device)).ceil().long().clamp_min(1) - 1
    row = torch.arange(len(length_B), device=length_B.device).repeat_interleave(len(_PLACES))
    return states_BTD[row, place.flatten()], row


def forgetful_states(net: ForgetfulNet, requests: RequestBatch, profile: npt.NDArray[np.int64], forget: npt.NDArray[np.bool_], last: int) -> Tensor:
    """States float32[n, D] after the newest known event of each history, zeros where there is none.

    Args:
        net: The network, in evaluation mode.
        requests: n requests.
        profile: int64[n, A], what they tell of their users.
        forget: bool[n, A], what they want forgotten.
        last: Events of history the network reads.
    """
    with torch.inference_mode():
        batch, vector = request_batch(requests, last), net.item_vectors(slice(0, 1))
        states = torch.zeros(len(requests), vector.shape[1])
        known = torch.argsort(batch.length, stable=True)
        known = known[batch.length[known] > 0]
        for place in blocks(batch.length[known]):
            rows = known[place]
            part, told, left = trimmed(batch, rows), torch.from_numpy(profile)[rows], torch.from_numpy(forget)[rows]
            asked = ForgetBatch(part.item, part.length, time=part.time, next_time=part.next_time, profile=told, forget=left)
            hidden = net.hidden(asked.to(vector.device))
            states[rows] = hidden[torch.arange(len(rows)), part.length - 1].float().cpu()
        return states
