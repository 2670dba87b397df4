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


def systems_of(part: demo.Part, full: bool) -> list[str]:
    file = demo.file_of(part, full)
    return [entry.name for entry in experiment_from(read_toml(file), known, str(file)).systems]


@pytest.mark.parametrize("full", [False, True])
def test_the_demo_compares_every_system(full: bool) -> None:
    ours = {card.name for card in known.cards().values() if card.where.startswith("tongtu.")}
    shown = {name for part in demo.PARTS for name in systems_of(part, full)}
    assert shown == ours - (set() if full else {"chatrec"})


@pytest.mark.slow
def test_the_demo_ends_with_table_and_report_and_repeats_nothing(tongtu: Run, tmp_path: Path) -> None:
    result = tongtu("demo", "--out", tmp_path / "demo")
    assert result.exit_code == 0, result.stderr
    for title in titles():
        assert title in result.stdout
    for part in demo.PARTS:
        assert (tmp_path / "demo" / part.folder / "report.html").is_file()
    assert (tmp_path / "demo" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    again = tongtu("demo", "--out", tmp_path / "demo")
    assert again.stderr.count("kept from before") == sum(len(systems_of(part, full=False)) for part in demo.PARTS)


def titles() -> list[str]:
    return [card.title for card in known.cards().values() if card.name != "chatrec"]
