from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_data

from tongtu.core import FitOptions
from tongtu.systems.behaviour.sasrec import SASRec


def fit(validate: Any = None, tracker: Path | None = None, **training: Any) -> SASRec:
    config = SASRec.Config(width=8, blocks=1, dropout=0.0, loss={"precision": "fp32"}, training={"epochs": 4, "tokens": 128, **training})
    return SASRec(config).fit(tiny_data(), FitOptions(validate=validate, quiet=True, device="cpu", tracker=tracker))


def losses(model: SASRec) -> list[float]:
    return [row["loss"] for row in model.provenance["curves"]]


def test_loss_falls() -> None:
    found = losses(fit(epochs=15, learning_rate=1e-2))
    assert found[-1] < 0.7 * found[0]


def test_accumulated_batches_are_one_large_batch() -> None:
    one_step_an_epoch = losses(fit(tokens=10**6))
    assert losses(fit(tokens=64, accumulate=10**6)) == pytest.approx(one_step_an_epoch, abs=1e-5)
    assert losses(fit(tokens=64)) != pytest.approx(one_step_an_epoch, abs=1e-3)


def test_the_best_epochs_weights_are_kept() -> None:
    seen: list[np.ndarray] = []

    def validate(model: SASRec) -> dict[str, float]:
        assert not model.net.training
        seen.append(model.net.item.weight.detach().numpy().copy())
        return {"ndcg@10": [0.1, 0.5, 0.2, 0.3][len(seen) - 1]}

    model = fit(validate)
    assert model.provenance["epochs"] == 2
    assert (model.net.item.weight.detach().numpy() == seen[1]).all()


def test_patience_ends_training() -> None:
    model = fit(lambda _: {"ndcg@10": 0.1}, epochs=50, patience=3)
    assert len(model.provenance["curves"]) == 4 and model.provenance["epochs"] == 1


def test_averaged_weights_are_validated_and_kept() -> None:
    seen: list[np.ndarray] = []

    def validate(model: SASRec) -> dict[str, float]:
        seen.append(model.net.item.weight.detach().numpy().copy())
        return {"ndcg@10": float(len(seen))}

    averaged, plain = fit(validate, average=0.99), fit()
    assert losses(averaged) == losses(plain), "the average must not change training"
    kept = averaged.net.item.weight.detach().numpy()
    assert (kept == seen[-1]).all() and not np.allclose(kept, plain.net.item.weight.detach().numpy(), atol=1e-3)


def test_clipping_bounds_the_step() -> None:
    assert losses(fit(clip=1e-9, learning_rate=1e-3)) != losses(fit(learning_rate=1e-3))


def test_mixed_precision_trains() -> None:
    exact, mixed = losses(fit()), losses(fit(precision="bf16"))
    assert mixed != exact and mixed == pytest.approx(exact, rel=2e-2)


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit()
    assert (torch.rand(3) == expected).all()


def test_curves_go_to_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    fit(tracker=tmp_path)
    assert [file for file in tmp_path.rglob("*tfevents*") if file.stat().st_size > 100]


def test_padding_item_stays_zero() -> None:
    assert (fit(weight_decay=0.1).net.item.weight[0] == 0).all()
