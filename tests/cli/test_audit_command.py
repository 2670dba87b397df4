from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tongtu.cli.audit import learned_events
from tongtu.core import FitOptions
from tongtu.data.folder import open_dataset, save_dataset
from tongtu.data.synthetic import attribute_world
from tongtu.errors import ModelError
from tongtu.evaluation.protocol import PROTOCOLS, trained_on
from tongtu.systems.baselines.itemknn import ItemKNN
from tongtu.trust.audit import from_json

Run = Callable[..., Any]
QUICK = ("--set", "depth=10", "--set", 'attackers=["linear"]', "--set", "group_users=25")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = attribute_world(users=120, items=40, length=9, seed=1).data
    side = pl.Series("side", np.where(np.arange(120) % 2 == 0, "left", "right"))
    path = tmp_path_factory.mktemp("data") / "shop"
    save_dataset(dataclasses.replace(log, user_attributes=log.user_attributes.with_columns(side)), path)
    return path


@pytest.fixture
def knn(shop: Path, tmp_path: Path) -> Path:
    log = open_dataset(shop)
    rule = PROTOCOLS["leave-one-out"]
    train = rule.split(log).train
    system = ItemKNN().fit(train, FitOptions(quiet=True))
    system.provenance["trained_on"] = trained_on(log, train, rule)
    system.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_is_audited_from_folder_to_page(tongtu: Run, shop: Path, knn: Path, tmp_path: Path) -> None:
    page, file = tmp_path / "audit.html", tmp_path / "audit.json"
    result = tongtu("audit", knn, "--data", shop, "--out", page, "--json", file, "--attribute", "side", *QUICK)
    assert result.exit_code == 0, result.output
    record = from_json(json.loads(file.read_text()))
    lines = {one.name: one for one in record.findings}
    assert record.verdict != "alarm" and all(name in result.stdout for name in lines) and str(page) in result.stdout
    assert record.calibration is not None and record.calibration.models == ("ItemKNN", "SequentialRules", "EASE")
    assert lines["what it was trained on"].verdict == "fine" and "leave-one-out" in lines["what it was trained on"].evidence
    assert lines["accuracy by side"].evidence.endswith("The model has not learned these events.")
    assert lines["learned events can be told from others"].value is not None
    html = page.read_text()
    assert html.startswith("<!doctype html>") and all(name in html for name in lines)


def test_levels_are_kept_and_taken_again(tongtu: Run, shop: Path, knn: Path, tmp_path: Path) -> None:
    kept, args = tmp_path / "levels.json", ("audit", knn, "--data", shop, "--out", tmp_path / "page.html", *QUICK)
    assert tongtu(*args, "--clean", knn, "--keep-calibration", kept).exit_code == 0
    assert json.loads(kept.read_text())["models"] == ["ItemKNN"]
    again = tongtu(*args, "--calibration", kept, "--json", tmp_path / "a.json")
    assert again.exit_code == 0 and json.loads((tmp_path / "a.json").read_text())["calibration"]["models"] == ["ItemKNN"]
    other = tongtu(*args, "--calibration", kept, "--set", "depth=12")
    assert other.exit_code == 2 and "--set depth=10" in other.stderr


def test_how_grave_a_finding_ends_the_command(tongtu: Run, shop: Path, knn: Path, tmp_path: Path) -> None:
    args = ("audit", knn, "--data", shop, "--out", tmp_path / "page.html", "--references", 0, *QUICK)
    low = ("--set", "lift.notice=0.01", "--set", "lift.alarm=99")
    assert tongtu(*args, *low).exit_code == 0
    assert tongtu(*args, *low, "--fail-on", "notice").exit_code == 1
    grave = tongtu(*args, "--set", "lift.notice=0.01", "--set", "lift.alarm=0.02")
    assert grave.exit_code == 1 and "alarm: popularity of what is recommended" in grave.stderr
    assert tongtu(*args, "--set", "lift.notice=0.01", "--set", "lift.alarm=0.02", "--fail-on", "never").exit_code == 0


def test_a_damaged_folder_is_an_alarm_and_its_page_says_so(tongtu: Run, shop: Path, knn: Path, tmp_path: Path) -> None:
    weights = knn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    result = tongtu("audit", knn, "--data", shop, "--out", tmp_path / "page.html", "--json", tmp_path / "a.json")
    assert result.exit_code == 1
    record = from_json(json.loads((tmp_path / "a.json").read_text()))
    assert record.verdict == "alarm" and {one.verdict for one in record.findings if one.part != "folder"} == {"not measured"}
    assert "SHA-256" in (tmp_path / "page.html").read_text()


def test_mistakes_get_one_line(tongtu: Run, shop: Path, knn: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "page.html", "--references", 0)
    save_dataset(attribute_world(users=30, items=12, length=6).data, tmp_path / "plain")
    stranger = open_dataset(tmp_path / "plain")
    save_dataset(dataclasses.replace(stranger, items=type(stranger.items)([f"other {i}" for i in range(12)])), tmp_path / "stranger")
    (tmp_path / "bad.json").write_text("[]")
    for arguments, said in (
        ((tmp_path / "none", "--data", shop), "no model folder"),
        ((tmp_path, "--data", shop), "config.json"),
        ((knn, "--data", tmp_path / "nowhere"), "nowhere"),
        ((knn, "--data", shop, "--attribute", "colour"), "colour"),
        ((knn, "--data", tmp_path / "stranger"), "knows no item"),
        ((knn, "--data", shop, "--set", "memory.alarms=1"), "unknown key"),
        ((knn, "--data", shop, "--calibration", tmp_path / "none.json"), "no calibration"),
        ((knn, "--data", shop, "--calibration", tmp_path / "bad.json"), "not a calibration"),
    ):
        result = tongtu("audit", *arguments, *out)
        assert result.exit_code == 2 and said in result.stderr, (arguments, result.stderr)
        assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "page.html").exists()


def test_what_a_model_says_of_its_training_is_looked_up(shop: Path) -> None:
    log = open_dataset(shop)
    rule = PROTOCOLS["leave-one-out"]
    train, before = rule.split(log).train, rule.without_test(log)
    for part in (train, before):
        found = learned_events({"trained_on": trained_on(log, part, rule)}, log)
        assert found.train is not None and found.train.fingerprint == part.fingerprint and not found.whole
    assert learned_events({"trained_on": trained_on(log, log, None)}, log).whole
    strange = log.keep_events(np.arange(log.n_events) % 2 == 0)
    assert learned_events({"trained_on": trained_on(log, strange, None)}, log).train is None
    assert not learned_events({}, log).known


def test_a_model_whose_base_is_gone_is_an_alarm(tongtu: Run, shop: Path, knn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: Path) -> None:
        raise ModelError(f"{path} stands on the model base, which is not there: put that folder back")

    monkeypatch.setattr(ItemKNN, "from_pretrained", gone)
    result = tongtu("audit", knn, "--data", shop, "--out", tmp_path / "page.html", "--references", 0)
    assert result.exit_code == 1 and "stands on the model base" in result.stderr
