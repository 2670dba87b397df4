"""What the front of the service and its workers say to each other: questions, answers, and the facts of a model.

Items are the user's own ids everywhere; codes never leave a worker. `plain` turns a message into values that JSON can hold, and the
`..._from` functions read them back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tongtu.errors import TongtuError

CAN = ("wish", "attributes", "forget", "extend", "similar", "explain", "chat")
"""Everything a model may be able to do besides recommending."""


class ServeError(TongtuError):
    """A question that the service cannot answer now, or not at all."""


class Overloaded(ServeError):
    """More waits than the queue holds; `retry_after` says in how many seconds it is worth another try."""

    def __init__(self, waiting: int, retry_after: float) -> None:
        super().__init__(f"{waiting} questions are waiting already: try again in {retry_after:.0f} s, or start the service with more workers")
        self.retry_after = retry_after


class DeadlineExceeded(ServeError):
    """The time for an answer is over; the work on it has been given up."""


class UnknownVersion(ServeError):
    """No model of this name or version is being served."""


class WorkerLost(ServeError):
    """The process that worked on the question died, twice."""


class ModelFailed(ServeError):
    """The model failed at a question for no reason that the one who asked could mend."""


class NotPossible(ServeError):
    """The model that was asked cannot do that."""


@dataclass(frozen=True)
class Question:
    """One question for recommendations.

    Attributes:
        k: How many items.
        history: Item ids, oldest first; unknown ones are ordinary.
        times: Seconds since 1970 of each event, or None where only the order is known.
        ratings: One for each event, or None.
        now: Seconds since 1970 at which is asked, or None.
        user: Who asks.
        attributes: What is known of the user, by field name.
        forget: Attributes that the answer must not depend on.
        wish: In the user's own words, or None.
        candidates: Ids that the answer is limited to, or None for the whole catalogue.
        exclude: Ids that may not be answered.
        exclude_seen: Whether items of the history are left out.
        diversity: From 0, the model's own order, to 1, items as unlike each other as can be.
    """

    k: int
    history: tuple[str, ...] = ()
    times: tuple[int, ...] | None = None
    ratings: tuple[float, ...] | None = None
    now: int | None = None
    user: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    forget: tuple[str, ...] = ()
    wish: str | None = None
    candidates: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    exclude_seen: bool = True
    diversity: float = 0.0


@dataclass(frozen=True)
class Answer:
    """The items recommended, best first.

    Attributes:
        items, scores: Ids and their scores.
        unknown: Ids of the history and the candidates that the model does not know.
        notes: What else there is to say of this answer ("degraded": why, "diversity": "not possible").
        model, version: The one that answered.
        ms: Milliseconds in the worker.
    """

    items: tuple[str, ...]
    scores: tuple[float, ...]
    unknown: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    version: str = ""
    ms: float = 0.0


@dataclass(frozen=True)
class Reasons:
    """Why an item is recommended.

    Attributes:
        item: Its id.
        because: Ids of the history, each with how far the item's score falls when that event is left out; the largest first.
        text: In the model's own words, where it writes.
    """

    item: str
    because: tuple[tuple[str, float], ...] = ()
    text: str | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model that is being served.

    Attributes:
        name: What users call it.
        version: A short hash of its folder's manifest and a counter, "a1b2c3d4-2".
        path: Its folder.
        system: Its class.
        items: How many it knows.
        can: Which of `CAN`.
        language_model: Whether a language model works in it, so that it is slow.
        fitted: How it was made.
        fingerprint: SHA-256 of the folder's manifest.
        loaded_seconds: How long it took to open.
        memory_mb: What a worker grew by when it opened it, in MiB; workers share what is mapped.
    """

    name: str
    version: str
    path: str
    system: str
    items: int
    can: frozenset[str] = frozenset()
    language_model: bool = False
    fitted: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    loaded_seconds: float = 0.0
    memory_mb: float = 0.0


def plain(message: Question | Answer | Reasons | ModelFacts) -> dict[str, Any]:
    """A message as values that JSON can hold."""
    values = {entry.name: getattr(message, entry.name) for entry in dataclasses.fields(message)}
    return values | {"can": sorted(message.can)} if isinstance(message, ModelFacts) else values


def question_from(values: Mapping[str, Any]) -> Question:
    """A question from the values that `plain` made."""
    lists = {name: tuple(values[name]) for name in ("history", "times", "ratings", "forget", "candidates", "exclude") if values.get(name) is not None}
    return Question(**{**values, **lists})


def answer_from(values: Mapping[str, Any]) -> Answer:
    """An answer from the values that `plain` made."""
    return Answer(**{**values, **{name: tuple(values[name]) for name in ("items", "scores", "unknown")}})


def reasons_from(values: Mapping[str, Any]) -> Reasons:
    """Reasons from the values that `plain` made."""
    return Reasons(values["item"], tuple((item, weight) for item, weight in values["because"]), values["text"])


def facts_from(values: Mapping[str, Any]) -> ModelFacts:
    """Facts from the values that `plain` made."""
    return ModelFacts(**{**values, "can": frozenset(values["can"])})
