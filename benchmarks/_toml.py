"""Plain values as TOML, for experiment files that a benchmark writes."""

from __future__ import annotations

import json
from typing import Any


def document(values: dict[str, Any]) -> str:
    """A file with one line for each key."""
    return "".join(f"{key} = {inline(value)}\n" for key, value in values.items())


def inline(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {inline(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value)
