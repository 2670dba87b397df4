"""Many systems under one protocol: searched, fitted with every seed, judged on the same cases, and set side by side.

Everything lies in one folder (see `tongtu.evaluation.runs`), so a comparison that was interrupted goes on where it stopped,
and one that is run again with more systems or seeds fits only those. What comes out:

    results.json   the table and everything the report shows
    users.parquet  system, seed, user, target, rank: enough to repeat every interval and test
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tongtu.config import plain
from tongtu.core import PAD, Codes, Engine
from tongtu.data.splits import Cases
from tongtu.data.wishes import Categories, item_categories
from tongtu.errors import TongtuError
from tongtu.evaluation.evaluate import intervals
from tongtu.evaluation.experiment import Experiment, Row, Systems, rows
from tongtu.evaluation.intervals import paired_tests
from tongtu.evaluation.metrics import MISS, Values, rank_metrics
from tongtu.evaluation.runs import FORMAT, Outcome, Task, Workspace, execute, finite
from tongtu.evaluation.slices import slice_metrics
from tongtu.evaluation.variety import category_metrics
from tongtu.files import new_file, write_json

TESTED = "ndcg@10"
_CASE = ("user", "target", "rank", "items")
_SHOWN_HISTORY = 20
_SHOWN_LIST = 5
Step = Callable[[Task], Outcome]


def compare(
    experiment: Experiment, out: Path, systems: Systems, step: Step | None = None, engine: Engine | None = None, tell: Callable[[Outcome], None] | None = None
) -> dict[str, Any]:
    """Run an experiment, or what is left of it, and return what is written to `out/results.json`.

    Args:
        experiment: What to compare.
        out: The comparison's folder.
        systems: Where systems come from: the module `tongtu.systems`.
        step: Does one step; None does it in this process. `tongtu.scale.worker.isolated` gives each a process of its own, so
            that a system that runs out of memory fails alone and peak memory can be told.
        engine: Maps `step` over the steps; None does one after another.
        tell: Told how each step ended.

    Raises:
        ConfigError: If `out` holds results of another protocol or other data.
        DataError: If the experiment names categories that the data lacks.
        TongtuError: If every system failed; the first one's reason.
    """
    space = Workspace.create(experiment, Path(out))
    categories = None if experiment.categories is None else item_categories(space.data, experiment.categories)  # what is missing is told before hours pass
    do = step or partial(execute, systems=systems)
    failed: dict[str, str] = {}
    seconds: list[dict[str, Any]] = []
    for tasks in _stages(space):
        ready = [task for task in tasks if _source(space, task.label) not in failed]
        for outcome in engine.map(do, ready) if engine else map(do, ready):
            if outcome.error is not None:
                failed.setdefault(outcome.task.label, outcome.error)
            seconds.append({"step": str(outcome.task), "seconds": outcome.seconds, "kept": outcome.kept})
            if tell:
                tell(outcome)
    for row in rows(experiment):
        if row.refit and row.entry.label in failed:
            failed.setdefault(row.label, f"{row.entry.label} failed, so there is nothing to fit again")
    done = [row for row in rows(experiment) if row.label not in failed]
    if not done:
        raise TongtuError(f"every system failed; {next(iter(failed))}: {next(iter(failed.values()))}")
    results: dict[str, Any] = finite(_results(space, systems, (done, failed), categories) | {"seconds": seconds})
    write_json(space.out / "results.json", results)
    return results


def _stages(space: Workspace) -> Iterator[list[Task]]:
    """Steps that may run side by side: searches, then fits, then fits that take over what the first ones chose."""
    out, experiment = str(space.out), space.experiment
    yield [Task(out, "search", entry.label) for entry in experiment.systems if entry.space]
    for refit in (False, True):
        yield [Task(out, "fit", row.label, seed) for row in rows(experiment) if row.refit == refit for seed in experiment.seeds]


def _source(space: Workspace, label: str) -> str:
    """The label of the row that has to be there before this one."""
    return space.row(label).entry.label


def _results(space: Workspace, systems: Systems, ended: tuple[Sequence[Row], Mapping[str, str]], categories: Categories | None) -> dict[str, Any]:
    done, failed = ended
    experiment, split, data = space.experiment, space.split, space.data
    tables = {row.label: [pl.read_parquet(space.run_folder(row.label, seed) / "cases.parquet") for seed in experiment.seeds] for row in done}
    _write_users(space.out / "users.parquet", tables, experiment.seeds)
    values = {label: _mean_over_seeds([_values(table, experiment.protocol.cutoffs) for table in parts]) for label, parts in tables.items()}
    variety = {label: _variety(parts, split.test, categories) for label, parts in tables.items()}
    return {
        "format": FORMAT,
        "name": experiment.name,
        "protocol": plain(experiment.protocol) | {"fingerprint": space.fingerprint},
        "data": {
            "name": data.name,
            "users": len(data.users),
            "items": len(data.items),
            "events": data.n_events,
            "train_events": split.train.n_events,
            "valid_cases": len(split.valid),
            "test_cases": len(split.test),
            "fingerprint": data.fingerprint,
        },
        "environment": environment(),
        "seeds": list(experiment.seeds),
        "systems": [
            _failed_row(row, systems, failed[row.label]) if row.label in failed else _row(space, systems, row, (values[row.label], variety[row.label]))
            for row in rows(experiment)
        ],
        "pairs": _pairs(values, space),
        "examples": _examples(space, tables),
    }


def _row(space: Workspace, systems: Systems, row: Row, measured: tuple[Mapping[str, Values], Mapping[str, Values]]) -> dict[str, Any]:
    values, variety = measured
    records = [space.run(row.label, seed) for seed in space.experiment.seeds]
    runs = [record["figures"] for record in records]
    seed = space.experiment.protocol.seed
    return _named(row, systems) | {
        "status": "done",
        "error": None,
        "refit": "train+valid" if row.refit else None,
        "metrics": {name: _mean(run["metrics"][name] for run in runs) for name in runs[0]["metrics"]} | {name: float(v.mean()) for name, v in variety.items()},
        "interval": intervals({**values, **variety}, space.split.test, seed),
        "slices": slice_metrics(values, space.split.test, space.split.train, seed),
        "fit_seconds": _mean(run["fit_seconds"] for run in runs),
        "ms_per_request": _mean(run["ms_per_request"] for run in runs),
        "peak_memory_mb": max((run["peak_memory_mb"] for run in runs if run["peak_memory_mb"] is not None), default=None),
        "parameters": runs[0]["parameters"],
        "tokens": _mean(run["tokens"] for run in runs),
        "answering": _answering(runs, len(space.split.test)),
        "popularity by rank": _popularity(runs),
        "seed": [run["seed"] for run in runs],
        "config": records[0]["config"],
        "search": _search(space, row),
        "runs": runs,
        "curves": runs[0]["curves"],
    }


def _failed_row(row: Row, systems: Systems, error: str) -> dict[str, Any]:
    return _named(row, systems) | {"status": "failed", "error": error, "config": row.entry.settings}


def _named(row: Row, systems: Systems) -> dict[str, Any]:
    card = systems.cards()[row.entry.name]
    return {"label": row.label, "system": row.entry.name, "title": card.title, "road": card.road, "paper": card.paper}


def _answering(runs: Sequence[Mapping[str, Any]], cases: int) -> dict[str, float]:
    """What the system told of its answers, for one request on average."""
    names = dict.fromkeys(name for run in runs for name in run.get("answering", {}))
    return {name: float(np.mean([run.get("answering", {}).get(name, 0.0) for run in runs])) / cases for name in names}


def _search(space: Workspace, row: Row) -> dict[str, Any] | None:
    from tongtu.evaluation.search import METRIC, Trial, best

    trials = [Trial(**trial) for trial in space.trials(row.entry.label)] if row.entry.space else []
    if not trials:
        return None
    chosen = best(trials)
    history = [{"settings": trial.settings, METRIC: trial.value, "seconds": trial.seconds, "error": trial.error} for trial in trials]
    failed = sum(trial.value is None for trial in trials)
    return {"trials": len(trials), "failed": failed, "metric": METRIC, "best": chosen.value, "settings": chosen.settings, "history": history}


def _ranks(table: pl.DataFrame) -> Values:
    ranks: Values = table["rank"].fill_null(MISS).to_numpy()
    return ranks


def _mean_over_seeds(found: Sequence[Mapping[str, Values]]) -> dict[str, Values]:
    """Metrics of each case, float64[cases] by name: the mean over seeds, so that intervals and tests compare what a system does on average."""
    return {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}


def _values(table: pl.DataFrame, cutoffs: Sequence[int]) -> dict[str, Values]:
    """Metrics of each case: those written beside it, where impressions were judged, else from its rank."""
    judged = [name for name in table.columns if name not in _CASE]
    return {name: table[name].to_numpy() for name in judged} if judged else rank_metrics(_ranks(table).astype(np.int64), cutoffs)


def _variety(tables: Sequence[pl.DataFrame], test: Cases, categories: Categories | None) -> dict[str, Values]:
    """Metrics by category of each case, from the lists that were kept."""
    if categories is None:
        return {}
    lists = (np.stack([np.asarray(row, np.int32) for row in table["items"].to_list()]) for table in tables)
    return _mean_over_seeds([category_metrics(one, test, categories) for one in lists])


def _pairs(values: Mapping[str, Mapping[str, Values]], space: Workspace) -> list[dict[str, Any]]:
    pairs = list(combinations(values, 2))
    if not pairs:
        return []
    first, second = (np.stack([values[pair[side]][TESTED] for pair in pairs], axis=1) for side in (0, 1))
    tests = paired_tests(first, second, space.split.test.user, space.experiment.protocol.seed)
    return [
        {"a": a, "b": b, "metric": TESTED, "difference": t.difference, "interval": [t.low, t.high], "p": t.p, "p_holm": t.p_holm}
        for (a, b), t in zip(pairs, tests, strict=True)
    ]


def _examples(space: Workspace, tables: Mapping[str, Sequence[pl.DataFrame]]) -> list[dict[str, Any]]:
    """A few users, drawn by the protocol's seed: their newest events, the target, and what each system (first seed) recommended."""
    test, seed = space.split.test, space.experiment.protocol.seed
    drawn = np.random.default_rng(seed).choice(len(test), min(space.experiment.examples, len(test)), replace=False)
    examples = []
    for case in np.sort(drawn).tolist():
        lists = {
            label: {"items": _described(space, np.array(parts[0]["items"][case].to_list()[:_SHOWN_LIST], np.int32)), "rank": parts[0]["rank"][case]}
            for label, parts in tables.items()
        }
        examples.append(
            {
                "user": space.data.users.ids[int(test.user[case]) - 1],
                "history": _described(space, test.requests[case].history[-_SHOWN_HISTORY:]),
                "target": _described(space, test.target[case : case + 1])[0],
                "lists": lists,
            }
        )
    return examples


def _described(space: Workspace, codes: Codes) -> list[dict[str, str]]:
    known = codes[codes != PAD].astype(np.int64) - 1
    return [{"id": space.data.items.ids[int(row)], "text": str(space.data.item_text[int(row)])} for row in known]


def _write_users(path: Path, tables: Mapping[str, Sequence[pl.DataFrame]], seeds: Sequence[int]) -> None:
    parts = [
        table.select(pl.lit(label).alias("system"), pl.lit(seed).alias("seed"), "user", "target", "rank")
        for label, one in tables.items()
        for seed, table in zip(seeds, one, strict=True)
    ]
    with new_file(path) as temporary:
        pl.concat(parts).write_parquet(temporary)


def _popularity(runs: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """The popularity at each rank, mean over seeds; empty where a run was kept from before it was measured."""
    measured = [run.get("popularity by rank", []) for run in runs]
    return [_mean(at) for at in zip(*measured, strict=True)] if all(measured) else []


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def environment() -> dict[str, Any]:
    """The machine and the versions that made a result."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return {
        "tongtu": version("tongtu"),
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(memory / 2**30, 1) if memory else None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


