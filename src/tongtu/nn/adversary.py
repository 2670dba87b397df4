from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from tongtu.config import configuration
from tongtu.core import PAD
from tongtu.nn.batch import Batch
from tongtu.nn.eliminators import ForgetBatch, combination
from tongtu.nn.losses import CatalogueLoss
from tongtu.nn.objectives import shifted
from tongtu.nn.sequence import SequenceModel


@configuration
class AdversaryConfig:
    weight: float = 1.0
    match: float = 0.0
    inner: int = 64
    rate: float = 5.0
    places: int = 4
    momentum: float = 0.05
    ridge: float = 0.1
    aim: Literal["wrong", "unsure"] = "wrong"
    warmup: int = 50


class Adversary(nn.Module):
    def __init__(self, counts: Sequence[Tensor], width: int, config: AdversaryConfig) -> None:
        super().__init__()
        self.config = config
        A = len(counts)
        self.A = A
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        for a, count in enumerate(counts):
            known = count[1:].float()
            self.register_buffer(f"weight_{a}", torch.where(known > 0, known.sum() / (len(known) * known.clamp_min(1)), 0.0))
            self.register_buffer(f"share_{a}", known / known.sum().clamp_min(1))
        self.heads = nn.ModuleDict()
        for code in range(1, 2**A):
            self.register_buffer(f"mean_{code}", torch.zeros(width))
            self.register_buffer(f"cov_{code}", torch.eye(width))
            for a in range(A):
                if code >> a & 1:
                    C = len(counts[a]) - 1
                    self.heads[f"{code}-{a}"] = nn.Sequential(nn.Linear(width, config.inner), nn.ReLU(), nn.Linear(config.inner, C))
                    self.register_buffer(f"means_{code}_{a}", torch.zeros(C, width))

    def forward(self, states_ND: Tensor, forget_NA: Tensor, secret_NA: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c = self.config
        number = combination(forget_NA)
        disc = gen = match = states_ND.new_zeros(())
        for code in number.unique().tolist():
            if not code:
                continue
            rows = (number == code).nonzero()[:, 0]
            u = states_ND[rows]
            share = len(rows) / len(states_ND)
            first = self.steps < c.warmup
            mean, cov = getattr(self, f"mean_{code}"), getattr(self, f"cov_{code}")
            if c.match:
                with torch.no_grad():
                    m = max(c.momentum, 1 / (1 + int(self.steps)))
                    mean.lerp_(u.mean(0), m)
                    centred = u - mean
                    cov.lerp_(centred.T @ centred / len(u), m)
                    ridge = c.ridge * cov.diagonal().mean()
                    inverse = torch.linalg.inv(cov + ridge * torch.eye(len(cov)))
            for a in range(self.A):
                if not code >> a & 1:
                    continue
                label = secret_NA[rows, a]
                known = label > 0
                if not known.any():
                    continue
                x, y = u[known], label[known] - 1
                w, head = getattr(self, f"weight_{a}"), self.heads[f"{code}-{a}"]
                disc = disc + share * functional.cross_entropy(head(x.detach()), y, w)
                if c.weight:
                    frozen = {k: v.detach() for k, v in head.named_parameters()}
                    logits = functional_call(head, frozen, x)
                    if c.aim == "wrong":
                        p = logits.softmax(1).gather(1, y[:, None])[:, 0]
                        if logits.shape[1] == 2:
                            p = p.clamp(0.1, 0.9)
                        gen = gen + share * (p * w[y]).sum() / w[y].sum()
                    else:
                        gen = gen - share * (logits.log_softmax(1).mean(1) * w[y]).sum() / w[y].sum()
                if c.match:
                    means, C = getattr(self, f"means_{code}_{a}"), len(w)
                    one = functional.one_hot(y, C).to(x.dtype)
                    n = one.sum(0)
                    batch = (one.T @ x) / n.clamp_min(1)[:, None]
                    # the fewer of a class are in a batch, the less they move its mean
                    m = (max(c.momentum, 1 / (1 + int(self.steps))) * n / (n.sum() * getattr(self, f"share_{a}")).clamp_min(1e-6)).clamp_max(1)[:, None]
                    now = means * (1 - m) + batch * m
                    apart = now - mean
                    share_c = getattr(self, f"share_{a}")
                    value = torch.einsum("c,cd,de,ce->", share_c, apart, inverse, apart)
                    match = match + share * value / c.momentum
                    with torch.no_grad():
                        means.copy_(now.detach())
        if self.training:
            self.steps += 1
        return disc, gen, match


class Forgetting:
    def __init__(self, loss: CatalogueLoss, config: AdversaryConfig, hide: float) -> None:
        self._loss, self._config, self._hide = loss, config, hide

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        assert isinstance(batch, ForgetBatch)
        hidden = torch.rand(batch.profile.shape, generator=draw) < self._hide
        return dataclasses.replace(shifted(batch), profile=batch.profile.masked_fill(hidden, 0))

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
        assert isinstance(batch, ForgetBatch) and batch.target is not None and batch.secret is not None
        states, wanted = net.hidden(batch), batch.target != PAD
        target = batch.target[wanted]
        rec = self._loss(states[wanted], net.item_vectors(slice(None)), target, draw)
        k = self._config.places
        place = (torch.rand(len(states), k, generator=draw).to(states.device) * batch.length[:, None]).long()
        place[:, 0] = batch.length - 1
        some = states.gather(1, place[:, :, None].expand(-1, -1, states.shape[2])).flatten(0, 1)
        each = lambda x: x.repeat_interleave(k, 0)
        disc, gen, match = net.adversary(some, each(batch.forget), each(batch.secret))
        rise = min(1.0, float(net.adversary.steps) / max(self._config.warmup, 1))
        return rec + len(target) * (disc + rise * (self._config.weight * gen + self._config.match * match))
