"""Tongtu (通途): from your own event log to a recommendation foundation model.

The names below are the public Python API; each is imported when it is first used, so `import tongtu` stays light.
"""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "PAD": "tongtu.core",
    "Request": "tongtu.core",
    "TopK": "tongtu.core",
    "FitOptions": "tongtu.core",
    "Recommender": "tongtu.core",
    "Dataset": "tongtu.data.dataset",
    "open_model": "tongtu.hub",
}
__all__ = ["PAD", "Dataset", "FitOptions", "Recommender", "Request", "TopK", "open_model"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'tongtu' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
