from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tongtu import systems as known
from tongtu.cli import demo
from tongtu.config import read_toml
from tongtu.evaluation.experiment import experiment_from

Run = Callable[..., Any]
SILENT = {"filtered"}  # nobody wishes for anything in the demo, and without a wish it is the system it filters


def systems_of(name: str) -> list[str]:
    file = Path(demo.__file__).with_name(name)
    return [entry.name for entry in experiment_from(read_toml(file), known, name).systems]


@pytest.mark.parametrize("kind", ["", "-full"])
def test_the_demo_compares_every_system(kind: str) -> None:
    cards = [card for card in known.cards().values() if card.where.startswith("tongtu.")]
    assert set(systems_of(f"demo{kind}.toml")) == {card.name for card in cards if card.road != "prompted"} - SILENT
    asked = {card.name for card in cards if card.road == "prompted"} - (set() if kind else {"chatrec"})
    assert asked <= set(systems_of(f"demo-prompted{kind}.toml"))


@pytest.mark.slow
def test_the_demo_ends_with_table_and_report_and_repeats_nothing(tongtu: Run, tmp_path: Path) -> None:
    result = tongtu("demo", "--out", tmp_path / "demo")
    assert result.exit_code == 0, result.stderr
    for title in titles():
        assert title in result.stdout
    assert (tmp_path / "demo" / "prompted" / "report.html").is_file()
    assert (tmp_path / "demo" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    again = tongtu("demo", "--out", tmp_path / "demo")
    assert again.stderr.count("kept from before") == len(systems_of("demo.toml")) + len(systems_of("demo-prompted.toml"))


def titles() -> list[str]:
    return [card.title for card in known.cards().values() if card.name not in {"chatrec", *SILENT}]
