"""Random requests never break the service: a short run, and a long one among the slow tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz import fuzz
from served import Listening, fitted


@pytest.mark.parametrize("cases", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_random_requests(tmp_path: Path, cases: int) -> None:
    given = tuple(f"{name}={path}" for name, path in fitted(tmp_path / "models")[0].items())
    listening = Listening(models=given, store=f"sqlite:///{tmp_path / 'store.db'}", deadline=30.0, llm="unigram", log_requests=False)
    try:
        statuses = fuzz(listening.url, cases)
    finally:
        listening.close()
    assert sum(statuses.values()) >= cases
    assert not [status for status in statuses if status >= 500]
    assert {200, 422} <= set(statuses)
