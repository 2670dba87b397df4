"""The single steps of a comparison: searching a system's settings, and fitting and judging it with one seed.

A step is named by a `Task` of plain values and finds everything else in the comparison's folder, so it can run in this
process, in one of its own or on another machine that sees the folder. It leaves a folder or a file, whole or not at all:

    experiment.json                    the experiment, and the data set it runs on
    search/<label>.json                every trial
    runs/<label>-<seed>/run.json       figures, configuration, training curves
    runs/<label>-<seed>/cases.parquet  user, target, rank (null for a miss), the ten items recommended, and MIND's metrics of impressions
    runs/<label>-<seed>/model/         the fitted model
    checkpoints/                       of fits under way

What exists already is kept if it was made with the same settings under the same fingerprint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from tongtu.config import build, merge, plain
from tongtu.core import FitOptions, Recommender
from tongtu.data.dataset import Dataset
from tongtu.data.public import load
from tongtu.data.splits import Split
from tongtu.errors import ConfigError, ModelError, TongtuError
from tongtu.evaluation.evaluate import Answers, ask, list_metrics, validator
from tongtu.evaluation.experiment import Experiment, Row, Search, Systems, rows, slug
from tongtu.evaluation.metrics import MISS, popularity_by_rank
from tongtu.evaluation.protocol import trained_on
from tongtu.files import check_manifest, new_folder, write_json

FORMAT = 1


@dataclass(frozen=True)
class Task:
    """One step: `search` the settings of the row with this label, or `fit` and judge it with this seed."""

    out: str
    step: Literal["search", "fit"]
    label: str
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.label}: search" if self.step == "search" else f"{self.label}, seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """How a step ended: the seconds it took (or had taken, if it was done before and `kept`), and the reason if it failed."""

    task: Task
    seconds: float
    kept: bool = False
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Workspace:
    """A comparison's folder with its experiment, its data and its split."""

    out: Path
    experiment: Experiment
    data: Dataset
    split: Split
    fingerprint: str

    @classmethod
    def create(cls, experiment: Experiment, out: Path) -> Workspace:
        """Write down what the folder is for.

        Raises:
            ConfigError: If the folder holds results of another protocol or other data.
        """
        space = cls._of(experiment, out)
        for file in sorted(out.glob("runs/*/run.json")) + sorted(out.glob("search/*.json")):
            found = _read(file).get("fingerprint")
            if found != space.fingerprint:
                raise ConfigError(f"{file} was made under another protocol or on other data (fingerprint {str(found)[:12]}): choose another --out")
        write_json(out / "experiment.json", plain(experiment))
        return space

    @classmethod
    def open(cls, out: Path) -> Workspace:
        """The comparison in a folder."""
        return cls._of(build(Experiment, _read(out / "experiment.json"), str(out / "experiment.json")), out)

    @classmethod
    def _of(cls, experiment: Experiment, out: Path) -> Workspace:
        data = load(experiment.data)
        return cls(out, experiment, data, experiment.protocol.split(data), experiment.protocol.fingerprint(data))

    def row(self, label: str) -> Row:
        """The row with this label."""
        return next(row for row in rows(self.experiment) if row.label == label)

    def run_folder(self, label: str, seed: int) -> Path:
        """Where a fitted row lies."""
        return self.out / "runs" / f"{slug(label)}-{seed}"

    def search_file(self, label: str) -> Path:
        """Where a row's trials lie."""
        return self.out / "search" / f"{slug(label)}.json"

    def run(self, label: str, seed: int) -> dict[str, Any]:
        """What was written about a fitted row."""
        return _read(self.run_folder(label, seed) / "run.json")

    def trials(self, label: str) -> list[dict[str, Any]]:
        """A row's trials, or none."""
        file = self.search_file(label)
        return list(_read(file)["trials"]) if file.exists() else []

    def validate(self) -> Callable[[Recommender], dict[str, float]] | None:
        """What is watched while training."""
        return validator(self.split.valid, self.experiment.validation_users) if len(self.split.valid) else None


def execute(task: Task, systems: Systems, peak_memory_mb: Callable[[], float] | None = None, quiet: bool = True) -> Outcome:
    """Do one step, unless it was done before.

    Args:
        task: Which.
        systems: Where systems come from.
        peak_memory_mb: Tells the largest memory this process has used, if the process does nothing but this step.
        quiet: Whether to show no progress.
    """
    started = time.perf_counter()
    try:
        space = Workspace.open(Path(task.out))
        kept = _search(space, task, systems) if task.step == "search" else _fit(space, task, systems, peak_memory_mb, quiet)
    except TongtuError as error:
        return Outcome(task, time.perf_counter() - started, error=str(error))
    return Outcome(task, _seconds_taken(space, task) if kept else time.perf_counter() - started, kept)


def _search(space: Workspace, task: Task, systems: Systems) -> bool:
    from tongtu.evaluation.search import METRIC, Trial, search

    entry, rule = space.row(task.label).entry, space.experiment.search or Search()
    file, validate = space.search_file(task.label), space.validate()
    if validate is None:
        raise ConfigError("a search needs validation cases and this protocol holds none out: take [search] away or choose another protocol")
    start = plain(systems.make(entry.name, entry.settings).config)
    key = _key(space, {"name": entry.name, "settings": start, "space": entry.space, "seed": rule.seed})
    known = _read(file) if file.exists() else {}
    done = [Trial(**trial) for trial in known["trials"]] if known.get("key") == key else []
    if len(done) >= rule.trials:
        return True

    def measure(settings: dict[str, Any]) -> float:
        model = systems.make(entry.name, merge(entry.settings, settings))
        model.fit(space.split.train, FitOptions(seed=rule.seed, validate=validate, quiet=True))
        return validate(model)[METRIC]

    def record(trials: list[Trial]) -> None:
        write_json(file, {"key": key, "fingerprint": space.fingerprint, "trials": [dataclasses.asdict(trial) for trial in trials]})

    search(entry.space, rule.trials, rule.seed, measure, done, record)
    return False


