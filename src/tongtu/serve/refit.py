"""A served model learned anew with the events that came since, and judged against the one it shall replace.

Of the new events the newest fifth is held out. Its older half chooses the epoch, where the system has epochs; its newer half is what old and new model
are asked about, each event with everything that came before it. Neither half is learned from: a service gives a model the newest events as
history anyway, and the next refit learns them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from tongtu import hub
from tongtu.core import FitOptions, Offsets, Recommender, Scorer
from tongtu.data.dataset import Dataset
from tongtu.data.splits import Cases
from tongtu.errors import DataError, ModelError
from tongtu.evaluation.evaluate import ask, validator
from tongtu.evaluation.intervals import bootstrap
from tongtu.evaluation.protocol import sample_users, trained_on
from tongtu.files import MANIFEST, sha256

LEAST = 20
"""Events to ask about; with fewer, chance would decide between the models."""
_HELD_OUT = 0.2
_SLOW_USERS = 50  # who asks a language model for every list takes seconds a user
_METRIC = "ndcg@10"


@dataclass(frozen=True, eq=False)
class NewestHeldOut:
    """What may be learned, what chooses the epoch, and what judges."""

    train: Dataset
    choose: Cases
    judge: Cases


@dataclass(frozen=True)
class Judged:
    """NDCG@10 of the old and the new model on the newest events, and the 95 % interval of the new one's less the old one's."""

    old: float
    new: float
    low: float
    high: float
    cases: int

    @property
    def worse(self) -> bool:
        """Whether the new model is the worse one."""
        return self.new < self.old

    def __str__(self) -> str:
        interval = f"difference {self.low:+.4f} to {self.high:+.4f}"
        return f"NDCG@10 {self.new:.4f} against {self.old:.4f} of the old model on {self.cases:,} of the newest events ({interval})"


@dataclass(frozen=True, eq=False)
class Refit:
    """A model that has learned the new events.

    Attributes:
        model: It, not saved yet.
        judged: Against the old one; None where there was too little to ask about.
        events: How many new ones the log holds.
        until: Seconds since 1970 of the newest event.
    """

    model: Recommender
    judged: Judged | None
    events: int
    until: int

    @property
    def warm(self) -> bool:
        """Whether it went on from the old model's weights."""
        return "started_from_weights" in _provenance(self.model)


def hold_out(log: Dataset, since: int) -> NewestHeldOut:
    """Part the events at and after `since`; see the module's text. Only events that can be recommended ask: the user has a history, and the item is not in it.

    Raises:
        DataError: If the log has no times.
    """
    if log.time is None:
        raise DataError(f"{log.name} has no times, so nobody can say what is new: import it with --time")
    new = np.flatnonzero(log.time >= since)
    newest = new[np.argsort(log.time[new], kind="stable")][len(new) - round(len(new) * _HELD_OUT) :]
    held = np.zeros(log.n_events, np.bool_)
    held[newest] = True
    askable = ~_met_before(log)
    askable[log.offset[:-1][log.lengths > 0]] = False
    half = len(newest) // 2
    parts = [np.sort(part[askable[part]]) for part in (newest[:half], newest[half:])]
    return NewestHeldOut(log.keep_events(~held), _cases(log, parts[0]), _cases(log, parts[1]))


def refit(path: Path, log: Dataset, since: int, options: FitOptions, blind: bool = False) -> Refit:
    """Fit the model of a folder again, from its own weights where its system can, and judge it.

    Args:
        path: The model folder.
        log: Everything to learn from, the events since `since` included.
        since: Seconds since 1970: what came then or later, the old model has not learned.
        options: Seed, checkpoint, device; `validate` and `start` are set here.
        blind: Go on where there is too little to ask about: then everything is learned and nothing is judged.

    Raises:
        DataError: If there is nothing new, or too little to ask about.
        ModelError: If the folder is no model.
    """
    assert log.time is not None
    new_events, until = int((log.time >= since).sum()), int(log.time.max(initial=0))
    if not new_events:
        raise DataError(f"{log.name} has no event since then: give an earlier --since, or wait for events")
    old = hub.open_model(path)
    parts = hold_out(log, since)
    enough = len(parts.judge) >= LEAST
    if not enough and not blind:
        raise DataError(
            f"only {len(parts.judge)} of the {new_events:,} new events can be asked about, and {LEAST} are needed to tell a worse model: "
            "wait for more, or refit unjudged with --force"
        )
    train = parts.train if enough else log
    kind: Any = type(old)
    model: Recommender = kind(old.config)
    validate = validator(parts.choose, _few(model)) if enough and len(parts.choose) else None
    model.fit(train, FitOptions(**{**vars(options), "validate": validate, "start": old}))
    judged = _judge(old, model, parts.judge, log) if enough else None
    record = {"from": sha256(path / MANIFEST)[:12], "since": since, "until": until, "new_events": new_events}
    if judged is not None:
        record["judged"] = {"old": judged.old, "new": judged.new, "interval": [judged.low, judged.high], "cases": judged.cases}
    _provenance(model).update(trained_on=trained_on(log, train, None), update=record)
    return Refit(model, judged, new_events, until)


def last_update(path: Path) -> int | None:
    """The newest event that the model of a folder was refitted with, in seconds since 1970, or None where it never was.

    Raises:
        ModelError: If the folder is no model, or says something else than a moment.
    """
    update = hub.read_record(path)["provenance"].get("update")
    if update is None:
        return None
    if not isinstance(update, Mapping) or not isinstance(update.get("until"), int):
        raise ModelError(f"{path} does not say until when it was updated: give --since")
    return cast(int, update["until"])


def _judge(old: Recommender, new: Recommender, cases: Cases, log: Dataset) -> Judged:
    few = _few(new) or _few(old)
    asked = sample_users(cases, few, seed=0)
    values = [ask(model, asked, log.items, 10).values((10,))[_METRIC] for model in (old, new)]
    low, high = bootstrap((values[1] - values[0])[:, None], asked.user)[0]
    return Judged(float(values[0].mean()), float(values[1].mean()), float(low), float(high), len(asked))


def _few(model: Recommender) -> int | None:
    return None if isinstance(model, Scorer) else _SLOW_USERS


def _met_before(log: Dataset) -> Any:
    """bool[events], whether the user has met the item earlier."""
    pair = log.event_user.astype(np.int64) * log.items.size + log.item
    again = np.ones(log.n_events, np.bool_)
    again[np.unique(pair, return_index=True)[1]] = False  # the first of each in canonical order
    return again


def _cases(log: Dataset, place: Offsets) -> Cases:
    user = log.event_user[place]
    assert log.time is not None
    return Cases(log.requests(user, stop=place, now=log.time[place]), log.item[place], user)


def _provenance(model: Recommender) -> dict[str, Any]:
    return cast("dict[str, Any]", model.provenance)  # type: ignore[attr-defined]
