"""What was acknowledged survives the death of the process that wrote it."""

from __future__ import annotations

from pathlib import Path

from killed_writer import check_kills


def test_acknowledged_events_survive_a_kill(tmp_path: Path) -> None:
    check_kills(f"sqlite:///{tmp_path}/store.db", events=600, kills=2, seed=1)
