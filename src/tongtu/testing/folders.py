"""Model folders: that they bring back the model, hold no code, and are refused when damaged."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from tongtu import hub
from tongtu.config import plain
from tongtu.core import Recommender, Represents
from tongtu.errors import ModelError
from tongtu.files import MANIFEST
from tongtu.testing.case import Case, K, refuses, require

_KINDS = {".json", ".safetensors", ".parquet", ".txt", ".model", ".jinja"}
_PICKLED = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04", b"\x93NUMPY")


def check_folder(case: Case) -> None:
    """A model folder brings back the same model, holds no code, and is refused when damaged."""
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "new" / "model"
        for _ in range(2):  # the second time over the first
            case.system.save_pretrained(path)
        _check_files(case, path)
        expected = case.system.recommend(case.requests, K)
        vectors = case.system.user_vectors(case.requests) if isinstance(case.system, Represents) else None
        for opened in (opening(path) for opening in _openers(case)):
            require(type(opened) is type(case.system), case, "a folder must open as the class that wrote it")
            require(opened.config == case.system.config and opened.items == case.system.items, case, "config and items must come back from the folder")
            answer = opened.recommend(case.requests, K)
            same = np.array_equal(answer.items, expected.items) and np.array_equal(answer.scores, expected.scores)
            require(same, case, "a model that was saved and opened must give identical scores")
            if vectors is not None:
                assert isinstance(opened, Represents)
                require(np.array_equal(opened.user_vectors(case.requests), vectors), case, "a model that was saved and opened must give identical user vectors")
        for file in sorted(path.rglob("*")):
            if file.is_file():
                _check_damage(case, path, file)


def _openers(case: Case) -> list[Callable[[Path], Recommender]]:
    """The ways to open a folder: by its class, and by the name in it where the class is registered."""
    kind = type(case.system)
    return [kind.from_pretrained, *([hub.open_model] if hub.is_registered(f"{kind.__module__}:{kind.__qualname__}") else [])]


def _check_files(case: Case, path: Path) -> None:
    files = [f for f in sorted(path.rglob("*")) if f.is_file()]
    require((path / MANIFEST).is_file(), case, f"a model folder must hold {MANIFEST}: write it with tongtu.hub.save")
    record = json.loads((path / "config.json").read_text(encoding="utf-8"))
    require(record["config"] == plain(case.system.config), case, "config.json must hold the configuration")
    sums = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    for file in files:
        name = str(file.relative_to(path))
        require(name in sums or name == MANIFEST, case, f"{MANIFEST} must list {name}")
        pickled = file.suffix not in _KINDS or file.read_bytes()[:6].startswith(_PICKLED)
        require(not pickled, case, f"a model folder must hold nothing that could be a pickle or code, but it holds {name}")


def _check_damage(case: Case, path: Path, file: Path) -> None:
    good = file.read_bytes()
    broken = bytearray(good)
    broken[len(good) // 2] ^= 0x10
    for damaged in (bytes(broken), good[: len(good) // 2]):
        file.write_bytes(damaged)
        for opening in _openers(case):
            refuses(case, ModelError, partial(opening, path), f"a folder with a damaged {file.name}")
    file.write_bytes(good)
