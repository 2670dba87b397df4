from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from follower import Follower, make_log

import tongtu.systems
from tongtu.config import build
from tongtu.core import Recommender
from tongtu.data.dataset import Dataset
from tongtu.data.folder import save_dataset
from tongtu.data.splits import leave_one_out
from tongtu.errors import ConfigError, DataError, TongtuError
from tongtu.evaluation.compare import compare
from tongtu.evaluation.evaluate import evaluate
from tongtu.evaluation.experiment import REFIT, Experiment, experiment_from, read_experiment
from tongtu.evaluation.metrics import MISS
from tongtu.evaluation.runs import Outcome
from tongtu.files import new_folder
from tongtu.hub import open_model
from tongtu.scale.local import LocalEngine
from tongtu.scale.worker import isolated


class Kinds:
    """A shelf of systems: Tongtu's own, and two of this test. It counts what is fitted."""

    def __init__(self) -> None:
        self.fits: list[tuple[Any, int]] = []
        self.broken = False

    def cards(self) -> Mapping[str, Any]:
        card = SimpleNamespace(title="Follower", road="behaviour", paper="this test")
        return {**tongtu.systems.cards(), "follower": card, "fragile": dataclasses.replace(tongtu.systems.cards()["popular"], title="Fragile")}

    def make(self, name: str, settings: Mapping[str, Any] | None = None) -> Recommender:
        if name in {"follower", "fragile"}:
            return Watched(self, name, build(Follower.Config, settings or {}))
        return tongtu.systems.make(name, settings)


class Watched(Follower):
    def __init__(self, kinds: Kinds, name: str, config: Any) -> None:
        super().__init__(config)
        self.kinds, self.name = kinds, name

    def fit(self, data: Dataset, options: Any = None) -> Any:
        if self.name == "fragile":
            raise DataError("fragile cannot learn from this: give it other data")
        if self.kinds.broken and options.seed == 1:
            raise KeyboardInterrupt
        self.kinds.fits.append((self.config.noise, options.seed))
        super().fit(data, options)
        value = options.validate(self)["ndcg@10"] if options.validate else None
        self.provenance |= {"epochs": 1, "curves": [{"epoch": 1, "ndcg@10": value}]}
        return self


@pytest.fixture
def folder(tmp_path: Path, log: Dataset) -> Path:
    save_dataset(log, tmp_path / "log")
    return tmp_path / "log"


def plan(folder: Path, kinds: Any = tongtu.systems, **parts: Any) -> Experiment:
    return experiment_from({"name": "trial", "data": str(folder), "seeds": [0, 1], "systems": [{"name": "popular"}, {"name": "follower"}]} | parts, kinds)


