"""Model folders: written whole, checked when opened, and free of code.

A folder holds `config.json` (the class, its configuration and versions), `*.safetensors`, `items.parquet` (the catalogue the
model knows, in code order, with titles where the data had them), `texts/` where the model has further texts (a tokenizer), and
`MANIFEST.json` (SHA-256 of each file). Nothing in it is executed: the class named in `config.json` must be one that Tongtu or an
installed package registers.
"""

from __future__ import annotations

import importlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import save_file

from tongtu.config import build, plain
from tongtu.core import Recommender
from tongtu.errors import ModelError, StorageError
from tongtu.files import MANIFEST, check_manifest, new_folder
from tongtu.tensors import open_tensors
from tongtu.vocab import Vocab

FORMAT = 1
_REMEDY = "restore the folder from a copy, or fit the model again"
_OURS = "tongtu.systems."
_FILES = ("config.json", "items.parquet", "model.safetensors")
_TEXTS = "texts"
_METHODS = ("fit", "recommend", "save_pretrained", "from_pretrained")

Array = npt.NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder held.

    Attributes:
        config: The system's configuration, plain values.
        items: The catalogue, in code order.
        arrays: The weights by name. Large ones are mapped from the file, see `tongtu.tensors`; writing to them changes nothing there.
        facts: Whatever else the system wrote about itself, and how the model was made.
        item_text: One text an item, in code order, or None where the model was saved without.
        texts: Further text files by name.
    """

    path: Path
    config: Mapping[str, Any]
    items: Vocab
    arrays: Mapping[str, Array]
    facts: Mapping[str, Any]
    item_text: pl.Series | None = None
    texts: Mapping[str, str] = field(default_factory=dict)


def save(
    path: Path,
    system: Recommender,
    arrays: Mapping[str, Array],
    facts: Mapping[str, Any] | None = None,
    parts: Mapping[str, Recommender] | None = None,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write a model folder, replacing one that stands there only when the new one is complete.

    Args:
        path: The folder.
        system: The system; its class, `config`, `items` and (where present) `provenance` and `item_text` are recorded.
        arrays: Weights by name; bfloat16 is not possible, pass float32.
        facts: Plain values the system needs to come back.
        parts: Recommenders that it is made of; each becomes a model folder of this name within.
        texts: Further text files by name, a tokenizer.json say; they lie in a folder of their own within.
    """
    kind = type(system)
    record = {
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "format": FORMAT,
        "versions": {"tongtu": version("tongtu"), "python": platform.python_version(), "numpy": np.__version__},
        "config": plain(system.config),
        "facts": dict(facts or {}),
        "provenance": dict(getattr(system, "provenance", {})),
    }
    refuse_foreign(Path(path))
    with new_folder(Path(path)) as folder:
        (folder / "config.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        text: pl.Series | None = getattr(system, "item_text", None)
        columns = [system.items.ids] if text is None else [system.items.ids, text.rename("text")]
        pl.DataFrame(columns).write_parquet(folder / "items.parquet")
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "model.safetensors")
        for name, content in (texts or {}).items():
            (folder / _TEXTS).mkdir(exist_ok=True)
            (folder / _TEXTS / name).write_bytes(content.encode("utf-8"))
        for name, part in (parts or {}).items():
            part.save_pretrained(folder / name)


def refuse_foreign(path: Path) -> None:
    """Stop before anything but a model folder would be replaced.

    Raises:
        StorageError: If something else stands at `path`.
    """
    ours = all((path / name).is_file() for name in ("config.json", MANIFEST))
    if path.exists() and not ours and not (path.is_dir() and not any(path.iterdir())):
        raise StorageError(f"{path} exists and is not a model folder, so it will not be replaced: choose another place")


