from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tongtu.cli import app
from tongtu.core import FitOptions
from tongtu.data.synthetic import attribute_world
from tongtu.systems.baselines.itemknn import ItemKNN


@pytest.fixture
def tongtu() -> Callable[..., Any]:
    """Run the command line in this process."""
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of a small world whose items have titles."""
    path = tmp_path_factory.mktemp("models") / "itemknn"
    ItemKNN().fit(attribute_world(users=60, items=30, length=9, seed=1).data, FitOptions(quiet=True)).save_pretrained(path)
    return path
