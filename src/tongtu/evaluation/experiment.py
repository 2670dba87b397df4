"""An experiment file: which systems are compared on which data, under which protocol, with which seeds and which search.

    name = "ml-100k"
    data = "ml-100k"                # a known public set or a data set folder
    seeds = [0, 1, 2]

    [protocol]                      # optional; or protocol = "global-time"
    name = "leave-one-out"
    filter_seen = true

    [search]                        # optional: as many trials for every system that has a space
    trials = 20

    [[systems]]
    name = "ease"
    settings = {l2 = 250.0}
    space = {l2 = {low = 10.0, high = 2000.0, log = true}}

Whatever is left out has a default.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from tongtu.config import build, configuration, merge, read_toml
from tongtu.core import Recommender
from tongtu.errors import ConfigError
from tongtu.evaluation.protocol import EvalProtocol, protocol_from

REFIT = " (train+valid)"


class Card(Protocol):
    """What is known of a kind of system."""

    @property
    def title(self) -> str: ...
    @property
    def road(self) -> str: ...
    @property
    def paper(self) -> str: ...


class Systems(Protocol):
    """Where systems come from: the module `tongtu.systems`, or anything like it."""

    def cards(self) -> Mapping[str, Any]: ...
    def make(self, name: str, settings: Mapping[str, Any] | None = None) -> Recommender: ...


@configuration
class Entry:
    """One system of an experiment.

    Attributes:
        name: As `tongtu systems` lists it.
        label: The row's name in tables; the system's title if left out.
        settings: Its configuration, where it differs from the default.
        space: Settings to search: a list of values, or {low, high} with log = true for a logarithmic scale.
        refit: "train+valid" adds a row that is fitted again on training and validation events, for the number of epochs
            that was chosen on validation.
    """

    name: str
    label: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    space: dict[str, Any] = Field(default_factory=dict)
    refit: Literal["train+valid"] | None = None


@configuration
class Search:
    """Hyper-parameter search on validation NDCG@10.

    Attributes:
        trials: For every system that has a space.
        seed: Of the search and of the fits in it.
    """

    trials: int = Field(20, ge=1)
    seed: int = Field(0, ge=0)


@configuration
class Experiment:
    """What a comparison does.

    Attributes:
        name: What to call it.
        data: A public data set's name or a data set folder.
        protocol: How systems are compared.
        seeds: Every system is fitted once with each.
        systems: The rows.
        search: None takes the settings as they are.
        validation_users: While training, validate on this many users only; None validates on all.
        examples: Users shown in the report.
        categories: An item field, "categories" say, by which the lists' diversity and coverage are measured besides; see `tongtu.evaluation.variety`.
    """

    name: str
    data: str
    protocol: EvalProtocol = Field(default_factory=EvalProtocol)
    seeds: tuple[int, ...] = (0,)
    systems: tuple[Entry, ...]
    search: Search | None = None
    validation_users: int | None = Field(None, ge=1)
    examples: int = Field(4, ge=0)
    categories: str | None = None

    def entry(self, label: str) -> Entry:
        """The system with this label."""
        return next(entry for entry in self.systems if entry.label == label)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table: an entry as it is, or fitted again on more."""

    entry: Entry
    refit: bool

    @property
    def label(self) -> str:
        """The row's name."""
        return self.entry.label + REFIT if self.refit else self.entry.label


def rows(experiment: Experiment) -> Iterator[Row]:
    """The rows in the order of the file; a refit follows the row it belongs to."""
    for entry in experiment.systems:
        yield Row(entry, False)
        if entry.refit:
            yield Row(entry, True)


def read_experiment(path: Path, systems: Systems) -> Experiment:
    """Read and check an experiment file: every system and setting in it is known before anything runs.

    Raises:
        ConfigError: Naming what is wrong and the nearest known word.
    """
    return experiment_from(read_toml(path), systems, str(path))


def experiment_from(values: Mapping[str, Any], systems: Systems, where: str = "experiment") -> Experiment:
    """An experiment from plain values, as `read_experiment` checks it."""
    parts = dict(values)
    if "protocol" in parts:
        parts["protocol"] = protocol_from(parts["protocol"])
    if not isinstance(parts.get("systems"), list) or not parts["systems"]:
        raise ConfigError(f'{where}: no systems to compare: add one, for example systems = [{{name = "popular"}}]')
    parts["systems"] = [_entry(entry, systems, f"{where}, system {number}") for number, entry in enumerate(parts["systems"], start=1)]
    experiment = build(Experiment, parts, where)
    if not experiment.seeds or len(set(experiment.seeds)) != len(experiment.seeds):
        raise ConfigError(f"{where}: seeds must be different whole numbers, for example seeds = [0, 1, 2]")
    names = [slug(row.label) for row in rows(experiment)]
    double = next((row.label for row, name in zip(rows(experiment), names, strict=True) if names.count(name) > 1), None)
    if double is not None:
        raise ConfigError(f"{where}: two systems are called {double!r}: give each a label of its own")
    if experiment.search is None and (entry := next((one for one in experiment.systems if one.space), None)):
        raise ConfigError(f"{where}: {entry.label} has a space but there is no [search]: add [search] with trials = 20, or take the space away")
    return experiment


def slug(label: str) -> str:
    """A label as the name of a folder."""
    return re.sub(r"[^0-9a-z]+", "-", label.lower()).strip("-") or "row"


def _entry(values: Mapping[str, Any], systems: Systems, where: str) -> Entry:
    entry = build(Entry, values, where)
    systems.make(entry.name, entry.settings)
    if entry.space:
        from tongtu.evaluation.search import corner  # imports Optuna

        systems.make(entry.name, merge(entry.settings, corner(entry.space)))
    return entry if entry.label else dataclasses.replace(entry, label=systems.cards()[entry.name].title)
