"""Personalised prompts: from what is known of a user to vectors that stand before their history, in every layer.

Source: Wu et al., "Personalized Prompts for Sequential Recommendation" (TKDE 2024), sections 4.2 to 4.4.

Shapes: B users, F attributes, L layers, P prompt vectors, D width, T positions.
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


class PromptGenerator(nn.Module):
    """A table for each attribute, their rows side by side through two linear layers to the prompts of all layers.

    Args:
        sizes: Codes of each attribute; code 0 is unknown.
        width: D.
        layers: L.
        prompts: P.
        inner: Width between the two linear layers.
    """

    def __init__(self, sizes: Sequence[int], width: int, layers: int, prompts: int = 1, inner: int = 128) -> None:
        super().__init__()
        self.fields = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        self.hidden, self.out = nn.Linear(len(sizes) * width, inner), nn.Linear(inner, layers * prompts * width)
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

    def forward(self, profile_BF: Tensor, keep_BE: Tensor | None = None) -> Tensor:
        """Prompts [L, B, P, D].

        Args:
            profile_BF: Codes.
            keep_BE: bool[B, F * D], the numbers of the attributes' vectors that are read; None for all.
        """
        known = torch.cat([field(codes) for field, codes in zip(self.fields.children(), profile_BF.unbind(1), strict=True)], 1)
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
        prefix = self.generator(batch.profile, keep_BE) * self.base.input_scale
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


def score_profiles(net: PromptedNet, requests: RequestBatch, profile: npt.NDArray[np.int64], items: slice, last: int, temperature: float | None) -> Scores:
    """Scores float32[n, width of the slice] for each request, also for those without any history.

    Args:
        net: The network, in evaluation mode.
        requests: Any histories.
        profile: int64[n, F], attribute codes.
        items: Item codes to score.
        last: Events of history the network reads.
        temperature: Of cosine scores, None for dot products.
    """
    with torch.inference_mode():
        batch, known = request_batch(requests, last), torch.from_numpy(profile)
        vectors = net.item_vectors(items)
        states = torch.zeros(len(requests), vectors.shape[1])
        order = torch.argsort(batch.length, stable=True)
        for place in blocks(batch.length[order]):
            rows = order[place]
            part = trimmed(batch, rows)
            asked = ProfileBatch(part.item, part.length, time=part.time, next_time=part.next_time, profile=known[rows])
            hidden = net.hidden(asked.to(vectors.device))
            states[rows] = hidden[torch.arange(len(rows)), part.length].float().cpu()
        left, right = scaled(states, vectors.float().cpu(), temperature)
        scores: Scores = (left @ right.T).numpy()
        return scores
