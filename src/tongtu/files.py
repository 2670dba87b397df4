"""Writing files and folders whole or not at all, and checking them when they are read."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tongtu.errors import TongtuError, writing

MANIFEST = "MANIFEST.json"
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux's renameat2
_HERE = -100  # AT_FDCWD


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; when the block ends well the file is synced and renamed to `path`.

    Raises:
        StorageError: If the disk is full or read-only; `path` is then as it was before.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def new_folder(path: Path, manifest: bool = True) -> Iterator[Path]:
    """An empty temporary folder beside `path`; when the block ends well it takes `path`'s place in one step.

    A folder that stood at `path` before is replaced only then, so a crash at any moment leaves the old one or the new one.

    Args:
        path: Where the folder shall stand.
        manifest: Whether to add `MANIFEST.json` with the SHA-256 of each file.

    Raises:
        StorageError: If the disk is full or read-only; `path` is then as it was before.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
        temporary.mkdir()
        try:
            yield temporary
            if manifest:
                sums = {str(f.relative_to(temporary)): sha256(f) for f in sorted(temporary.rglob("*")) if f.is_file()}
                (temporary / MANIFEST).write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")
            for file in temporary.rglob("*"):
                _sync(file)
            _sync(temporary)
            _take_place(temporary, path)
            _sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_manifest(folder: Path, kind: type[TongtuError], remedy: str, needed: Iterable[str] = ()) -> None:
    """Compare every file that a folder's manifest names with it.

    Args:
        folder: The folder.
        kind: The error to raise.
        remedy: How to end its message.
        needed: Files that the manifest must name, so that nothing is read unchecked.

    Raises:
        TongtuError: Of class `kind`, naming the first file that is missing or differs, and the `remedy`.
    """
    try:
        sums = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise kind(f"{folder} has no {MANIFEST}: {remedy}") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise kind(f"{folder}/{MANIFEST} is damaged: {remedy}") from None
    if not isinstance(sums, dict) or not set(needed) <= sums.keys():
        raise kind(f"{folder}/{MANIFEST} does not list the files it should: {remedy}")
    for name, expected in sums.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise kind(f"{folder}/{MANIFEST} names a file outside its folder ({name}): do not trust this folder")
        file = folder / name
        if not file.is_file():
            raise kind(f"{file} is missing: {remedy}")
        if sha256(file) != expected:
            raise kind(f"{file} is damaged (its SHA-256 is not the one recorded): {remedy}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_place(new: Path, path: Path) -> None:
    """Put folder `new` at `path`. Where the system can exchange two names in one step, nobody ever sees `path` absent."""
    if not path.exists():
        new.rename(path)
    elif _exchange(new, path):
        pass  # `new` now names the old folder, which the caller removes
    else:
        aside = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.old"
        path.rename(aside)
        new.rename(path)
        shutil.rmtree(aside)


def _exchange(one: Path, other: Path) -> bool:
    if sys.platform != "linux":
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return call is not None and call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0