def _fit(space: Workspace, task: Task, systems: Systems, peak_memory_mb: Callable[[], float] | None, quiet: bool) -> bool:
    row = space.row(task.label)
    model = systems.make(row.entry.name, row_settings(space, row, task.seed))
    key = _key(space, {"name": row.entry.name, "config": plain(model.config), "seed": task.seed, "refit": row.refit})
    folder = space.run_folder(task.label, task.seed)
    if _whole(folder) and _read(folder / "run.json").get("key") == key:
        return True
    train = space.experiment.protocol.without_test(space.data) if row.refit else space.split.train
    checkpoint = space.out / "checkpoints" / f"{folder.name}-{key[:12]}"
    validate = None if row.refit else space.validate()
    options = FitOptions(seed=task.seed, validate=validate, checkpoint=checkpoint, resume=True, quiet=quiet)
    started = time.perf_counter()
    model.fit(train, options)
    fit_seconds = time.perf_counter() - started
    if isinstance(provenance := getattr(model, "provenance", None), dict):
        provenance["trained_on"] = trained_on(space.data, train, space.experiment.protocol)
    found = ask(model, space.split.test, space.data.items, max(space.experiment.protocol.cutoffs), quiet)
    record = {
        "format": FORMAT,
        "key": key,
        "fingerprint": space.fingerprint,
        "seconds": time.perf_counter() - started,
        "config": plain(model.config),
        "figures": _figures(space, task, model, found, fit_seconds) | {"peak_memory_mb": peak_memory_mb() if peak_memory_mb else None},
    }
    with new_folder(folder) as new:
        model.save_pretrained(new / "model")
        _cases(space, found).write_parquet(new / "cases.parquet")
        write_json(new / "run.json", finite(record))
    shutil.rmtree(checkpoint, ignore_errors=True)
    return False


def _whole(folder: Path) -> bool:
    """Whether a run lies there undamaged; a damaged one is done again."""
    try:
        check_manifest(folder, ModelError, "fit it again")
    except ModelError:
        return False
    return True


def _seconds_taken(space: Workspace, task: Task) -> float:
    if task.step == "search":
        return float(sum(trial["seconds"] for trial in space.trials(task.label)))
    return float(space.run(task.label, task.seed)["seconds"])


def row_settings(space: Workspace, row: Row, seed: int) -> dict[str, Any]:
    """A row's settings: those of the file, over them the best of the search, and for a refit the epochs that were chosen."""
    from tongtu.evaluation.search import Trial, best, nested

    settings = row.entry.settings
    trials = space.trials(row.entry.label) if row.entry.space else []
    if trials:
        settings = merge(settings, nested(best([Trial(**trial) for trial in trials]).settings))
    if row.refit:
        epochs = space.run(row.entry.label, seed)["figures"]["epochs"]
        if epochs is not None:
            settings = merge(settings, {"training": {"epochs": epochs}})
    return dict(settings)


def finite(value: Any) -> Any:
    """The same plain value with null where JSON has no number: NaN and infinities."""
    if isinstance(value, Mapping):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def _figures(space: Workspace, task: Task, model: Recommender, found: Answers, fit_seconds: float) -> dict[str, Any]:
    provenance: Mapping[str, Any] = getattr(model, "provenance", {})
    means = {name: float(value.mean()) for name, value in found.values(space.experiment.protocol.cutoffs).items()}
    return {
        "seed": task.seed,
        "metrics": means | list_metrics(found.lists, space.split.test.requests, space.split.train),
        "counts": found.counts,
        "fit_seconds": fit_seconds,
        "ms_per_request": found.ms_per_request,
        "evaluation_seconds": found.ms_per_request * len(found.ranks) / 1000,
        "parameters": provenance.get("parameters"),
        "epochs": provenance.get("epochs"),
        "curves": provenance.get("curves", []),
        "tokens": found.notes.get("prompt_tokens", 0) + found.notes.get("completion_tokens", 0) if found.notes else None,
        "answering": dict(found.notes),
        "popularity by rank": popularity_by_rank(found.lists, space.split.train.item_counts).tolist(),
        "provenance": {name: value for name, value in provenance.items() if name != "curves"},
    }


def _cases(space: Workspace, found: Answers) -> pl.DataFrame:
    test = space.split.test
    table = pl.DataFrame(
        {
            "user": space.data.users.ids.gather(test.user.astype(np.int64) - 1),
            "target": space.data.items.ids.gather(test.target.astype(np.int64) - 1),
            "rank": found.ranks,
            "items": pl.Series(found.lists, dtype=pl.List(pl.Int32)),
            **(found.judged or {}),
        }
    )
    return table.with_columns(pl.when(pl.col("rank") != MISS).then(pl.col("rank")))


def _key(space: Workspace, parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps({**parts, "fingerprint": space.fingerprint, "format": FORMAT}, sort_keys=True).encode()).hexdigest()


def _read(file: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read ({error}): remove the folder it lies in and run the comparison again") from None
    return record
