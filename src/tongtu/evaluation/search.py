"""Hyper-parameter search on validation, the same for every system, with Optuna's TPE (Bergstra et al., NeurIPS 2011).

Every trial is recorded as soon as it is done, and trial n draws from a generator of its own, so an interrupted search goes on
exactly where an unbroken one would have.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from tongtu.config import nearest
from tongtu.errors import ConfigError, TongtuError

METRIC = "ndcg@10"


@dataclasses.dataclass(frozen=True)
class Trial:
    """Settings that were tried: their validation NDCG@10, or the reason why they cannot be fitted."""

    settings: dict[str, Any]
    value: float | None
    seconds: float
    error: str | None = None


def search(
    space: Mapping[str, Any],
    trials: int,
    seed: int,
    measure: Callable[[dict[str, Any]], float],
    done: list[Trial],
    record: Callable[[list[Trial]], None],
) -> list[Trial]:
    """Try settings until there are `trials` of them.

    Args:
        space: Nested settings whose leaves are lists of values or {low, high, log}.
        trials: How many in all.
        seed: Of the choices.
        measure: Validation NDCG@10 of nested settings; a TongtuError makes the trial a failed one.
        done: Trials of an earlier, interrupted search.
        record: Told all trials after each.

    Raises:
        ConfigError: If the space is malformed.
        TongtuError: If every trial failed; the first one's reason.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    leaves = dict(_leaves(space))
    distributions = {name: _distribution(name, leaf) for name, leaf in leaves.items()}
    study = optuna.create_study(direction="maximize")
    done = list(done[:trials])
    for trial in done:
        study.add_trial(_finished(trial, leaves, distributions))
    for number in range(len(done), trials):
        study.sampler = optuna.samplers.TPESampler(seed=(seed * 100_003 + number) % 2**32)
        asked = study.ask(distributions)
        chosen = {name: _value(leaves[name], asked.params[name]) for name in leaves}
        trial = _repeated(chosen, done) or _tried(chosen, measure)
        study.tell(asked, trial.value, TrialState.COMPLETE if trial.value is not None else TrialState.FAIL)
        done.append(trial)
        record(done)
    if all(trial.value is None for trial in done):
        raise TongtuError(f"all {trials} trials failed, the first because: {done[0].error}")
    return done


def best(trials: list[Trial]) -> Trial:
    """The trial with the highest validation NDCG@10; of equals the first."""
    return max((trial for trial in trials if trial.value is not None), key=lambda trial: trial.value or 0.0)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """{"training.epochs": 5} as {"training": {"epochs": 5}}."""
    result: dict[str, Any] = {}
    for name, value in settings.items():
        *parents, leaf = name.split(".")
        level = result
        for parent in parents:
            level = level.setdefault(parent, {})
        level[leaf] = value
    return result


def corner(space: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings of one corner of a space, to see before a search whether a system takes them.

    Raises:
        ConfigError: Naming the setting whose space is malformed.
    """
    leaves = dict(_leaves(space))
    for name, leaf in leaves.items():
        _distribution(name, leaf)
    return nested({name: leaf[0] if isinstance(leaf, list) else leaf["low"] for name, leaf in leaves.items()})


def _tried(chosen: dict[str, Any], measure: Callable[[dict[str, Any]], float]) -> Trial:
    started = time.perf_counter()
    try:
        value = measure(nested(chosen))
    except TongtuError as error:
        return Trial(chosen, None, time.perf_counter() - started, str(error))
    return Trial(chosen, value, time.perf_counter() - started)


def _repeated(chosen: dict[str, Any], done: list[Trial]) -> Trial | None:
    """A trial of the same settings need not be fitted again."""
    return next((dataclasses.replace(trial, seconds=0.0) for trial in done if trial.settings == chosen), None)


def _leaves(space: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in space.items():
        if isinstance(value, Mapping) and not value.keys() & {"low", "high"}:
            found += _leaves(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, value))
    return found


def _distribution(name: str, leaf: Any) -> BaseDistribution:
    if isinstance(leaf, list) and leaf:
        return CategoricalDistribution([json.dumps(value) for value in leaf])
    if not isinstance(leaf, Mapping):
        raise ConfigError(f"space of {name}: write a list of values, or {{low = 0.001, high = 0.1, log = true}}, got {leaf!r}")
    for key in leaf:
        if key not in {"low", "high", "log"}:
            raise ConfigError(f"space of {name}: unknown key {key!r}, {nearest(key, {'low', 'high', 'log'})}")
    low, high, log = leaf.get("low"), leaf.get("high"), bool(leaf.get("log", False))
    if not isinstance(low, int | float) or not isinstance(high, int | float) or low >= high or (log and low <= 0):
        raise ConfigError(f"space of {name}: low and high must be numbers, low below high{', and above 0 for log' if log else ''}; got {low!r} and {high!r}")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _value(leaf: Any, parameter: Any) -> Any:
    return json.loads(parameter) if isinstance(leaf, list) else parameter


def _finished(trial: Trial, leaves: Mapping[str, Any], distributions: dict[str, BaseDistribution]) -> optuna.trial.FrozenTrial:
    params = {name: json.dumps(value) if isinstance(leaves[name], list) else value for name, value in trial.settings.items()}
    state = TrialState.COMPLETE if trial.value is not None else TrialState.FAIL
    return optuna.trial.create_trial(state=state, params=params, distributions=distributions, value=trial.value)
