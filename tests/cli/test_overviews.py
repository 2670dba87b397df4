from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tongtu.systems import cards

Run = Callable[..., Any]


def test_systems_lists_every_one(tongtu: Run) -> None:
    lines = tongtu("systems").stdout.splitlines()
    assert [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in cards()] == list(cards())


def test_doctor_tells_what_is_there(tongtu: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGTU_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "data" / "shop"
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text("{}")
    found = dict(line.split(maxsplit=1) for line in tongtu("doctor").stdout.splitlines() if len(line.split()) > 1)
    assert "cores" in found["threads"] and found["torch"].startswith("2.")
    assert "data/shop" in tongtu("doctor").stdout and "implicit 0" in tongtu("doctor").stdout
