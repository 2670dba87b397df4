"""The audit of a model: one question after another, each with a verdict, its evidence and a remedy.

Any `Recommender` can be audited on any data set whose items it knows; what does not apply to it is "not measured", with the reason.
Nothing here proves that a model is harmless: each check looks for one kind of harm, and docs/audit.md says what it cannot see.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from tongtu.config import build, configuration, plain
from tongtu.core import Recommender
from tongtu.data.dataset import Dataset
from tongtu.progress import progress
from tongtu.trust.asked import Asked, ask, groupings
from tongtu.trust.calibration import Calibration
from tongtu.trust.checks.exposed import check_exposed
from tongtu.trust.checks.folder import Learned
from tongtu.trust.checks.groups import check_groups
from tongtu.trust.checks.inference import check_inference
from tongtu.trust.checks.memory import check_memory
from tongtu.trust.checks.popularity import check_popularity
from tongtu.trust.finding import Finding, Verdict, gravest
from tongtu.trust.settings import AuditConfig

SCHEMA = 1


@configuration
class AuditRecord:
    """An audit as JSON holds it; `pydantic.TypeAdapter(AuditRecord).json_schema()` is its schema.

    Attributes:
        schema_version: Of this record.
        verdict: The gravest of all findings.
        model: Folder, class and provenance.
        data: Name, fingerprint and counts.
        users: How many users were asked.
        seconds: How long it took.
        versions: Of what it was made with.
        config: Settings, the seed and all thresholds among them.
        calibration: Where the thresholds for pushed items come from; None for the built-in ones.
        findings: One for each question.
    """

    schema_version: int = SCHEMA
    verdict: Verdict
    model: dict[str, Any]
    data: dict[str, Any]
    users: int
    seconds: float
    versions: dict[str, str]
    config: AuditConfig
    calibration: Calibration | None = None
    findings: tuple[Finding, ...]


def audit(
    model: Recommender,
    data: Dataset,
    learned: Learned,
    config: AuditConfig | None = None,
    calibration: Calibration | None = None,
    quiet: bool = True,
) -> tuple[list[Finding], int]:
    """Ask every question that can be asked of an open model.

    Args:
        model: Any recommender.
        data: Whose users are asked about.
        learned: Which of these events the model has learned, as far as is known.
        config: Settings.
        calibration: Thresholds for pushed items; None takes those of the settings.
        quiet: Whether to show no progress.

    Returns:
        The findings, and how many users were asked.

    Raises:
        DataError: If the data set cannot be asked about: unknown items alone, no user with three events, an attribute that is not there.
    """
    config = config or AuditConfig()
    parts = groupings(data, config.attributes, config.group_users)
    asked = ask(model, data, config, quiet)
    findings = []
    with progress("auditing", 5, "checks", quiet) as bar:
        findings += check_inference(model, data, [part.name for part in parts], config)
        bar.advance(note="groups")
        findings += check_groups(asked, parts, _about_the_events(asked, learned))
        bar.advance(note="popularity")
        findings += check_popularity(asked)
        bar.advance(note="pushed items")
        findings += check_exposed(asked, parts, calibration)
        bar.advance(note="memory")
        findings.append(check_memory(model, data, learned, config))
        bar.advance()
    return findings, len(asked.users)


def make_record(
    findings: list[Finding],
    model: Mapping[str, Any],
    data: Dataset,
    users: int,
    seconds: float,
    config: AuditConfig,
    calibration: Calibration | None = None,
) -> AuditRecord:
    """An audit as it is written down."""
    return AuditRecord(
        verdict=gravest(findings),
        model=dict(model),
        data={"name": data.name, "fingerprint": data.fingerprint, "users": len(data.users), "items": len(data.items), "events": data.n_events},
        users=users,
        seconds=round(seconds, 1),
        versions={"tongtu": version("tongtu"), "python": platform.python_version(), "numpy": np.__version__, "scipy": version("scipy")},
        config=config,
        calibration=calibration,
        findings=tuple(findings),
    )


def to_json(record: AuditRecord) -> dict[str, Any]:
    """The record as plain values."""
    return plain(record)


def from_json(values: Mapping[str, Any]) -> AuditRecord:
    """A record from what `to_json` gave.

    Raises:
        ConfigError: If it is not one.
    """
    return build(AuditRecord, values, "audit")


def _about_the_events(asked: Asked, learned: Learned) -> str:
    """Whether accuracies are those on learned events, in a sentence."""
    if learned.train is None:
        return "Whether the model has learned these events is not known."
    rows = asked.users - 1
    share = float((learned.train.lengths[rows] == asked.data.lengths[rows]).mean())
    if share == 0:
        return "The model has not learned these events."
    which = "these events" if share == 1 else f"{share:.0%} of these events"
    return f"The model has learned {which}: accuracies are too good to be true, their gaps may be too small."