def read(path: Path, kind: type | None = None) -> ModelFolder:
    """Open and check a model folder.

    Args:
        path: The folder.
        kind: The class that must have written it, or None for any.

    Raises:
        ModelError: If it is missing, damaged, of a newer format or of another class.
    """
    path = Path(path)
    record = read_record(path)
    if kind is not None and record["class"] != f"{kind.__module__}:{kind.__qualname__}":
        raise ModelError(f"{path} holds a {record['class']}, not a {kind.__name__}: open it with tongtu.open_model")
    further = sorted((path / _TEXTS).glob("*"))
    check_manifest(path, ModelError, _REMEDY, needed=(*_FILES, *(f"{_TEXTS}/{file.name}" for file in further)))
    try:
        arrays = open_tensors(path / "model.safetensors")
        table = pl.read_parquet(path / "items.parquet")
        items, text = Vocab(table["id"]), table["text"] if "text" in table.columns else None
        texts = {file.name: file.read_bytes().decode("utf-8") for file in further}
    except (OSError, ValueError, SafetensorError, pl.exceptions.PolarsError) as error:
        raise ModelError(f"{path} cannot be read ({' '.join(str(error).split())}): {_REMEDY}") from None
    facts = _Parts(path, {**record["facts"], "provenance": record["provenance"]})
    return ModelFolder(path, record["config"], items, _Parts(path, arrays), facts, text, _Parts(path, texts))


def open_model(path: Path | str) -> Recommender:
    """Open any saved model by the class its folder names.

    Raises:
        ModelError: If the folder is missing, damaged, or names a class that is not registered here.
    """
    path = Path(path)
    name = read_record(path)["class"]
    module, _, attribute = name.partition(":")
    if not is_registered(name):
        raise ModelError(f"{path} names the class {name}, which no installed package registers: install the package it comes from")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        raise ModelError(f"{path} names the class {name}, which this version of Tongtu does not have: upgrade tongtu") from None
    if not _is_recommender(kind, name):
        raise ModelError(f"{path} names {name}, which is not a recommender: do not trust this folder")
    return cast(type[Recommender], kind).from_pretrained(path)


def is_registered(name: str) -> bool:
    """Whether folders that name the class "module:Class" are opened by `open_model`."""
    return name.startswith(_OURS) or name in {point.value for point in entry_points(group="tongtu.systems")}


def _is_recommender(kind: object, name: str) -> bool:
    """Whether `kind` is a recommender that the module itself defines: never a function or class that it happens to import."""
    own = isinstance(kind, type) and f"{kind.__module__}:{kind.__qualname__}" == name and not getattr(kind, "_is_protocol", False)
    return own and all(hasattr(kind, method) for method in _METHODS)


class _Parts(dict[str, Any]):
    """What a folder holds by name; asking for something it lacks is the folder's mistake."""

    def __init__(self, path: Path, parts: Mapping[str, Any]) -> None:
        super().__init__(parts)
        self.path = path

    def __missing__(self, name: str) -> Any:
        raise ModelError(f"{self.path} lacks {name!r}, which its class needs: fit the model again with this version of Tongtu")


def restore_config(folder: ModelFolder, kind: type[T]) -> T:
    """The configuration object of a model folder."""
    return build(kind, folder.config, f"{folder.path}/config.json")


def read_record(path: Path) -> dict[str, Any]:
    """What a model folder's config.json says: class, format, versions, config, facts and provenance.

    Raises:
        ModelError: If there is no model folder, its config.json is damaged, or it is of a newer format.
    """
    if not path.is_dir():
        raise ModelError(f"no model folder at {path}: check the path, or make one with `tongtu fit`")
    try:
        record = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is not a model folder (it has no config.json): check the path") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ModelError(f"{path}/config.json is damaged: {_REMEDY}") from None
    if not isinstance(record, dict) or not {"class", "format", "config", "facts", "provenance"} <= record.keys():
        raise ModelError(f"{path} is not a Tongtu model folder (its config.json names no class): check the path")
    kinds = (("class", str), ("format", int), ("config", dict), ("facts", dict), ("provenance", dict))
    if not all(isinstance(record[key], kind) for key, kind in kinds):
        raise ModelError(f"{path}/config.json is damaged: {_REMEDY}")
    if record["format"] > FORMAT:
        raise ModelError(f"{path} was written by a newer Tongtu (format {record['format']}): upgrade tongtu")
    return record
