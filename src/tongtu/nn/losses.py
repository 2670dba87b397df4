"""Losses over a catalogue, shared by every sequence model.

Shapes: N positions, D width, V item codes (`PAD` included), K negatives. A loss takes the positions' states, the item table
and the targets, and returns the *sum* over positions, so that micro-batches and processes add up to one global mean.

Sources: binary cross-entropy with one negative, Kang & McAuley (ICDM 2018); gBCE, Petrov & Macdonald (RecSys 2023, eq. 5-8);
full and sampled softmax, Klenitskiy & Vasilev (RecSys 2023); logQ correction, Bengio & Senecal (2008).
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from tongtu.config import configuration
from tongtu.core import PAD, Offsets
from tongtu.nn.softmax import Soft, full_softmax, low_precision, surprise

_PRECISION = {"fp32": torch.float32, "bf16": torch.bfloat16}
_MASKED = -1e4  # a logit that counts as impossible, and stays finite in bfloat16


@configuration
class LossConfig:
    """Which loss, and how logits are made.

    Attributes:
        kind: "softmax" over the whole catalogue, "sampled" softmax, "bce", or calibrated "gbce".
        negatives: How many for the sampled kinds.
        share: Whether negatives are drawn once for a "batch" or anew for each "position".
        sampler: "uniform" over the catalogue, "popular" (by frequency in training), or "mixed" (half and half).
        logq: Whether sampled softmax weighs negatives so that it estimates the full softmax; the target, which is not drawn, stays.
        calibration: gBCE's t, from 0 (plain BCE) to 1 (fully calibrated).
        temperature: Cosine logits divided by this; None for plain dot products.
        label_smoothing: Share of the target spread evenly over the catalogue (full softmax only).
        precision: Of the logits of the full softmax; "auto" is bfloat16 where the device has instructions for it, else float32.
    """

    kind: Literal["softmax", "sampled", "bce", "gbce"] = "softmax"
    negatives: Annotated[int, Field(ge=1)] = 256
    share: Literal["batch", "position"] = "batch"
    sampler: Literal["uniform", "popular", "mixed"] = "uniform"
    logq: bool = False
    calibration: Annotated[float, Field(ge=0, le=1)] = 0.75
    temperature: Annotated[float, Field(gt=0)] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class CatalogueLoss(Protocol):
    """A loss of states against the whole item table; `draw` makes its random choices repeatable.

    `soft` are further targets with weights, as `full_softmax` takes them.
    """

    def __call__(self, state_ND: Tensor, items_VD: Tensor, target_N: Tensor, draw: torch.Generator, soft: Soft | None = None) -> Tensor: ...

    def surprise(self, state_ND: Tensor, items_VD: Tensor, target_N: Tensor) -> Tensor:
        """float32[N], -log p of each target among all items, without a gradient: by whatever is learned, it is told alike."""
        ...


def make_loss(config: LossConfig, counts: Offsets) -> CatalogueLoss:
    """The loss of a configuration.

    Args:
        config: Which loss.
        counts: int64[V], how often each item occurs in training, for popularity sampling.
    """
    return FullSoftmax(config) if config.kind == "softmax" else SampledLoss(config, counts)


class FullSoftmax:
    """Cross-entropy over every item; logits exist only in chunks."""

    def __init__(self, config: LossConfig) -> None:
        self.config = config

    def __call__(self, state_ND: Tensor, items_VD: Tensor, target_N: Tensor, draw: torch.Generator, soft: Soft | None = None) -> Tensor:
        state_ND, items_VD = scaled(state_ND, items_VD, self.config.temperature)
        precision = _PRECISION.get(self.config.precision) or low_precision(state_ND.device)
        return full_softmax(state_ND, items_VD, target_N, precision, self.config.label_smoothing, soft)

    def surprise(self, state_ND: Tensor, items_VD: Tensor, target_N: Tensor) -> Tensor:
        """See `CatalogueLoss`."""
        return surprise(*scaled(state_ND, items_VD, self.config.temperature), target_N)


class SampledLoss:
    """Sampled softmax, BCE and gBCE: the target's logit against those of K drawn items; accidental hits are masked."""

    def __init__(self, config: LossConfig, counts: Offsets) -> None:
        self.config = config
        self.probability = _probabilities(config.sampler, counts)
        self.uniform = config.sampler == "uniform"

    def __call__(self, state_ND: Tensor, items_VD: Tensor, target_N: Tensor, draw: torch.Generator, soft: Soft | None = None) -> Tensor:
        assert soft is None, "soft targets need the full softmax"
        state_ND, items_VD = scaled(state_ND, items_VD, self.config.temperature)
        negative = self._draw(len(target_N), draw).to(state_ND.device)
        positive_N = (state_ND * items_VD[target_N]).sum(-1)
        drawn = items_VD[negative]
        logits_NK = state_ND @ drawn.T if self.config.share == "batch" else torch.einsum("nd,nkd->nk", state_ND, drawn)
        hit = negative == target_N[:, None]
        if self.config.kind == "sampled":
            if self.config.logq:  # each drawn item stands for 1 / (expected draws) items, so the sum estimates the whole catalogue's
                logits_NK = logits_NK - (self.config.negatives * self.probability.to(state_ND.device)[negative]).log()
            logits = torch.cat([positive_N[:, None], logits_NK.masked_fill(hit, _MASKED)], 1)
            return (torch.logsumexp(logits, 1) - positive_N).sum()
        if self.config.kind == "gbce":
            positive_N = _calibrated(positive_N, self.config.negatives / (len(items_VD) - 2), self.config.calibration)
        negatives_N = functional.softplus(logits_NK).masked_fill(hit, 0).sum(-1)
        share = self.config.negatives + 1 if self.config.kind == "gbce" else 1
        return (functional.softplus(-positive_N) + negatives_N).sum() / share

    def surprise(self, state_ND: Tensor, items_VD: Tensor, target_N: Tensor) -> Tensor:
        """See `CatalogueLoss`."""
        return surprise(*scaled(state_ND, items_VD, self.config.temperature), target_N)

    def _draw(self, positions: int, draw: torch.Generator) -> Tensor:
        shape = (self.config.negatives,) if self.config.share == "batch" else (positions, self.config.negatives)
        if self.uniform:
            return torch.randint(1, len(self.probability), shape, generator=draw)
        total = int(torch.tensor(shape).prod())
        return torch.multinomial(self.probability, total, replacement=True, generator=draw).view(shape)


