"""What somebody who holds user vectors can guess about users (`tongtu.trust.probe`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
import polars as pl

from tongtu.core import PAD, Recommender, Represents
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError, DataError, MissingExtra
from tongtu.trust.finding import Finding, Table, not_measured, verdict_of
from tongtu.trust.probe import Inference, probe
from tongtu.trust.settings import AuditConfig, Level

_USERS = 5_000  # more do not make the attackers better, only slower
_ASKED = 64
_COLUMNS = ("attacker", "users", "classes", "AUC", "low", "high", "micro F1", "of the majority class")


class _Vectors(Recommender, Represents, Protocol):
    """A recommender with user vectors."""


def check_inference(model: Recommender, data: Dataset, attributes: Sequence[str], config: AuditConfig) -> list[Finding]:
    """One finding an attribute, and one more where the model forgets it on demand."""
    if not attributes:
        why = "The data set has no user attributes to guess."
        return [not_measured("privacy", "guessing attributes from user vectors", why, "Import the users with tongtu data import --users FILE.")]
    if not isinstance(model, Represents):
        why = f"{type(model).__name__} has no user vectors to hand out."
        return [not_measured("privacy", "guessing attributes from user vectors", why)]
    system, known = cast(_Vectors, model), _in_codes_of(model, _fewer_users(data, config.seed))
    findings = []
    for attribute in attributes:
        findings.append(_guessed(system, known, attribute, config, forget=False))
        if _heeds(system, known, attribute):
            findings.append(_guessed(system, known, attribute, config, forget=True))
    return findings


def _guessed(model: _Vectors, data: Dataset, attribute: str, config: AuditConfig, forget: bool) -> Finding:
    name = f"guessing {attribute} that was to be forgotten" if forget else f"guessing {attribute} from user vectors"
    forgotten = frozenset({attribute}) if forget else frozenset()
    try:
        found = probe(model, data, [attribute], config.attackers, forget=forgotten, seed=config.seed)
    except MissingExtra as error:
        return not_measured("privacy", name, "The attackers need scikit-learn.", f"{error}.")
    except DataError as error:
        return not_measured("privacy", name, f"{error}.")
    if not found:
        return not_measured("privacy", name, f"Too few users have a known {attribute}.")
    return _judged(name, attribute, found, config, forget)


def _judged(name: str, attribute: str, found: Sequence[Inference], config: AuditConfig, forget: bool) -> Finding:
    level: Level = config.forgotten if forget else config.inference
    best = max(found, key=lambda one: one.auc_low)
    verdict = verdict_of(best.auc_low, level)
    remedy = f"tongtu fit pfrec on this model leaves out {attribute} for users who ask for it; keep user vectors to yourself meanwhile."
    if forget:
        remedy = f"The promise to forget {attribute} is not kept: train the eliminator longer, or do not offer it (docs/audit.md)."
    rows = tuple((one.attacker, one.users, one.classes, one.auc, one.auc_low, one.auc_high, one.micro_f1, one.chance_micro) for one in found)
    told = "Told to forget it, the" if forget else "The"
    return Finding(
        part="privacy",
        name=name,
        verdict=verdict,
        evidence=f"{told} model's vectors let the strongest attacker ({best.attacker}) guess {attribute} with an AUC of {best.auc:.3f} "
        f"({best.auc_low:.3f} to {best.auc_high:.3f}; .5 is chance) for users it was not trained on.",
        remedy="" if verdict == "fine" else remedy,
        value=best.auc,
        interval=(best.auc_low, best.auc_high),
        threshold=level.alarm,
        tables=(Table(title=f"Attackers on {attribute}", columns=_COLUMNS, rows=rows),),
    )


def _heeds(model: _Vectors, data: Dataset, attribute: str) -> bool:
    """Whether being told to forget the attribute changes anybody's vector."""
    users = (np.flatnonzero(data.lengths > 0)[:_ASKED] + 1).astype(np.int32)
    asked = data.requests(users)
    told = dataclasses.replace(asked, forget=[frozenset({attribute})] * len(asked))
    try:
        return not np.allclose(model.user_vectors(asked), model.user_vectors(told), atol=1e-5)
    except ConfigError:  # it has not learned to forget this one, and says so
        return False


def _fewer_users(data: Dataset, seed: int) -> Dataset:
    able = np.flatnonzero(data.lengths > 0)
    if len(able) <= _USERS:
        return data
    kept = np.zeros(len(data.users), np.bool_)
    kept[np.random.default_rng(seed).choice(able, _USERS, replace=False)] = True
    return data.keep_events(kept[data.event_user - 1])


def _in_codes_of(model: Recommender, data: Dataset) -> Dataset:
    """The same log in the model's codes; events with items that it does not know are left out."""
    if model.items == data.items:
        return data
    item = model.items.translation(data.items)[data.item]
    kept = data.keep_events(item != PAD)
    text = pl.Series("text", [""] * len(model.items), dtype=pl.String)
    return dataclasses.replace(kept, items=model.items, item=item[item != PAD], item_text=text, item_fields=pl.DataFrame(), domain=None, domains=())
