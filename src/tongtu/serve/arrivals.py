"""What a service has collected, as it is added to a log: from the store's pages to columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from tongtu.data.merging import Arrivals

if TYPE_CHECKING:
    from tongtu.serve.store import Store

_AT_ONCE = 10_000


def read_store(store: Store, seeded: bool = True) -> Arrivals:
    """Events, catalogue and users of a store. Of the events' fields the rating is taken.

    Args:
        store: It.
        seeded: Whether events that came from a data set are taken too.
    """
    columns: dict[str, list[Any]] = {"user": [], "item": [], "time": [], "rating": []}
    for stored in _events(store, seeded):
        event = stored.event
        for name, value in zip(columns, (event.user, event.item, event.time, event.fields.get("rating")), strict=True):
            columns[name].append(value)
    kinds = {"user": pl.String, "item": pl.String, "time": pl.Int64, "rating": pl.Float32}
    events = pl.DataFrame(columns, schema=kinds)
    if not events["rating"].count():
        events = events.drop("rating")
    items = [_item(item) for item in _all(store.items)]
    users = [{**user.attributes, "id": user.id} for user in _all(store.users)]
    return Arrivals(events, _table(items, ("id", "text")), _table(users, ("id",)))


def _item(item: Any) -> dict[str, Any]:
    named = {"title": item.title} if item.title else {}
    return {**item.fields, **named, "id": item.id, "text": item.text or item.title or ""}


def _events(store: Store, seeded: bool) -> Iterator[Any]:
    last = 0
    while page := store.events(last, _AT_ONCE, seeded):
        yield from page
        last = page[-1].seq


def _all(pages: Any) -> Iterator[Any]:
    after: str | None = None
    while True:
        page = pages(after, _AT_ONCE)
        yield from page.rows
        after = page.next
        if after is None:
            return


def _table(rows: Sequence[Mapping[str, Any]], always: tuple[str, ...]) -> pl.DataFrame:
    """One column a field; a field whose values are of several kinds becomes text."""
    names = dict.fromkeys([*always, *(name for row in rows for name in row)])
    return pl.DataFrame([_column(name, [row.get(name) for row in rows], name in always) for name in names])


def _column(name: str, values: list[Any], text: bool) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    if text or len(kinds) != 1 or not kinds <= {str, int, float, bool}:
        return pl.Series(name, [None if value is None else _as_text(value) for value in values], dtype=pl.String)
    return pl.Series(name, values)


def _as_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
