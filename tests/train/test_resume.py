from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_fit

from tongtu.errors import ModelError

HERE = Path(__file__).parent


def run(script: str, *arguments: str, launcher: tuple[str, ...] = ()) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(HERE / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


def kill(folder: Path, points: int) -> None:
    outcome = json.loads(run("kill.py", str(folder), str(points), "0"))
    assert outcome["points"] >= points
    assert outcome["killed_midway"] >= points // 3, "too few kills came while there was something to resume"


def test_killed_training_resumes_bit_identical(tmp_path: Path) -> None:
    kill(tmp_path, 5)


@pytest.mark.slow
def test_twenty_kill_points_resume_bit_identical(tmp_path: Path) -> None:
    kill(tmp_path, 20)


def test_a_finished_run_resumes_to_the_same_model(tmp_path: Path) -> None:
    first = tiny_fit(tmp_path, resume=False, epochs=2, checkpoint_seconds=0)
    again = tiny_fit(tmp_path, resume=True, epochs=2, checkpoint_seconds=0)
    assert first.provenance["curves"] == again.provenance["curves"]


def test_state_of_another_run_is_refused(tmp_path: Path) -> None:
    tiny_fit(tmp_path, resume=False, epochs=1)
    with pytest.raises(ModelError, match="other data, settings or seed"):
        tiny_fit(tmp_path, resume=True, epochs=2)


def test_damaged_state_is_refused_by_name(tmp_path: Path) -> None:
    tiny_fit(tmp_path, resume=False, epochs=1)
    file = tmp_path / "checkpoint" / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"state\.safetensors is damaged"):
        tiny_fit(tmp_path, resume=True, epochs=1)


def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    one = json.loads(run("tiny.py", str(tmp_path / "one"), "--still"))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    two = json.loads(run("tiny.py", str(tmp_path / "two"), "--still", launcher=launcher))
    assert len(one) == len(two) == 8
    for row_one, row_two in zip(one, two, strict=True):
        assert row_one == pytest.approx(row_two, abs=1e-5)
