"""Cross-entropy over a whole catalogue without ever holding all logits.

The usual way keeps N x V logits, their softmax and its gradient in memory: gigabytes, and the memory traffic is most of the
time. Here the gradient is worked out in the forward pass, chunk by chunk, while a chunk of logits is still in the cache; only
the gradients of the states [N, D] and of the item table [V, D] are kept. The same idea as "Cut Your Losses in Large-Vocabulary
Language Models" (Wijmans et al., ICLR 2025) and Liger Kernel's fused linear cross-entropy, in plain PyTorch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_CHUNK_LOGITS = 1 << 21  # logits at a time: small enough for the caches; 2^20 to 2^23 differ by less than the noise at V = 12,102


Soft = tuple[Tensor, Tensor]


def full_softmax(state_ND: Tensor, items_VD: Tensor, target_N: Tensor, precision: torch.dtype, smoothing: float = 0.0, soft: Soft | None = None) -> Tensor:
    """Summed cross-entropy of `state @ items.T` against the targets; `PAD` is no possible answer.

    Args:
        state_ND: Float states [N, D].
        items_VD: The item table [V, D].
        target_N: int64[N], codes other than `PAD`.
        precision: Of the logits and of the products that make gradients; sums are in float32.
        smoothing: Share of the target spread evenly over all items but `PAD`.
        soft: Further targets int64[N, S] and their weights float32[N, S], which are taken from the target's; `PAD` must weigh 0.
    """
    with torch.autocast(state_ND.device.type, enabled=False):  # precision is chosen here, not by the caller's automatic one
        loss: Tensor = _FullSoftmax.apply(state_ND, items_VD, target_N, precision, smoothing, soft)  # type: ignore[no-untyped-call]
    return loss


@torch.no_grad()
def surprise(state_ND: Tensor, items_VD: Tensor, target_N: Tensor) -> Tensor:
    """float32[N], -log of the probability that `state @ items.T` gives each target among all items but `PAD`; no gradient, logits in chunks."""
    table, chunk = items_VD[1:].float(), max(64, _CHUNK_LOGITS // len(items_VD))
    parts = zip(torch.split(state_ND.float(), chunk), torch.split(target_N - 1, chunk), strict=True)
    found = [functional.cross_entropy(state @ table.T, target, reduction="none") for state, target in parts]
    return torch.cat(found) if found else state_ND.new_zeros(0)


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        state, items, target, precision, smoothing, soft = arguments
        table, states, answer = items.detach()[1:].to(precision), state.detach().to(precision), target - 1  # without `PAD`
        state_gradient = torch.empty_like(states) if state.requires_grad else None
        items_gradient = torch.zeros_like(items, dtype=torch.float32) if items.requires_grad else None
        total = torch.zeros((), device=state.device)
        chunk = min(max(64, _CHUNK_LOGITS // len(items)), len(states))
        room = torch.empty(chunk, len(table), dtype=precision, device=state.device)  # every chunk's logits in turn
        for first in range(0, len(states), chunk):
            part = slice(first, first + chunk)
            logits = torch.mm(states[part], table.T, out=room[: len(states) - first])
            total += _chunk(logits, *_weighed(answer[part], smoothing, None if soft is None else (soft[0][part], soft[1][part])), smoothing)
            if state_gradient is not None:
                torch.mm(logits, table, out=state_gradient[part])
            if items_gradient is not None and precision == torch.float32:
                items_gradient[1:].addmm_(logits.T, states[part])
            elif items_gradient is not None:
                items_gradient[1:] += logits.T @ states[part]
        ctx.save_for_backward(state_gradient, items_gradient)
        ctx.kinds = state.dtype, items.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        state_gradient, items_gradient = ctx.saved_tensors
        state_kind, items_kind = ctx.kinds
        scale = gradients[0]
        to_states = None if state_gradient is None else state_gradient.to(state_kind) * scale
        return to_states, None if items_gradient is None else (items_gradient * scale).to(items_kind), None, None, None, None


def low_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it, else float32.

    A processor without such instructions (AVX-512 BF16, AMX) emulates bfloat16 products: measured on an AVX2 machine, at a sixth
    of the speed of float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    usable = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    native = device.type == "cpu" and usable and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def _weighed(answer_N: Tensor, smoothing: float, soft: Soft | None) -> Soft:
    """All targets of each position, int64[N, 1 + S] without `PAD`, and their weights."""
    weight = torch.full((len(answer_N), 1), 1 - smoothing, device=answer_N.device)
    if soft is None:
        return answer_N[:, None], weight
    codes, weights = soft
    return torch.cat([answer_N[:, None], (codes - 1).clamp_min(0)], 1), torch.cat([weight - weights.sum(1, keepdim=True), weights], 1)


def _chunk(logits: Tensor, answers: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """The summed loss of one chunk; `logits` becomes its gradient in place.

    The softmax is one fused pass that works in float32 inside. In bfloat16 the probability of the answer, from which the loss
    is read, is rounded to 8 bits: an unbiased error of .002 a position in the number shown, none that grows in the gradient.
    """
    before = (*logits.max(1), logits.float().mean(1)) if smoothing else None
    torch.softmax(logits, 1, out=logits)
    log_probability = logits.gather(1, answers).float().clamp_min(torch.finfo(torch.float32).tiny).log()
    loss = -(weights * log_probability).sum()
    if before is not None:
        most, best, mean = before  # the best item's probability cannot vanish, so it gives the normaliser safely
        normaliser = most.float() - logits.gather(1, best[:, None])[:, 0].float().log()
        loss = loss + smoothing * (normaliser - mean).sum()
        logits -= smoothing / logits.shape[1]
    logits.scatter_add_(1, answers, -weights.to(logits.dtype))
    return loss
