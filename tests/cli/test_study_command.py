from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from review_log import reviews
from tongtu.data.folder import open_dataset, save_dataset

Run = Callable[..., Any]


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TONGTU_CACHE", str(tmp_path / "cache"))
    save_dataset(reviews(), tmp_path / "reviews")
    file = tmp_path / "study.toml"
    file.write_text(f'name = "test"\ndata = "{tmp_path / "reviews"}"\nllm = "unigram"\nusers = 6\nnegatives = 2\ntexts = "summaries"\n')
    return file


def test_a_study_from_its_file(tongtu: Run, experiment: Path, tmp_path: Path) -> None:
    result = tongtu("study", experiment, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    for task in ("rating", "sequential", "direct", "explanation", "summary"):
        assert f"{task}: 6 users" in result.stdout
    assert result.stdout.count("made from training summaries") == 5
    assert all(label in result.stdout for label in ("user mean", "Popular", "random order", "first 4 words of the review"))
    written = json.loads((tmp_path / "out" / "study.json").read_text())
    assert written["data"]["fingerprint"] == open_dataset(tmp_path / "reviews").fingerprint
    assert written["templates"]["direct"] and written["protocol"]["seed"] == 0 and written["environment"]["python"]
    for rows in written["tasks"].values():
        for row in rows:
            assert all(row["interval"][name][0] <= value <= row["interval"][name][1] for name, value in row["metrics"].items())
    cases = pl.read_parquet(tmp_path / "out" / "cases.parquet")
    assert cases.height == 60 and set(cases["user"]) <= {f"u{user}" for user in range(12)} and cases["prompt"].str.len_chars().min() > 0


def test_a_second_run_asks_nobody_and_says_the_same(tongtu: Run, experiment: Path, tmp_path: Path) -> None:
    first, second = (tongtu("study", experiment, "--out", tmp_path / "out") for _ in range(2))
    assert first.exit_code == 0 and first.stdout == second.stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [('task = "rating"', "did you mean 'tasks'"), ('tasks = ["ratng"]', "did you mean 'rating'"), ("[settings]\ntops = 3", "did you mean 'top'")],
)
def test_a_mistake_is_one_line(tongtu: Run, experiment: Path, tmp_path: Path, more: str, said: str) -> None:
    experiment.write_text(experiment.read_text() + more + "\n")
    result = tongtu("study", experiment, "--out", tmp_path / "out")
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


def test_an_unknown_model_is_told(tongtu: Run, experiment: Path, tmp_path: Path) -> None:
    experiment.write_text(experiment.read_text().replace('"unigram"', '"unigrams"'))
    result = tongtu("study", experiment, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "did you mean 'unigram'" in result.stderr
