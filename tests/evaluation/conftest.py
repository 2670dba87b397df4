from __future__ import annotations

import pytest
from follower import make_log

from tongtu.data.dataset import Dataset


@pytest.fixture(scope="session")
def log() -> Dataset:
    return make_log()
