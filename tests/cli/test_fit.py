from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tongtu import open_model
from tongtu.data.folder import open_dataset, save_dataset
from tongtu.data.synthetic import attribute_world

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shop"
    save_dataset(attribute_world(users=40, items=20, length=8, seed=1).data, path)
    return path


@pytest.mark.parametrize(("system", "settings"), [("ease", ["l2=10"]), ("sasrec", ["training.epochs=2", "width=8"])])
def test_a_fitted_model_recommends(tongtu: Run, shop: Path, tmp_path: Path, system: str, settings: list[str]) -> None:
    out = tmp_path / "model"
    result = tongtu("fit", system, "--data", shop, "--out", out, *(part for one in settings for part in ("--set", one)), "--seed", 3)
    assert result.exit_code == 0, result.stderr
    assert "validation: " in result.stdout and [p.name for p in tmp_path.iterdir()] == ["model"]
    model: Any = open_model(out)
    assert model.provenance["seed"] == 3 and "ndcg@10" in model.provenance["validation"]
    for hint in (line.split("tongtu ")[1].split() for line in result.stdout.splitlines() if "tongtu " in line):
        assert tongtu(*hint).exit_code == 0


def test_for_service_nothing_is_held_out(tongtu: Run, shop: Path, tmp_path: Path) -> None:
    result = tongtu("fit", "popular", "--data", shop, "--out", tmp_path / "model", "--all-events")
    assert result.exit_code == 0 and "validation" not in result.stdout and "evaluate" not in result.stdout
    model: Any = open_model(tmp_path / "model")
    assert model.provenance["trained_on"]["events"] == open_dataset(shop).n_events


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sasrek"], "did you mean 'sasrec'?"),
        (["sasrec", "--set", "trainig.epochs=1"], "did you mean 'training'?"),
        (["sasrec", "--set", "training.epochs=many"], "training.epochs"),
        (["sasrec", "--set", "width"], "key=value"),
        (["popular", "--protocol", "leave-two-out"], "did you mean 'leave-one-out'?"),
    ],
)
def test_mistakes_are_one_line(tongtu: Run, shop: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    result = tongtu("fit", *arguments, "--data", shop, "--out", tmp_path / "model")
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_is_no_model_is_never_replaced(tongtu: Run, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("four years of work")
    result = tongtu("fit", "popular", "--data", shop, "--out", tmp_path)
    assert result.exit_code == 2 and "not a model folder" in result.stderr
    result = tongtu("fit", "popular", "--data", shop, "--out", shop)
    assert result.exit_code == 2 and "not a model folder" in result.stderr
    assert (tmp_path / "thesis.txt").read_text() == "four years of work" and (shop / "dataset.json").is_file()


def test_a_full_disk_leaves_the_old_model(tongtu: Run, shop: Path, tmp_path: Path) -> None:
    """The largest file a process may write stands for a disk without room: the system refuses the write in the same way."""
    out = tmp_path / "model"
    assert tongtu("fit", "popular", "--data", shop, "--out", out).exit_code == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    run = subprocess.run(
        [sys.executable, "-c", "from tongtu.cli import main; main()", "fit", "itemknn", "--data", str(shop), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)),
    )
    assert run.returncode == 2, run.stderr
    assert len(run.stderr.splitlines()) == 1 and run.stderr.startswith("error: no room left to write")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before and [p.name for p in tmp_path.iterdir()] == ["model"]


def test_an_interrupted_run_goes_on(tongtu: Run, shop: Path, tmp_path: Path) -> None:
    settings = ("width=8", "training.epochs=4", "training.tokens=256", "training.checkpoint_seconds=0")
    arguments = ["fit", "sasrec", "--data", shop, *(part for one in settings for part in ("--set", one))]
    whole = tongtu(*arguments, "--out", tmp_path / "whole")
    assert whole.exit_code == 0, whole.stderr
    out = tmp_path / "model"
    stopping = (
        "import sys, tongtu.train.checkpoint as c\nfrom tongtu.cli import main\nsave, n = c.save, [0]\n"
        "def stop(*a):\n save(*a); n[0] += 1\n if n[0] == 3: raise KeyboardInterrupt\nc.save = stop\nmain()"
    )
    run = subprocess.run([sys.executable, "-c", stopping, *map(str, arguments), "--out", str(out)], capture_output=True, text=True, check=False)
    assert run.returncode == 130 and run.stderr.endswith("\nstopped\n") and not out.exists() and out.with_name("model.checkpoint").exists()
    assert tongtu(*arguments, "--out", out, "--resume").exit_code == 0
    sums = [json.loads((folder / "MANIFEST.json").read_text())["model.safetensors"] for folder in (out, tmp_path / "whole")]
    assert sums[0] == sums[1]


def test_a_system_that_asks_a_language_model_is_validated_on_few_users(tongtu: Run, shop: Path, tmp_path: Path) -> None:
    result = tongtu("fit", "llmrank", "--data", shop, "--out", tmp_path / "ranker", "--set", "llm=unigram", "--set", "candidates=5")
    assert result.exit_code == 0, result.stderr
    assert "validation of 40 users: recall@10" in result.stdout