def test_the_table_is_what_the_models_do(folder: Path, log: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    experiment = plan(folder, systems=[{"name": "popular"}, {"name": "itemknn", "label": "KNN", "settings": {"neighbours": 5}}])
    results = compare(experiment, out, tongtu.systems)
    assert results == json.loads((out / "results.json").read_text())
    assert [row["label"] for row in results["systems"]] == ["Popular", "KNN"]
    split = experiment.protocol.split(log)
    users = pl.read_parquet(out / "users.parquet")
    for row, kind in zip(results["systems"], ("popular", "itemknn"), strict=True):
        model = open_model(out / "runs" / f"{row['label'].lower()}-1" / "model")
        found = evaluate(model, split.test, split.train, seed=0)
        assert row["metrics"] == pytest.approx(found.metrics) and row["system"] == kind  # neither depends on the seed
        assert {name: pytest.approx(pair) for name, pair in row["interval"].items()} == {name: list(pair) for name, pair in found.interval.items()}
        assert row["slices"] == found.slices or row["slices"]["gender"]["F"]["ndcg@10"] == pytest.approx(found.slices["gender"]["F"]["ndcg@10"])
        kept = users.filter((pl.col("system") == row["label"]) & (pl.col("seed") == 1))
        assert kept["rank"].fill_null(MISS).to_list() == found.ranks.tolist()
        assert kept["user"].to_list() == log.users.decode(split.test.user) and kept["target"].to_list() == log.items.decode(split.test.target)
        assert row["fit_seconds"] > 0 and row["ms_per_request"] > 0 and row["seed"] == [0, 1] and row["parameters"] > 0
        assert row["runs"][0]["provenance"]["trained_on"]["data"] == split.train.fingerprint
    (pair,) = results["pairs"]
    difference = results["systems"][0]["metrics"]["ndcg@10"] - results["systems"][1]["metrics"]["ndcg@10"]
    assert pair["difference"] == pytest.approx(difference) and pair["a"] == "Popular" and 0 < pair["p"] <= pair["p_holm"] <= 1
    assert results["protocol"]["fingerprint"] == experiment.protocol.fingerprint(log)


def test_examples_show_what_was_recommended(folder: Path, log: Dataset, tmp_path: Path) -> None:
    results = compare(plan(folder, systems=[{"name": "popular"}], examples=3), tmp_path / "out", tongtu.systems)
    assert len(results["examples"]) == 3
    users = pl.read_parquet(tmp_path / "out" / "users.parquet").filter(pl.col("seed") == 0)
    for example in results["examples"]:
        mine = log.history(log.users.code(example["user"]))
        assert [item["id"] for item in example["history"]] == log.items.decode(mine[:-1])
        assert example["target"] == {"id": log.items.decode(mine[-1:])[0], "text": f"item number {mine[-1] - 1}"}
        shown = example["lists"]["Popular"]
        assert len(shown["items"]) == 5 and not {item["id"] for item in shown["items"]} & {item["id"] for item in example["history"]}
        assert shown["rank"] == users.filter(pl.col("user") == example["user"])["rank"][0]


def test_done_is_done(folder: Path, tmp_path: Path) -> None:
    kinds, out = Kinds(), tmp_path / "out"
    first = compare(plan(folder, kinds), out, kinds)
    assert len(kinds.fits) == 2
    told: list[Outcome] = []
    again = compare(plan(folder, kinds), out, kinds, tell=told.append)
    assert len(kinds.fits) == 2 and all(outcome.kept for outcome in told)
    assert again["systems"] == first["systems"] and again["pairs"] == first["pairs"]
    more = compare(plan(folder, kinds, seeds=[0, 1, 2]), out, kinds)
    assert kinds.fits[2:] == [(0.0, 2)] and more["systems"][1]["seed"] == [0, 1, 2]
    compare(plan(folder, kinds, systems=[{"name": "follower", "settings": {"noise": 0.5}}]), out, kinds)
    assert kinds.fits[3:] == [(0.5, 0), (0.5, 1)]  # other settings are another model


def test_a_damaged_run_is_done_again(folder: Path, tmp_path: Path) -> None:
    kinds, out = Kinds(), tmp_path / "out"
    first = compare(plan(folder, kinds), out, kinds)
    cases = out / "runs" / "follower-1" / "cases.parquet"
    cases.write_bytes(cases.read_bytes()[:-20])
    again = compare(plan(folder, kinds), out, kinds)
    assert kinds.fits == [(0.0, 0), (0.0, 1), (0.0, 1)]
    assert [row["metrics"] for row in again["systems"]] == [row["metrics"] for row in first["systems"]]


def test_a_run_from_before_a_figure_was_measured(folder: Path, tmp_path: Path) -> None:
    kinds, out = Kinds(), tmp_path / "out"
    first = compare(plan(folder, kinds), out, kinds)
    run = out / "runs" / "follower-1"
    with new_folder(run) as new:
        shutil.copytree(run, new, dirs_exist_ok=True, ignore=shutil.ignore_patterns("MANIFEST.json"))
        record = json.loads((new / "run.json").read_text())
        del record["figures"]["popularity by rank"]
        (new / "run.json").write_text(json.dumps(record))
    again = compare(plan(folder, kinds), out, kinds)
    assert len(kinds.fits) == 2, "the run is kept"
    assert first["systems"][1]["popularity by rank"] and not again["systems"][1]["popularity by rank"]
    assert again["systems"][1]["metrics"] == first["systems"][1]["metrics"]


def test_interrupted_goes_on(folder: Path, tmp_path: Path) -> None:
    kinds, out = Kinds(), tmp_path / "out"
    kinds.broken = True
    with pytest.raises(KeyboardInterrupt):
        compare(plan(folder, kinds), out, kinds)
    assert kinds.fits == [(0.0, 0)] and not (out / "results.json").exists()
    kinds.broken = False
    results = compare(plan(folder, kinds), out, kinds)
    assert kinds.fits == [(0.0, 0), (0.0, 1)]
    whole = compare(plan(folder, kinds), tmp_path / "unbroken", kinds)
    assert [row["metrics"] for row in results["systems"]] == [row["metrics"] for row in whole["systems"]]


def test_categories_are_measured_from_the_lists_that_were_kept(folder: Path, log: Dataset, tmp_path: Path) -> None:
    kinds, systems, out = Kinds(), [{"name": "follower"}, {"name": "popular"}], tmp_path / "out"
    compare(plan(folder, kinds, systems=systems), out, kinds)
    fits = len(kinds.fits)
    results = compare(plan(folder, kinds, systems=systems, categories="categories"), out, kinds)
    assert len(kinds.fits) == fits, "nothing is fitted again"
    split = leave_one_out(log)
    popular = open_model(next(out.glob("runs/popular-*/model")))
    own = evaluate(popular, split.test, split.train, categories="categories")
    row = next(row for row in results["systems"] if row["system"] == "popular")
    for name in ("category_diversity@5", "category_coverage@10"):
        assert row["metrics"][name] == pytest.approx(own.metrics[name]) and row["interval"][name] == pytest.approx(own.interval[name])
    with pytest.raises(DataError, match="no item field 'brands'"):
        compare(plan(folder, kinds, systems=[{"name": "popular", "label": "late"}], categories="brands"), out, kinds)
    assert not list(out.glob("runs/late-*")), "told before anything runs"


def test_other_fingerprints_are_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    only = [{"name": "popular"}]
    compare(plan(folder, systems=only), out, tongtu.systems)
    before = (out / "results.json").read_bytes()
    with pytest.raises(ConfigError, match="another --out"):
        compare(plan(folder, systems=only, protocol={"filter_seen": False}), out, tongtu.systems)
    save_dataset(make_log(seed=9), tmp_path / "other")
    with pytest.raises(ConfigError, match="another --out"):
        compare(plan(tmp_path / "other", systems=only), out, tongtu.systems)
    assert (out / "results.json").read_bytes() == before


def test_one_that_fails_does_not_stop_the_others(folder: Path, tmp_path: Path) -> None:
    kinds = Kinds()
    entries = [{"name": "fragile", "refit": "train+valid"}, {"name": "popular"}]
    results = compare(plan(folder, kinds, systems=entries), tmp_path / "out", kinds)
    broken, refit, popular = results["systems"]
    assert broken["status"] == refit["status"] == "failed" and "give it other data" in broken["error"] and "metrics" not in broken
    assert popular["status"] == "done" and results["pairs"] == []
    with pytest.raises(TongtuError, match="every system failed; Fragile: fragile cannot learn"):
        compare(plan(folder, kinds, systems=entries[:1]), tmp_path / "none", kinds)


def test_refit_is_a_row_of_its_own(folder: Path, log: Dataset, tmp_path: Path) -> None:
    kinds = Kinds()
    experiment = plan(folder, systems=[{"name": "popular", "refit": "train+valid"}], kinds=kinds)
    results = compare(experiment, tmp_path / "out", kinds)
    once, more = results["systems"]
    assert more["label"] == once["label"] + REFIT and (once["refit"], more["refit"]) == (None, "train+valid")
    split = experiment.protocol.split(log)
    learned = [row["runs"][0]["provenance"]["trained_on"] for row in (once, more)]
    assert learned[1]["events"] == learned[0]["events"] + len(split.valid) == experiment.protocol.without_test(log).n_events
    assert learned[1]["data"] == experiment.protocol.without_test(log).fingerprint


def test_search_chooses_on_validation_and_goes_on(folder: Path, tmp_path: Path) -> None:
    kinds, out = Kinds(), tmp_path / "out"
    entry = {"name": "follower", "space": {"noise": {"low": 0.0, "high": 50.0}}}
    few = plan(folder, kinds, systems=[entry], search={"trials": 3}, seeds=[0])
    row = compare(few, out, kinds)["systems"][0]
    values = [trial["ndcg@10"] for trial in row["search"]["history"]]
    assert row["search"]["trials"] == 3 and row["search"]["best"] == max(values)
    assert row["config"]["noise"] == row["search"]["settings"]["noise"] == row["search"]["history"][int(np.argmax(values))]["settings"]["noise"]
    assert len(kinds.fits) == 4
    more = compare(plan(folder, kinds, systems=[entry], search={"trials": 6}, seeds=[0]), out, kinds)["systems"][0]["search"]["history"]
    assert [trial["settings"] for trial in more[:3]] == [trial["settings"] for trial in row["search"]["history"]]
    unbroken = Kinds()
    whole = compare(plan(folder, unbroken, systems=[entry], search={"trials": 6}, seeds=[0]), tmp_path / "whole", unbroken)["systems"][0]["search"]["history"]
    assert [(t["settings"], t["ndcg@10"]) for t in whole] == [(t["settings"], t["ndcg@10"]) for t in more]


def test_isolated_steps_give_the_same_and_tell_memory(folder: Path, tmp_path: Path) -> None:
    experiment = plan(folder, systems=[{"name": "popular"}, {"name": "itemknn"}], seeds=[0])
    here = compare(experiment, tmp_path / "here", tongtu.systems)
    there = compare(experiment, tmp_path / "there", tongtu.systems, isolated, LocalEngine())
    assert [row["metrics"] for row in here["systems"]] == [row["metrics"] for row in there["systems"]]
    assert [row["peak_memory_mb"] for row in here["systems"]] == [None, None]
    assert all(30 < row["peak_memory_mb"] < 4000 for row in there["systems"])


SLOW = """
import os, signal, sys
from pathlib import Path
import tongtu.systems
from tongtu.evaluation.compare import compare
from tongtu.evaluation.experiment import read_experiment
def tell(outcome):
    if outcome.task.label == "Popular":
        os.kill(os.getpid(), signal.SIGKILL)
compare(read_experiment(Path(sys.argv[1]), tongtu.systems), Path(sys.argv[2]), tongtu.systems, tell=tell)
"""


def test_killed_goes_on(folder: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "trial.toml", tmp_path / "out"
    file.write_text(f'name = "trial"\ndata = "{folder}"\nsystems = [{{name = "popular"}}, {{name = "itemknn"}}]\n')
    killed = subprocess.run([sys.executable, "-c", SLOW, file, out], check=False)
    assert killed.returncode == -signal.SIGKILL
    told: list[Outcome] = []
    compare(read_experiment(file, tongtu.systems), out, tongtu.systems, tell=told.append)
    assert [(outcome.task.label, outcome.kept) for outcome in told] == [("Popular", True), ("ItemKNN", False)]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"systems": []}, "no systems"),
        ({"systems": [{"name": "populr"}]}, "did you mean 'popular'"),
        ({"systems": [{"name": "ease", "settings": {"l3": 1}}]}, "unknown key 'l3'"),
        ({"systems": [{"name": "ease", "space": {"l3": [1]}}], "search": {}}, "unknown key 'l3'"),
        ({"systems": [{"name": "ease", "space": {"l2": {"low": 0, "high": 1, "log": True}}}], "search": {}}, "above 0"),
        ({"systems": [{"name": "ease", "space": {"l2": {"lo": 0, "high": 1}}}], "search": {}}, "did you mean 'low'"),
        ({"systems": [{"name": "ease", "space": {"l2": 3}}], "search": {}}, "list of values"),
        ({"systems": [{"name": "ease", "space": {"l2": [1]}}]}, r"no \[search\]"),
        ({"systems": [{"name": "ease"}, {"name": "ease"}]}, "a label of its own"),
        ({"systems": [{"name": "ease"}], "seeds": [1, 1]}, "seeds"),
        ({"systems": [{"name": "ease"}], "protocl": "leave-one-out"}, "did you mean 'protocol'"),
        ({"systems": [{"name": "ease"}], "protocol": "leave-two-out"}, "leave-one-out"),
    ],
)
def test_mistakes_in_the_file_are_told_before_anything_runs(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        experiment_from({"name": "trial", "data": "nowhere"} | parts, tongtu.systems)


def test_engine_keeps_the_order() -> None:
    assert list(LocalEngine().map(abs, [-3, 2, -1])) == [3, 2, 1]
    assert list(LocalEngine(2).map(abs, [-3, 2, -1])) == [3, 2, 1]


def test_a_process_that_dies_is_a_failed_step(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = plan(folder, systems=[{"name": "popular"}], seeds=[0])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "sitecustomize.py").write_text("import os, signal, sys\nif '-m' in sys.orig_argv: os.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(TongtuError, match="SIGKILL: if nobody stopped it, memory ran out"):
        compare(experiment, tmp_path / "out", tongtu.systems, isolated)
