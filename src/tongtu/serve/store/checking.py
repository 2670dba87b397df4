"""What the store accepts: the same on every database, told in one line before anything is written."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tongtu.errors import DataError
from tongtu.serve.store.records import Event, Item

LONGEST_ID = 512
"""Characters of an id or an idempotency key."""
_LARGEST = 2**63 - 1

EventRow = tuple[str, str, int, str, float | None, str | None, int]
"""user, item, time, key, rating, fields, arrived"""


def event_rows(events: Sequence[Event], now: int) -> list[EventRow]:
    """Rows of the table of events.

    Args:
        events: Any number.
        now: Seconds since 1970, when they arrived.

    Raises:
        DataError: If one cannot be kept; it names which.
    """
    return [_row(event, now, f"event {place}" if len(events) > 1 else "event") for place, event in enumerate(events)]


def ident(value: Any, what: str) -> str:
    """An id, a name or a key as it is.

    Raises:
        DataError: If it is not text of 1 to 512 characters that can be kept.
    """
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_ID:
        found = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
        raise DataError(f"{what} must be text of 1 to {LONGEST_ID} characters, got {found}")
    return text(value, what)


def text(value: Any, what: str) -> str:
    """Text as it is.

    Raises:
        DataError: If it is not text, or holds NUL or half a surrogate pair, which databases do not keep.
    """
    if not isinstance(value, str):
        raise DataError(f"{what} must be text, got {type(value).__name__}")
    if "\0" in value:
        raise DataError(f"{what} holds a NUL character, which cannot be kept: leave it out")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(f"{what} holds half a surrogate pair, which is no character: leave it out") from None
    return value


def whole(value: Any, what: str) -> int:
    """A whole number of 64 bits.

    Raises:
        DataError: If it is something else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not -_LARGEST - 1 <= value <= _LARGEST:
        raise DataError(f"{what} must be a whole number of 64 bits, got {str(value)[:40]!r}")
    return value


def check_asked(value: Any) -> None:
    """Look at what somebody asks for: databases differ in what they do with text and numbers that they could not hold.

    Raises:
        DataError: If such a value is part of it.
    """
    if isinstance(value, str):
        text(value, "what is asked for")
    elif isinstance(value, int) and not isinstance(value, bool):
        whole(value, "a number that is asked with")
    elif isinstance(value, Mapping):
        check_asked(list(value))
        check_asked(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            check_asked(part)


def json_text(value: Mapping[str, Any], what: str) -> str:
    """A mapping as JSON.

    Raises:
        DataError: If JSON cannot hold it, or it holds NUL characters.
    """
    try:
        written = orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise DataError(f"{what} cannot be written as JSON: {error}") from None
    if b"\\u0000" in written and _has_nul(value):
        raise DataError(f"{what} holds a NUL character, which cannot be kept: leave it out")
    return written.decode()


def attributes_text(attributes: Mapping[str, str], what: str) -> str:
    """A user's attributes as JSON.

    Raises:
        DataError: If one is not text.
    """
    for name, value in attributes.items():
        text(name, f"{what}: the name of an attribute")
        text(value, f"{what}: attribute {str(name)[:40]!r}")
    return json_text(attributes, what)


def check_item(item: Item) -> str:
    """The fields of an item as JSON.

    Raises:
        DataError: If the item cannot be kept.
    """
    what = f"item {ident(item.id, 'the id of an item')[:40]!r}"
    text(item.text, f"{what}: its text")
    if item.title is not None:
        text(item.title, f"{what}: its title")
    return json_text(item.fields, f"{what}: fields")


def _row(event: Event, now: int, what: str) -> EventRow:
    rest, rating = dict(event.fields), None
    if (given := rest.pop("rating", None)) is not None:
        rating = _rating(given, what)
    return (
        ident(event.user, f"{what}: user"),
        ident(event.item, f"{what}: item"),
        whole(event.time, f"{what}: time"),
        # With a key of its own an event can be written again after a lost connection without being there twice.
        secrets.token_urlsafe(16) if event.key is None else ident(event.key, f"{what}: key"),
        rating,
        json_text(rest, f"{what}: fields") if rest else None,
        now,
    )


def _rating(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST or not math.isfinite(value):
        raise DataError(f"{what}: rating must be a finite number, got {str(value)[:40]!r}")
    return float(value)


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, Mapping):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, list | tuple) and any(_has_nul(part) for part in value)
