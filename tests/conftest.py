"""Settings of every test run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from postgres_cluster import Postgres

# The tests' networks are tiny: a second thread only waits, and on a busy machine two that wait for each other take many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# ranx compiles for minutes what runs in a second as it is; whoever imports numba first (bm25s does) decides it for all.
os.environ["NUMBA_DISABLE_JIT"] = "1"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL server, for tests marked `system`."""
    from postgres_cluster import postgres_cluster

    with postgres_cluster() as server:
        yield server
