"""What goes into the store and comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")
NO_FIELDS: Mapping[str, Any] = {}

SCOPES = ("read", "write", "admin")
"""What a key may allow."""


@dataclass(frozen=True)
class Event:
    """A user did something with an item.

    Attributes:
        user, item: Ids, of 1 to 512 characters.
        time: Seconds since 1970.
        key: The idempotency key: of two events with one key only the first is kept. None makes a random one.
        fields: What else is known of it; "rating" must be a number.
    """

    user: str
    item: str
    time: int
    key: str | None = None
    fields: Mapping[str, Any] = field(default_factory=lambda: NO_FIELDS)


@dataclass(frozen=True)
class StoredEvent:
    """An event as it lies in the store.

    Attributes:
        seq: Its number in the order of arrival.
        event: The event; its key is None where it came with the data set.
        arrived: When it was stored, seconds since 1970.
    """

    seq: int
    event: Event
    arrived: int


@dataclass(frozen=True)
class History:
    """A user's last events, oldest first; those of one second in the order they arrived.

    Attributes:
        items: Item ids.
        times: Seconds since 1970 of each.
        ratings: The rating of each, or None.
    """

    items: tuple[str, ...] = ()
    times: tuple[int, ...] = ()
    ratings: tuple[float | None, ...] = ()

    def rated(self) -> tuple[float, ...] | None:
        """The ratings where every event has one, else None."""
        known = tuple(rating for rating in self.ratings if rating is not None)
        return known if known and len(known) == len(self.items) else None


@dataclass(frozen=True)
class User:
    """A user and what is known of them."""

    id: str
    attributes: Mapping[str, str] = field(default_factory=lambda: NO_FIELDS)


@dataclass(frozen=True)
class Item:
    """An item of the catalogue.

    Attributes:
        id: Of 1 to 512 characters.
        text: What language models read, "" where there is none.
        title: What people call it, or None.
        fields: What else is known of it.
        seq: The number of its last change, 0 for items as they came with the data set; set by the store.
    """

    id: str
    text: str
    title: str | None = None
    fields: Mapping[str, Any] = field(default_factory=lambda: NO_FIELDS)
    seq: int = 0


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some of many. `next` is what to ask for the rest with, or None at the end."""

    rows: Sequence[T]
    next: str | None = None


@dataclass(frozen=True)
class Counts:
    """How much the store holds.

    Attributes:
        users, items, events: How many.
        last_seq: The number of the newest event.
        minutes: How many events arrived in each of the last 60 minutes, the running one last.
    """

    users: int
    items: int
    events: int
    last_seq: int
    minutes: tuple[int, ...]


@dataclass(frozen=True)
class Key:
    """An API key without its secret.

    Attributes:
        name: What it is called.
        scopes: What it allows, of `SCOPES`.
        start: The first characters of the secret.
        created: Seconds since 1970.
    """

    name: str
    scopes: frozenset[str]
    start: str
    created: int


@dataclass(frozen=True)
class SavedModel:
    """A model of the registry.

    Attributes:
        name: What requests call it.
        role: Whether it answers, or is the one before, kept for a rollback.
        path: Its folder.
        version, counter: Which one; the counter counts the installations under this name.
        installed: Seconds since 1970.
    """

    name: str
    role: Literal["current", "previous"]
    path: str
    version: str
    counter: int
    installed: int
