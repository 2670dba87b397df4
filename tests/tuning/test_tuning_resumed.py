"""A run that is killed goes on as if nothing had been, with examples that are new in each epoch."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from tuned import redrawn_fit, tiny_net, walk

from tongtu.core import FitOptions
from tongtu.errors import ModelError
from tongtu.train.loop import train
from tongtu.train.settings import Training
from tongtu.tuning.examples import Redrawn
from tongtu.tuning.objective import Answer


def _killed(out: Path, lines: int) -> None:
    """Start the run in another process and kill it when its state was written so many times."""
    import subprocess

    script = f"from pathlib import Path; from tuned import redrawn_fit; redrawn_fit(Path({str(out)!r}), False)"
    child = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    seen: set[int] = set()
    while len(seen) < lines and child.poll() is None:
        file = out / "checkpoint" / "position.json"
        if file.exists():
            seen.add(file.stat().st_mtime_ns)
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the run was over before it was killed"


def test_a_killed_run_on_redrawn_examples_resumes_bit_identical(tmp_path: Path) -> None:
    whole, trained = redrawn_fit(tmp_path / "whole", resume=False)
    _killed(tmp_path / "killed", lines=6)
    again, resumed = redrawn_fit(tmp_path / "killed", resume=True)
    assert [row | {"seconds": 0} for row in resumed.curves] == [row | {"seconds": 0} for row in trained.curves]
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), again.parameters(), strict=True))


def test_each_epoch_sees_examples_of_its_own(tmp_path: Path) -> None:
    net, drawn = tiny_net(), []

    def draw(seed: int) -> list[tuple[str, str]]:
        drawn.append(seed)
        return walk(seed, 10)

    train(net, Answer(), Redrawn(net.wording, draw), Training(epochs=3, tokens=512), FitOptions(quiet=True, device="cpu"))
    assert len(drawn) == len(set(drawn)) == 3


def test_another_frozen_model_is_another_run(tmp_path: Path) -> None:
    def run(change: float, resume: bool) -> None:
        net = tiny_net()
        net.net.encoder.requires_grad_(False)
        with torch.no_grad():
            net.net.encoder.final_layer_norm.weight += change
        examples = Redrawn(net.wording, lambda seed: walk(seed, 10))
        options = FitOptions(quiet=True, device="cpu", checkpoint=tmp_path / "checkpoint", resume=resume)
        train(net, Answer(), examples, Training(epochs=1, tokens=512, checkpoint_seconds=0), options)

    run(0, False)
    run(0, True)
    with pytest.raises(ModelError, match="other data, settings or seed"):
        run(1, True)
