"""Small fitted models for the tests of the engine, and a store that forgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tongtu.core import FitOptions
from tongtu.data.synthetic import text_world
from tongtu.serve.store.records import SavedModel
from tongtu.systems import make

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "popular": {},
    "ease": {},
    "sasrec": {"width": 16, "max_length": 6, "training": {"epochs": 1}},
    "textknn": {"encoder": "hashing"},
    "llmrank": {"llm": "unigram", "candidates": 10, "retriever": "popular"},
}
DATA = text_world(users=60).data


def save(name: str, path: Path, **settings: Any) -> Path:
    """A model folder of a system fitted on a small world of 200 items."""
    make(name, {**SETTINGS[name], **settings}).fit(DATA, FitOptions(quiet=True)).save_pretrained(path)
    return path


class Notebook:
    """What a registry needs of a store, in memory."""

    def __init__(self) -> None:
        self.rows: list[SavedModel] = []
        self.settings: dict[str, Any] = {}
        self.full = False

    @property
    def sync(self) -> Notebook:
        return self

    async def call(self, method: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0)
        return method(*args)

    def models(self) -> list[SavedModel]:
        return list(self.rows)

    def save_models(self, rows: Sequence[SavedModel]) -> None:
        if self.full:
            raise OSError("no room")
        self.rows = list(rows)

    def setting(self, name: str) -> Any:
        return self.settings.get(name)

    def save_setting(self, name: str, value: Mapping[str, Any]) -> None:
        self.settings[name] = dict(value)
