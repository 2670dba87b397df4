from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tongtu.serve.store import Store


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.system)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    url: str = request.getfixturevalue("postgres").new_database()
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An empty store in a database of each kind."""
    with Store.open(store_url) as opened:
        yield opened
