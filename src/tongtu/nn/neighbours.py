"""Smoothing of targets towards items that follow the same history elsewhere in the training data.

In a short, sparse log one position shows one next item, though dozens would have done: a plain softmax learns to push those
down. Here part of the target goes to co-occurrence neighbours of the newest events, which is label smoothing (Szegedy et al.,
CVPR 2016) with a prior that knows the catalogue, or distillation from an item-to-item model (Hinton et al., 2015; the
co-occurrence is that of sequential rules, Ludewig & Jannach, UMUAI 2018). The neighbours come from the training events alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from tongtu.config import configuration
from tongtu.core import PAD
from tongtu.data.dataset import Dataset

if TYPE_CHECKING:
    from scipy import sparse

_VECTOR_DECAY = 0.9


@configuration
class NeighbourConfig:
    """How much of the target goes to neighbours, and which those are. The defaults were chosen on Beauty's validation items.

    Attributes:
        share: Of the target, from 0 for none.
        count: Neighbours kept for each item.
        sources: Newest events whose neighbours count, each `source_decay` times the one after it.
        distance_decay: Weight of a pair of events for each step between them.
        backward: Weight of a pair read backwards in time, against 1 forwards.
        source_power, neighbour_power: How strongly frequent items are held down, as powers of their counts.
    """

    share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    count: Annotated[int, Field(ge=1)] = 20
    sources: Annotated[int, Field(ge=1)] = 4
    source_decay: Annotated[float, Field(gt=0, le=1)] = 0.6
    distance_decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    backward: Annotated[float, Field(ge=0, le=1)] = 0.5
    source_power: Annotated[float, Field(ge=0, le=1)] = 0.5
    neighbour_power: Annotated[float, Field(ge=0, le=1)] = 0.3


class Neighbours:
    """The nearest neighbours of each item, and the soft targets made from them.

    Args:
        data: The training events.
        config: How.
    """

    def __init__(self, data: Dataset, config: NeighbourConfig) -> None:
        self.config = config
        self.item, self.weight = (torch.from_numpy(x) for x in _table(_rules(data, config), config.count))

    def soft_targets(self, item_BT: Tensor, wanted_BT: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
        """Item codes int64[N, S] and weights float32[N, S] beside the targets.

        Weights of a position sum to `share`, or to 0 where it has no neighbours. The target itself and the source events get none.

        Args:
            item_BT: Inputs.
            wanted_BT: bool, the N positions that have a target.
            target_N: Their targets.
        """
        shifted = [torch.nn.functional.pad(item_BT, (back, 0))[:, : item_BT.shape[1]] for back in range(self.config.sources)]
        source_NS = torch.stack(shifted, -1)[wanted_BT]
        decay = self.config.source_decay ** torch.arange(self.config.sources, device=item_BT.device)
        codes = self.item.to(item_BT.device)[source_NS].flatten(1)
        weights = (self.weight.to(item_BT.device)[source_NS] * decay[:, None]).flatten(1)
        for known in (target_N[:, None], *(source_NS[:, i : i + 1] for i in range(self.config.sources))):
            weights = weights.masked_fill(codes == known, 0)
        return codes, weights * (self.config.share / weights.sum(1, keepdim=True).clamp_min(1e-9))


def cooccurrence_vectors(data: Dataset, width: int, std: float, seed: int) -> Tensor:
    """Item vectors float32[V, width] to start training from: leading directions of the positive pointwise mutual information.

    Factorising it is what word2vec does implicitly (Levy & Goldberg, NeurIPS 2014; context counts to the power .75 as there).

    Args:
        data: The training events.
        width: Of a vector; beyond the catalogue's size the rest is noise.
        std: Of the values, a fifth of which is noise.
        seed: Of the noise.
    """
    from scipy import sparse
    from scipy.sparse.linalg import svds

    from tongtu.data.cooccurrence import following

    forward = following(data, _VECTOR_DECAY)
    pairs = (forward + forward.T).tocoo()
    total = np.asarray(pairs.sum(1)).ravel() + 1e-9
    context = total**0.75
    information = np.log(np.maximum(pairs.data * context.sum() / (total[pairs.row] * context[pairs.col]), 1.0)).astype(np.float32)
    draw = np.random.default_rng(seed)
    vectors = 0.2 * std * draw.standard_normal((data.items.size, width), np.float32)
    rank = min(width, len(data.items) - 1)
    if information.any() and rank > 0:
        matrix = sparse.csr_matrix((information, (pairs.row, pairs.col)), pairs.shape)
        left, strength, _ = svds(matrix, k=rank, v0=draw.standard_normal(data.items.size).astype(np.float32))
        directions = left * np.sqrt(strength)
        vectors[:, :rank] += directions * (std / max(float(directions[1:].std()), 1e-9))
    vectors[PAD] = 0
    return torch.from_numpy(vectors)


def _rules(data: Dataset, config: NeighbourConfig) -> sparse.csr_matrix:
    from tongtu.data.cooccurrence import rules, strongest

    found = rules(data, config.distance_decay, config.backward, config.source_power, config.neighbour_power)
    return strongest(found, config.count)


def _table(weights: sparse.csr_matrix, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """A sparse matrix of at most `count` entries a row as codes [V, count] and weights [V, count], `PAD` and 0 where there are fewer."""
    length = np.diff(weights.indptr)
    row = np.repeat(np.arange(weights.shape[0]), length)
    place = np.arange(len(row)) - np.repeat(weights.indptr[:-1], length)
    codes, values = np.full((weights.shape[0], count), PAD, np.int64), np.zeros((weights.shape[0], count), np.float32)
    codes[row, place], values[row, place] = weights.indices, weights.data
    return codes, values
