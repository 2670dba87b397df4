"""Random requests never break the service: a short run; tests/system has the long one."""

from __future__ import annotations

from pathlib import Path

from fuzz import fuzz
from served import Listening, fitted


def test_random_requests(tmp_path: Path) -> None:
    given = tuple(f"{name}={path}" for name, path in fitted(tmp_path / "models")[0].items())
    listening = Listening(models=given, store=f"sqlite:///{tmp_path / 'store.db'}", deadline=30.0, llm="unigram", log_requests=False)
    try:
        statuses = fuzz(listening.url, 100)
    finally:
        listening.close()
    assert sum(statuses.values()) >= 90
    assert not [status for status in statuses if status >= 500]
    assert {200, 422} <= set(statuses)
