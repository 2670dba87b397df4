"""The pretrained model that prompts and adapters stand on: where it comes from, and how it is known again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration, plain
from tongtu.core import FitOptions, Offsets, Recommender
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError, ModelError
from tongtu.files import MANIFEST, sha256
from tongtu.nn.answer import arrays_of
from tongtu.nn.sequence import Promptable
from tongtu.ranking import CatalogueScorer, target_ranks
from tongtu.systems import cards, make

FOLDER = "base"
_ASKED = 500  # users whose last event validates the pre-training
_CUTOFF = 10
_KEPT = 4
_opened: dict[str, tuple[BaseModel, str]] = {}


class BaseModel(Recommender, CatalogueScorer, Protocol):
    """A recommender around one network that reads histories from left to right."""

    item_text: Any
    counts: Offsets
    net: Any
    provenance: dict[str, Any]


@configuration
class BaseConfig:
    """Where the pretrained model comes from.

    Attributes:
        base: A model folder, or the name of a system that is pre-trained within the fit, on the events fitted on.
        pretraining: The settings of that system.
        bases: A folder that keeps models pre-trained within fits: a fit with the same data, settings and seed takes the one that is there.
        carry: Whether the saved folder holds the base too, so that it stands alone; one that lies nowhere else is always held.
    """

    base: str = "sasrec"
    pretraining: dict[str, Any] = Field(default_factory=dict)
    bases: str | None = None
    carry: bool = False


@dataclass(frozen=True)
class Base:
    """A pretrained model.

    Attributes:
        system: It.
        fingerprint: SHA-256 of its class, settings, catalogue and weights.
        folder: Where it lies, or None.
        seconds: That it took to open or pre-train it.
    """

    system: BaseModel
    fingerprint: str
    folder: Path | None
    seconds: float

    @property
    def facts(self) -> dict[str, Any]:
        """What a folder that stands on it writes down."""
        return {"fingerprint": self.fingerprint, "folder": None if self.folder is None else str(self.folder.absolute())}


def base_for(config: BaseConfig, data: Dataset, options: FitOptions) -> Base:
    """The pretrained model of a configuration.

    Raises:
        ConfigError: If it is neither a folder nor a system, or not one that prompts can stand on.
        ModelError: If the folder is damaged or of another catalogue.
    """
    started = time.monotonic()
    if Path(config.base).is_dir():
        if config.pretraining:
            raise ConfigError(f"base {config.base} is pre-trained already: leave pretraining out, or give a system's name as base")
        folder: Path | None = Path(config.base)
        system, fingerprint = opened(Path(config.base))
    elif config.base in cards():
        system, folder = _pretrained(config, data, options)
        fingerprint = fingerprint_of(_promptable(system, config.base))
    else:
        raise ConfigError(f"base {config.base!r} is neither a model folder nor a system: check the path, or name a system such as sasrec")
    if system.items != data.items:
        raise ModelError(f"base {config.base} knows other items than {data.name}: fit it on a part of the same data set")
    return Base(system, fingerprint, folder, time.monotonic() - started)


def opened(folder: Path) -> tuple[BaseModel, str]:
    """The model of a folder and its fingerprint. Whoever stands on the same folder shares one copy, which nobody may change."""
    manifest = folder / MANIFEST
    key = f"{folder.absolute()} {sha256(manifest)}" if manifest.is_file() else ""
    if key not in _opened:
        system = _promptable(cast(BaseModel, hub.open_model(folder)), str(folder))
        found = system, fingerprint_of(system)
        while len(_opened) >= _KEPT:
            del _opened[next(iter(_opened))]
        _opened[key] = found
    return _opened[key]


def found_again(path: Path, facts: Mapping[str, Any]) -> Base:
    """The base of a model folder: within it, where it lay, or beside it.

    Raises:
        ModelError: If it is not there, or is another one.
    """
    if (path / FOLDER).is_dir():
        system, fingerprint = opened(path / FOLDER)
        return Base(system, fingerprint, None, 0.0)
    if facts["folder"] is None:
        raise ModelError(f"{path} lacks its folder {FOLDER}: restore it from a copy, or fit the model again")
    places = [Path(facts["folder"]), path.absolute().parent / Path(facts["folder"]).name]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        raise ModelError(f"{path} stands on the model {places[0]}, which is not there: put that folder back, or beside {path}")
    system, fingerprint = opened(folder)
    if fingerprint != facts["fingerprint"]:
        raise ModelError(f"{path} was made for another model than the one now at {folder}: put back that one ({facts['fingerprint'][:12]}), or fit again")
    return Base(system, fingerprint, folder, 0.0)


def fingerprint_of(system: BaseModel) -> str:
    """SHA-256 of a model's class, settings, catalogue and weights."""
    kind = type(system)
    digest = hashlib.sha256(json.dumps([f"{kind.__module__}:{kind.__qualname__}", plain(system.config)], sort_keys=True).encode())
    digest.update("\0".join(system.items.ids.to_list()).encode())
    for name, array in sorted(arrays_of(system.net).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def forget(options: FitOptions) -> None:
    """Remove the state of pre-training, which nothing needs once what follows it is done."""
    if (state := _state(options)) is not None:
        shutil.rmtree(state, ignore_errors=True)


def _pretrained(config: BaseConfig, data: Dataset, options: FitOptions) -> tuple[BaseModel, Path | None]:
    """A system fitted on the data set but for some users' last events, which choose the epoch; and where it is kept."""
    folder = None
    if config.bases is not None:
        parts = [config.base, config.pretraining, data.fingerprint, options.seed]
        folder = Path(config.bases) / f"{config.base}-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]}"
        if folder.is_dir():
            return opened(folder)[0], folder
    system = cast(BaseModel, make(config.base, config.pretraining))
    train, measure = _held_out(data, options.seed)
    system.fit(train, dataclasses.replace(options, validate=measure, checkpoint=_state(options), tracker=None))
    if folder is not None and not folder.is_dir():  # another fit may have been faster
        system.save_pretrained(folder)
    return system, folder


def _held_out(data: Dataset, seed: int) -> tuple[Dataset, Callable[[Recommender], dict[str, float]] | None]:
    """The events to learn from, and NDCG@10 of some users' last ones; the protocol's own cases may have no history, and then say nothing of a base."""
    able = np.flatnonzero(data.lengths >= 3)
    chosen = np.sort(np.random.default_rng([seed, len(able)]).permutation(able)[:_ASKED])
    if len(chosen) < _CUTOFF:
        return data, None
    last = data.offset[chosen + 1] - 1
    keep = np.ones(data.n_events, np.bool_)
    keep[last] = False
    requests, target = data.requests((chosen + 1).astype(np.int32), stop=last, now=None if data.time is None else data.time[last]), data.item[last]

    def measure(system: Recommender) -> dict[str, float]:
        rank = target_ranks(cast(CatalogueScorer, system), requests, target)
        return {"ndcg@10": float(np.where(rank <= _CUTOFF, 1 / np.log2(rank + 1.0), 0.0).mean())}

    return data.keep_events(keep), measure


def _promptable(system: BaseModel, name: str) -> BaseModel:
    """The base, if prompts can stand on it.

    Raises:
        ConfigError: If its network has no layers to put prompts before, or sees both ways.
    """
    net = getattr(system, "net", None)
    if not isinstance(net, Promptable) or not isinstance(net, torch.nn.Module) or not net.causal:
        raise ConfigError(f"base {name} is a {type(system).__name__}, which takes no prompts: choose one that reads from left to right, such as sasrec or hstu")
    return system


def _state(options: FitOptions) -> Path | None:
    """The folder for the state of pre-training, beside that of the fit it is a part of."""
    folder = options.checkpoint
    return None if folder is None else folder.with_name(f"{folder.name}.pretraining")
