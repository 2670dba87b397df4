"""Personalised prompts: from what is known of a user to vectors that stand before their history, in every layer.

Source: Wu et al., "Personalized Prompts for Sequential Recommendation" (TKDE 2024), sections 4.2 to 4.4.

Shapes: B users, F attributes, W numbers of a vector that tells of a user, L layers, P prompt vectors, D width, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tongtu.core import RequestBatch, Scores
from tongtu.nn.answer import blocks, trimmed
from tongtu.nn.batch import Batch, request_batch
from tongtu.nn.edits import LayerEdits
from tongtu.nn.losses import scaled
from tongtu.nn.profiles import ProfileBatch
from tongtu.nn.sequence import Promptable

_STD = 0.01

Known = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32] | None]


class PromptGenerator(nn.Module):
    """A table for each attribute, their rows side by side through two linear layers to the prompts of all layers.

    Args:
        sizes: Codes of each attribute; code 0 is unknown.
        width: D.
        layers: L.
        prompts: P.
        inner: Width between the two linear layers.
        told: W, or 0 where nothing is told in vectors.
    """

    def __init__(self, sizes: Sequence[int], width: int, layers: int, prompts: int = 1, inner: int = 128, told: int = 0) -> None:
        super().__init__()
        self.fields = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        self.read = nn.Linear(told, width) if told else None
        self.known = (len(sizes) + bool(told)) * width
        self.hidden, self.out = nn.Linear(self.known, inner), nn.Linear(inner, layers * prompts * width)
        self.shape = (layers, prompts, width)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=_STD)

    @property
    def prompts(self) -> int:
        """P."""
        return self.shape[1]

    def start(self, tables: Sequence[Tensor]) -> None:
        """Give the attributes' tables their first values [size, D]."""
        with torch.no_grad():
            for field, table in zip(self.fields.parameters(), tables, strict=True):
                field.copy_(table)

    def forward(self, profile_BF: Tensor, told_BW: Tensor | None = None, keep_BE: Tensor | None = None) -> Tensor:
        """Prompts [L, B, P, D].

        Args:
            profile_BF: Codes of attributes.
            told_BW: What is told in vectors.
            keep_BE: bool[B, known], which of the numbers that stand for all this are read; None for all.
        """
        parts = [field(codes) for field, codes in zip(self.fields.children(), profile_BF.unbind(1), strict=True)]
        if self.read is not None:
            assert told_BW is not None
            parts.append(self.read(told_BW))
        known = torch.cat(parts, 1)
        if keep_BE is not None:
            known = known * keep_BE
        layers, prompts, width = self.shape
        out: Tensor = self.out(torch.relu(self.hidden(known)))
        return out.view(-1, layers, prompts, width).transpose(0, 1)


class PromptedNet(nn.Module):
    """A sequence network behind prompts. It also has a state for users without any history: that of the last prompt vector.

    Args:
        base: The network; while it is frozen it gets no gradient and stays in evaluation mode.
        generator: Makes the prompts.
        frozen: Whether only the prompts learn.
    """

    def __init__(self, base: Promptable, generator: PromptGenerator, frozen: bool) -> None:
        super().__init__()
        assert isinstance(base, nn.Module) and base.causal
        self.base, self.generator, self.frozen = base, generator, frozen
        if frozen:
            base.requires_grad_(False)

    def hidden(self, batch: Batch) -> Tensor:
        """States [B, 1 + T, D]: before the first event, after it, after the second, ..."""
        return self.states(batch, None)

    def states(self, batch: Batch, keep_BE: Tensor | None) -> Tensor:
        """See `hidden`; `keep_BE` as in `PromptGenerator`."""
        assert isinstance(batch, ProfileBatch)
        prefix = self.generator(batch.profile, batch.told, keep_BE) * self.base.input_scale
        states: Tensor = self.base.encode(self.base.embed(batch), batch, LayerEdits(prefix))
        return states[:, self.generator.prompts - 1 :]

    def item_vectors(self, items: slice) -> Tensor:
        """See `SequenceModel`."""
        vectors: Tensor = self.base.item_vectors(items)
        return vectors

    def train(self, mode: bool = True) -> PromptedNet:
        """As every module, but a frozen base stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.base.eval()
        return self


def score_profiles(net: PromptedNet, requests: RequestBatch, known: Known, items: slice, last: int, temperature: float | None) -> Scores:
    """Scores float32[n, width of the slice] for each request, also for those without any history.

    Args:
        net, requests, known, last: As for `profile_states`.
        items: Item codes to score.
        temperature: Of cosine scores, None for dot products.
    """
    with torch.inference_mode():
        states, vectors = profile_states(net, requests, known, last), net.item_vectors(items).float().cpu()
        left, right = scaled(states, vectors, temperature)
        scores: Scores = (left @ right.T).numpy()
        return scores


def profile_states(net: PromptedNet, requests: RequestBatch, known: Known, last: int) -> Tensor:
    """States float32[n, D] after the newest known event of each history; where there is none, the state of the last prompt vector.

    Args:
        net: The network, in evaluation mode.
        requests: Any histories.
        known: Attribute codes int64[n, F], and what is told in vectors float32[n, W].
        last: Events of history the network reads.
    """
    with torch.inference_mode():
        batch, profile = request_batch(requests, last), torch.from_numpy(known[0])
        told = None if known[1] is None else torch.from_numpy(known[1])
        vector = net.item_vectors(slice(0, 1))
        states = torch.zeros(len(requests), vector.shape[1])
        order = torch.argsort(batch.length, stable=True)
        for place in blocks(batch.length[order]):
            rows = order[place]
            part = trimmed(batch, rows)
            some = None if told is None else told[rows]
            asked = ProfileBatch(part.item, part.length, time=part.time, next_time=part.next_time, profile=profile[rows], told=some)
            hidden = net.hidden(asked.to(vector.device))
            states[rows] = hidden[torch.arange(len(rows)), part.length].float().cpu()
        return states
