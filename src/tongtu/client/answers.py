"""What the service answers, as frozen values. Fields that a newer service adds are left out, never an error."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Because:
    """An event of the history, and how far it lifts the item."""

    id: str
    weight: float
    title: str | None = None


@dataclass(frozen=True)
class Recommended:
    """One item of an answer."""

    id: str
    score: float
    rank: int
    title: str | None = None
    text: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    because: tuple[Because, ...] = ()


@dataclass(frozen=True)
class Recommendation(Sequence[Recommended]):
    """The items of an answer, best first, and where they come from; itself the sequence of its items.

    Attributes:
        items: Best first.
        model, version: The one that answered.
        request_id: By which the service's log knows the request.
        took_ms: In the service.
        history_length: Events that counted.
        unknown: Ids of the request that the model does not know.
        notes: What else there is to say.
        degraded: Why the answer is not what the model would give at its best, or None.
    """

    items: tuple[Recommended, ...]
    model: str
    version: str
    request_id: str | None = None
    took_ms: float = 0.0
    history_length: int = 0
    unknown: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    degraded: str | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __iter__(self) -> Iterator[Recommended]:
        return iter(self.items)


@dataclass(frozen=True)
class Reasons:
    """Why an item is recommended: the events that lift it most, and the model's own words where it writes."""

    item: str
    because: tuple[Because, ...] = ()
    title: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Event:
    """An event to store. `key` is its idempotency key, made when the event is: storing one event twice stores it once."""

    user: str
    item: str
    time: int | None = None
    rating: float | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if value not in (None, {})}


@dataclass(frozen=True)
class UserRow:
    """What is stored of a user; `history` holds the newest events, oldest first, `events` counts all."""

    id: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    events: int = 0


@dataclass(frozen=True)
class ItemRow:
    """What is stored of an item."""

    id: str
    text: str = ""
    title: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A model that is served."""

    name: str
    version: str
    previous: str | None = None
    system: str = ""
    road: str | None = None
    items: int = 0
    can: tuple[str, ...] = ()
    path: str = ""
    loaded_at: Any = None
    share: float | None = None
    shadow: Any = None


@dataclass(frozen=True)
class Part:
    """A part of a conversation's turn: `kind` is "stage", "reply", "items" or "done", whose data names the session."""

    kind: str
    data: Mapping[str, Any]


def made(kind: type[T], values: Mapping[str, Any]) -> T:
    """A value of a class from JSON; fields that the class lacks, and those that are null, are left out."""
    known = {entry.name for entry in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in known and value is not None})


def recommendation_from(values: Mapping[str, Any]) -> Recommendation:
    """A recommendation from JSON."""
    items = tuple(made(Recommended, {**one, "because": _because(one)}) for one in values["items"])
    return made(Recommendation, {**values, "items": items, "unknown": tuple(values.get("unknown") or ())})


def reasons_from(values: Mapping[str, Any]) -> Reasons:
    """Reasons from JSON."""
    return made(Reasons, {**values, "because": _because(values)})


def model_from(values: Mapping[str, Any]) -> Model:
    """A model from JSON."""
    return made(Model, {**values, "can": tuple(values.get("can") or ())})


def _because(values: Mapping[str, Any]) -> tuple[Because, ...]:
    return tuple(made(Because, one) for one in values.get("because") or ())
