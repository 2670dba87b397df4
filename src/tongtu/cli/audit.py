"""`tongtu audit`: what a model folder puts at risk, before it is used."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tongtu.core import Recommender
    from tongtu.data.dataset import Dataset
    from tongtu.trust.audit import AuditRecord
    from tongtu.trust.calibration import Calibration
    from tongtu.trust.checks.folder import Learned
    from tongtu.trust.finding import Finding
    from tongtu.trust.settings import AuditConfig

_PROTOCOLS = ("leave-one-out", "global-time", "cold-users")
_MANY_ITEMS = 5_000  # EASE inverts a matrix of so many rows in seconds
_SMALL: Mapping[str, Any] = {"width": 32, "blocks": 1, "max_length": 50, "training": {"epochs": 8}}


class FailOn(StrEnum):
    """From which verdict on the exit code is 1."""

    NOTICE = "notice"
    ALARM = "alarm"
    NEVER = "never"


def audit(
    model: Annotated[Path, typer.Argument(help="A model folder, fitted or received.")],
    data: Annotated[str, typer.Option(metavar="DIR|NAME", help="A data set folder, or the name of a public data set, whose users are asked about.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("audit.html"),
    json: Annotated[Path | None, typer.Option(help="Also write the findings to this file, for a program to read.")] = None,
    attribute: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A user attribute to look at; may be repeated; all that most users have.")] = None,
    users: Annotated[int | None, typer.Option(min=20, help="How many users are asked; 2,000, or 50 of a language model.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Every random choice follows from it.")] = 0,
    fail_on: Annotated[FailOn, typer.Option(help="Exit with 1 if a finding is as grave as this.")] = FailOn.ALARM,
    references: Annotated[int, typer.Option(min=0, help="Clean models to fit on the data, to set the levels for pushed items; 0 takes built-in levels.")] = 3,
    clean: Annotated[list[Path] | None, typer.Option(metavar="DIR", help="A model folder known to be clean, to set these levels by; may be repeated.")] = None,
    calibration: Annotated[Path | None, typer.Option(metavar="FILE", help="Levels that --keep-calibration wrote.")] = None,
    keep_calibration: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the levels to this file.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting, say memory.alarm=0.9; may be repeated.")] = None,
) -> None:
    """Audit a model: its folder, back doors, privacy, memory, groups of users, popularity. One page, a verdict a line, evidence and remedy behind it.

    Exit code 0 if nothing is as grave as --fail-on says, 1 if something is, 2 if nothing could be audited.
    """
    from tongtu.config import build, parse_settings, plain
    from tongtu.files import write_json
    from tongtu.report.audit import write_audit
    from tongtu.trust.audit import to_json
    from tongtu.trust.settings import AuditConfig

    chosen: dict[str, Any] = {"users": users, "seed": seed} | ({"attributes": attribute} if attribute else {})
    config = build(AuditConfig, parse_settings(settings or []) | chosen, "audit")
    record = _audited(model, data, config, lambda log, asking: _levels(log, asking, references, clean or [], calibration))
    if keep_calibration is not None and record.calibration is not None:
        write_json(keep_calibration, plain(record.calibration))
    given = [f"--attribute={name}" for name in attribute or []] + [f"--set={setting}" for setting in settings or []]
    given += [] if users is None else [f"--users={users}"]
    given += [f"--references={references}"] if not clean and calibration is None else []
    given += [f"--clean={folder}" for folder in clean or []] + ([f"--calibration={calibration}"] if calibration is not None else [])
    write_audit(record, out, shlex.join(["tongtu", "audit", str(model), "--data", data, f"--seed={seed}", *given]))
    if json is not None:
        write_json(json, to_json(record))
    _show(record, out)
    _leave(record, fail_on)


def _audited(model: Path, data: str, config: AuditConfig, levels: Callable[[Dataset, AuditConfig], Calibration | None]) -> AuditRecord:
    """The audit, from the folder to the record.

    Raises:
        TongtuError: If there is no model folder, no data set, or nothing that could be asked.
    """
    from tongtu.data.public import load
    from tongtu.trust.asked import default_users
    from tongtu.trust.audit import audit as ask
    from tongtu.trust.audit import make_record
    from tongtu.trust.checks.folder import check_base, check_files, check_provenance

    started = time.monotonic()
    findings, asked, calibration = check_files(model), 0, None
    log = load(data)
    system, reason = _opened(model, log)
    if system is None:
        findings += _nothing_measured(reason)
    else:
        learned = learned_events(getattr(system, "provenance", {}), log)
        config = dataclasses.replace(config, users=config.users or default_users(system))
        calibration = levels(log, config)
        more, asked = ask(system, log, learned, config, calibration, quiet=False)
        findings += [check_provenance(learned, log), check_base(model), *more]
    return make_record(findings, _about(model, system), log, asked, time.monotonic() - started, config, calibration)


def learned_events(provenance: Mapping[str, Any], log: Dataset) -> Learned:
    """Which events of `log` a model says it was fitted on."""
    from tongtu.errors import DataError
    from tongtu.evaluation.protocol import protocol_from
    from tongtu.trust.checks.folder import Learned

    told = provenance.get("trained_on")
    if not isinstance(told, Mapping) or "data" not in told:
        return Learned(None, False, "the model does not say what it was fitted on", False)
    if told["data"] == log.fingerprint:
        return Learned(log, True, f"the model says it was fitted on all {log.n_events:,} events of {log.name}", True)
    for name in _PROTOCOLS:
        try:
            rule = protocol_from(name)
            parts = {"the training part": rule.split(log).train, "everything before the test": rule.without_test(log)}
        except DataError:  # a log without times has no global-time
            continue
        for which, part in parts.items():
            if part.fingerprint == told["data"]:
                return Learned(part, False, f"the model says it was fitted on {which} of {log.name} under the protocol {name}", True)
    says = f"the model says it was fitted on {told.get('name')} ({told.get('events', 0):,} events), of which this data set is not known to be a part"
    return Learned(None, False, says, True)


def _opened(model: Path, log: Dataset) -> tuple[Recommender | None, str]:
    """The model, with the catalogue of `log` if it takes it; or why it cannot be opened.

    Raises:
        DataError: If it knows nothing of the catalogue.
    """
    from tongtu.cli.evaluate import for_items, known_items
    from tongtu.errors import DataError, ModelError
    from tongtu.hub import open_model

    try:
        fitted = open_model(model)
    except ModelError as error:
        return None, str(error)
    system = fitted if known_items(fitted, log) == len(log.items) else for_items(fitted, log)
    if not known_items(system, log):
        raise DataError(f"{model} knows no item of {log.name}: give the data set it is meant for")
    return system, ""


def _levels(log: Dataset, config: AuditConfig, references: int, clean: Sequence[Path], file: Path | None) -> Calibration | None:
    """The levels for pushed items: from a file, from clean folders and models fitted here, or None for the built-in ones.

    Raises:
        ConfigError: If the file is not a calibration, or one of other lists.
    """
    from tongtu.hub import open_model
    from tongtu.trust.calibration import calibrate

    if file is not None:
        return _read(file, config)
    models = [open_model(folder) for folder in clean]
    if not clean:
        models += fit_references(log, references)
    return calibrate(models, log, config) if models else None


def fit_references(log: Dataset, count: int) -> list[Recommender]:
    """So many quick models of a log without its last events: neighbours, rules and EASE, then small SASRecs of different seeds."""
    from tongtu.core import FitOptions
    from tongtu.data.splits import leave_one_out
    from tongtu.progress import progress
    from tongtu.systems import make

    if not count:
        return []
    train = leave_one_out(log).train
    kinds = ["itemknn", "rules", "ease" if len(log.items) <= _MANY_ITEMS else "userknn"]
    plan: list[tuple[str, Mapping[str, Any]]] = [(kind, {}) for kind in kinds[:count]]
    plan += [("sasrec", _SMALL)] * (count - len(kinds))
    models: list[Recommender] = []
    with progress("fitting clean references", len(plan), "models") as bar:
        for seed, (kind, values) in enumerate(plan):
            models.append(make(kind, values).fit(train, FitOptions(seed=seed, quiet=True)))
            bar.advance(note=kind)
    return models


def _read(file: Path, config: AuditConfig) -> Calibration:
    import json

    from tongtu.config import build
    from tongtu.errors import ConfigError
    from tongtu.trust.calibration import Calibration

    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no calibration {file}: make one with tongtu audit --keep-calibration {file}") from None
    except ValueError:
        raise ConfigError(f"{file} is not a calibration: make one with tongtu audit --keep-calibration") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file} is not a calibration: make one with tongtu audit --keep-calibration")
    found = build(Calibration, values, str(file))
    if found.depth != config.depth:
        raise ConfigError(f"{file} is for lists of {found.depth}, not {config.depth}: audit with --set depth={found.depth}, or calibrate again")
    return found


def _nothing_measured(reason: str) -> list[Finding]:
    """An alarm that the model cannot be opened, and that nothing else was looked at."""
    from tongtu.trust.finding import Finding, not_measured

    opens = Finding(
        part="folder",
        name="the model opens",
        verdict="alarm",
        evidence=f"{reason}.",
        remedy="Get the folder anew from where it came from, with the model it stands on, or fit it again with tongtu fit.",
    )
    rest = (
        ("backdoor", "items pushed to users"),
        ("privacy", "guessing attributes from user vectors"),
        ("memory", "learned events can be told from others"),
        ("fairness", "accuracy and exposure by group"),
        ("popularity", "popularity of what is recommended"),
    )
    return [opens, *(not_measured(part, name, "The model cannot be opened.") for part, name in rest)]  # type: ignore[arg-type]


def _about(model: Path, system: Recommender | None) -> dict[str, Any]:
    if system is None:
        return {"folder": str(model)}
    provenance = getattr(system, "provenance", {})
    return {
        "folder": str(model),
        "class": f"{type(system).__module__}:{type(system).__qualname__}",
        "trained_on": provenance.get("trained_on"),
        "parameters": provenance.get("parameters"),
        "fit_seed": provenance.get("seed"),
    }


def _show(record: AuditRecord, out: Path) -> None:
    from tongtu.cli.output import note, table
    from tongtu.report.audit import headline, value_text

    rows = [[one.verdict, one.name, value_text(one), "" if one.threshold is None else f"{one.threshold:.3g}"] for one in record.findings]
    table(["verdict", "line", "value", "alarm from"], rows, title=headline(record), right=["value", "alarm from"])
    for one in record.findings:
        if one.verdict == "alarm":
            note(f"alarm: {one.name}: {one.evidence} {one.remedy}")
    print(f"page: {out}")


def _leave(record: AuditRecord, fail_on: FailOn) -> None:
    from tongtu.trust.finding import VERDICTS

    if fail_on is not FailOn.NEVER and VERDICTS.index(record.verdict) >= VERDICTS.index(fail_on.value):
        raise typer.Exit(1)
