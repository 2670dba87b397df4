"""Whether the folder is whole and free of code, and what it says of its making."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tongtu import hub
from tongtu.data.dataset import Dataset
from tongtu.errors import ModelError
from tongtu.files import MANIFEST, check_manifest
from tongtu.trust.finding import Finding, Table, not_measured

_RESTORE = "get the folder anew from where it came from, or fit the model again with tongtu fit"
_CODE = {".py", ".pyc", ".so", ".dll", ".dylib", ".sh", ".exe", ".jar", ".js"}
_PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz", ".h5"}
_HEADS = {b"PK\x03\x04": "an archive", b"\x93NUMPY": "a NumPy file", b"\x7fELF": "a program", b"#!": "a script", b"MZ": "a program"}
_PICKLED = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
_SHOWN = 20


@dataclass(frozen=True)
class Learned:
    """What is known of the events a model learned from.

    Attributes:
        train: The part of the data set that it learned, with the same users and items; None where that is unknown or other data.
        whole: Whether it learned the last event of every user.
        says: What its folder says about it, in words that end a sentence.
        known: Whether the folder says anything.
    """

    train: Dataset | None
    whole: bool
    says: str
    known: bool


def check_files(path: Path) -> list[Finding]:
    """Whether every file is the one that was recorded, and whether there are others, or code.

    Raises:
        ModelError: If there is no model folder at all.
    """
    record: Mapping[str, Any] | None = None
    try:
        record = hub.read_record(path)
    except ModelError as error:
        if not (path / MANIFEST).is_file():  # anything else than a model folder that came to harm
            raise
        damage: str | None = str(error)
    else:
        damage = _damage(path)
    files = sorted(file for file in path.rglob("*") if file.is_file() or file.is_symlink())
    finding = Finding(
        part="folder",
        name="files are those recorded",
        verdict="alarm" if damage else "fine",
        evidence=damage or f"All {len(files):,} files have the SHA-256 that {MANIFEST} records; it tells damage, not who wrote them.",
        remedy=f"Do not use it: {_RESTORE}." if damage else "",
    )
    return [finding, _strangers(path, files), _format(record)]


def check_base(path: Path) -> Finding:
    """Whether the model that this one stands on is there."""
    base = hub.read_record(path)["facts"].get("base")
    name = "the model it stands on"
    if not isinstance(base, Mapping) or "fingerprint" not in base:
        return not_measured("folder", name, "The model stands on no other.")
    mark = str(base["fingerprint"])[:12]
    where = "within the folder" if (path / "base").is_dir() else f"at {base.get('folder')}"
    return Finding(
        part="folder",
        name=name,
        verdict="fine",
        evidence=f"The base lies {where} and was found by its fingerprint {mark}. What it learned may shine through: audit it too.",
        remedy=f"tongtu audit {path / 'base' if (path / 'base').is_dir() else base.get('folder')} with the same --data audits the base.",
    )


def check_provenance(learned: Learned, data: Dataset) -> Finding:
    """What the model was trained on, by what it says itself."""
    return Finding(
        part="folder",
        name="what it was trained on",
        verdict="fine" if learned.train is not None else "notice",
        evidence=f"{learned.says[0].upper()}{learned.says[1:]}. Nothing proves it: only its maker knows.",
        remedy="" if learned.train is not None else f"Ask who made it, and compare with a model of your own: tongtu fit on {data.name}.",
    )


def _damage(path: Path) -> str | None:
    try:
        check_manifest(path, ModelError, _RESTORE)
        hub.read(path)
    except ModelError as error:
        return str(error)
    return None


def _strangers(path: Path, files: list[Path]) -> Finding:
    """Files that the manifest does not name, and files that could run."""
    listed = _listed(path)
    extra = [str(file.relative_to(path)) for file in files if str(file.relative_to(path)) not in listed and file.name != MANIFEST]
    able = dict(_able_to_run(path, files))
    verdict: Any = "alarm" if able else "notice" if extra else "fine"
    rows = [(name, able.get(name, "not recorded")) for name in dict.fromkeys([*able, *extra])][:_SHOWN]
    said = f"{len(able)} of them could run or is a pickle." if able else "None of them is code or a pickle."
    return Finding(
        part="folder",
        name="no strange files, no code",
        verdict=verdict,
        evidence=f"{len(extra)} of {len(files)} files are not recorded in {MANIFEST}. {said} Tongtu itself opens neither.",
        remedy="" if verdict == "fine" else "Delete what you did not put there, and ask the sender why it came along.",
        value=float(len(able) + len(extra)),
        tables=(Table(title="Files", columns=("file", "what it is"), rows=tuple(rows)),) if rows else (),
    )


def _listed(path: Path) -> set[str]:
    try:
        sums = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return set(sums) if isinstance(sums, dict) else set()


def _able_to_run(path: Path, files: list[Path]) -> Iterator[tuple[str, str]]:
    for file in files:
        name = str(file.relative_to(path))
        if file.is_symlink():
            yield name, "a link to another place"
            continue
        with file.open("rb") as opened:
            head = opened.read(8)
        kinds = [what for start, what in _HEADS.items() if head.startswith(start)]
        if head.startswith(_PICKLED) and file.suffix != ".safetensors":  # there, the first bytes are a length
            yield name, "a pickle"
        elif kinds and file.suffix not in (".safetensors", ".parquet"):
            yield name, kinds[0]
        elif file.suffix.lower() in _CODE:
            yield name, "code"
        elif file.suffix.lower() in _PICKLES:
            yield name, "a kind of file that may hold a pickle"


def _format(record: Mapping[str, Any] | None) -> Finding:
    name = "format and class"
    if record is None:
        return not_measured("folder", name, "config.json cannot be read.", f"{_RESTORE[0].upper()}{_RESTORE[1:]}.")
    ours = hub.is_registered(record["class"])
    versions = ", ".join(f"{package} {number}" for package, number in record.get("versions", {}).items())
    return Finding(
        part="folder",
        name=name,
        verdict="fine" if ours else "alarm",
        evidence=f"Format {record['format']} of {hub.FORMAT}, class {record['class']}{'' if ours else ', which no installed package registers'}; "
        f"written by {versions or 'an unknown version'}.",
        remedy="" if ours else "Install the package it comes from, if you trust it; Tongtu opens no class that is not registered.",
    )
