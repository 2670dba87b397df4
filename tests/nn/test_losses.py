from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from tongtu.nn.losses import LossConfig, make_loss
from tongtu.nn.softmax import full_softmax


def case(n: int = 300, items: int = 57, width: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    state = torch.randn(n, width, generator=draw, requires_grad=True)
    table = torch.randn(items, width, generator=draw, requires_grad=True)
    return state, table, torch.randint(1, items, (n,), generator=draw)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("chunk", [64 * 57, 1 << 20])
def test_full_softmax_is_pytorchs_cross_entropy_without_pad(smoothing: float, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tongtu.nn.softmax._CHUNK_LOGITS", chunk)  # several chunks, or one
    state, table, target = case()
    ours = full_softmax(state, table, target, torch.float32, smoothing)
    gradients = torch.autograd.grad(3 * ours, [state, table])
    theirs = functional.cross_entropy(state @ table[1:].T, target - 1, reduction="sum", label_smoothing=smoothing)
    expected = torch.autograd.grad(3 * theirs, [state, table])
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_low_precision_logits_stay_close() -> None:
    state, table, target = case(n=2000)
    exact, low = (full_softmax(state, table, target, kind) for kind in (torch.float32, torch.bfloat16))
    assert abs(exact.item() - low.item()) < 2e-3 * exact.item()


def test_huge_logits_neither_overflow_nor_vanish() -> None:
    state, table, target = case()
    loss = full_softmax(state * 1e3, table * 10, target, torch.bfloat16)
    loss.backward()
    assert torch.isfinite(loss) and state.grad is not None and torch.isfinite(state.grad).all()


def counts(items: int = 57) -> np.ndarray:
    values = np.arange(items)
    values[0] = 0
    return values


def test_bce_with_hand_worked_values() -> None:
    state, table, target = case(n=1)
    loss = make_loss(LossConfig(kind="bce", negatives=5, share="position"), counts())(state, table, target, torch.Generator().manual_seed(1))
    drawn = torch.randint(1, 57, (1, 5), generator=torch.Generator().manual_seed(1))[0]
    expected = -math.log(torch.sigmoid(state[0] @ table[target[0]]).item())
    for item in drawn[drawn != target[0]]:
        expected -= math.log(1 - torch.sigmoid(state[0] @ table[item]).item())
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_gbce_without_calibration_is_bce_over_the_number_of_logits() -> None:
    state, table, target = case(n=40)
    settings = {"negatives": 7, "share": "position"}
    plain = make_loss(LossConfig(kind="bce", **settings), counts())(state, table, target, torch.Generator().manual_seed(3))
    generalised = make_loss(LossConfig(kind="gbce", calibration=0.0, **settings), counts())(state, table, target, torch.Generator().manual_seed(3))
    assert generalised.item() == pytest.approx(plain.item() / 8, rel=1e-3)


def test_gbce_is_the_papers_formula() -> None:
    state, table, target = case(n=1)
    k, t, items = 6, 0.75, 56
    loss = make_loss(LossConfig(kind="gbce", negatives=k, calibration=t, share="position"), counts())(state, table, target, torch.Generator().manual_seed(5))
    drawn = torch.randint(1, 57, (1, k), generator=torch.Generator().manual_seed(5))[0]
    alpha = k / (items - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    expected = beta * -math.log(torch.sigmoid(state[0] @ table[target[0]]).item())
    for item in drawn[drawn != target[0]]:
        expected -= math.log(1 - torch.sigmoid(state[0] @ table[item]).item())
    assert loss.item() == pytest.approx(expected / (k + 1), rel=1e-3)


@pytest.mark.parametrize("share", ["batch", "position"])
def test_sampled_softmax_with_logq_estimates_the_full_softmax(share: str) -> None:
    """With the correction, popularity-drawn negatives estimate the full softmax; without it they do not."""
    state, table, target = case(n=400, items=200)
    popular = np.concatenate([[0], 1 + np.arange(199) ** 2])
    full = functional.cross_entropy(state @ table[1:].T, target - 1).item()
    losses = {}
    for logq in (True, False):
        config = LossConfig(kind="sampled", negatives=4000, sampler="popular", share=share, logq=logq)
        loss = make_loss(config, popular)(state, table, target, torch.Generator().manual_seed(0)) / 400
        losses[logq] = loss.item()
    assert losses[True] == pytest.approx(full, abs=0.25)
    assert abs(losses[False] - full) > abs(losses[True] - full)


def test_an_item_is_never_its_own_negative() -> None:
    state, table, _ = case(n=50, items=2)
    target = torch.ones(50, dtype=torch.int64)
    loss = make_loss(LossConfig(kind="sampled", negatives=4), np.array([0, 9]))(state, table[:2], target, torch.Generator())
    assert loss.item() == pytest.approx(0, abs=1e-3)


def test_cosine_temperature_ignores_the_length_of_vectors() -> None:
    state, table, target = case()
    loss = make_loss(LossConfig(temperature=0.1, precision="fp32"), counts())
    one, other = (loss(state * a, table * b, target, torch.Generator()).item() for a, b in ((1, 1), (7, 0.2)))
    assert one == pytest.approx(other, rel=1e-4)