def scaled(state: Tensor, items: Tensor, temperature: float | None) -> tuple[Tensor, Tensor]:
    """States and items whose dot products are the logits: cosines over the temperature, or the vectors as they are."""
    if temperature is None:
        return state, items
    return functional.normalize(state, dim=-1) / temperature, functional.normalize(items, dim=-1)


def _calibrated(positive_N: Tensor, sampling_rate: float, calibration: float) -> Tensor:
    """The positive logit s becomes, in gBCE, γ(s) = log(1 / (σ(s)^-β - 1)); float64, since σ^-β - 1 vanishes in float32."""
    beta = sampling_rate * (calibration * (1 - 1 / sampling_rate) + 1 / sampling_rate)
    p = torch.sigmoid(positive_N.double()).clamp(1e-10, 1 - 1e-10)
    adjusted = p.pow(-beta).clamp(1 + 1e-10)
    return (1 / (adjusted - 1)).clamp_min(1e-10).log().to(positive_N.dtype)


def _probabilities(sampler: str, counts: Offsets) -> Tensor:
    """float32[V], the probability of drawing each code; `PAD` has none."""
    uniform = torch.full((len(counts),), 1 / max(len(counts) - 1, 1))
    uniform[PAD] = 0
    popular = torch.from_numpy(counts / max(counts.sum(), 1)).float()
    weights: dict[str, Tensor] = {"uniform": uniform, "popular": popular, "mixed": (uniform + popular) / 2}
    return weights[sampler].clamp_min(0)
