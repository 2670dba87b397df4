"""Items in the database: writing them, finding them by id, by words and by the values of their fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Select, bindparam, delete, func, select

from tongtu.errors import DataError
from tongtu.serve.store import tables
from tongtu.serve.store.events import count, upsert
from tongtu.serve.store.opening import sql
from tongtu.serve.store.records import NO_FIELDS, Item, Page

CATEGORY_FIELDS = ("categories", "category", "genres", "genre")
"""The fields whose values are an item's categories."""
_VALUES = 64
"""Values kept of one field of one item for filters, and the longest name of a field in bytes."""
_LONGEST_VALUE = 400
"""Bytes; longer ones are texts, which nobody filters by, and would not fit into an index of PostgreSQL."""
_WORDS = 8
"""Words of a search that count."""
_FIELDS = 20
"""Fields of one filter."""
_ASKED_VALUES = 1_000
"""Values of one filter."""
_ONE_QUESTION = 500
"""Ids asked for in one statement."""


def put_items(connection: Connection, items: Mapping[str, tuple[Item, str]]) -> None:
    """Make items, or replace those that are there; each with its fields as JSON."""
    known = sum(len(_found(connection, part, "id")) for part in _parts(list(items)))
    last = connection.execute(select(func.max(tables.items.c.seq))).scalar() or 0
    rows = [item_row(item, text, last + place) for place, (item, text) in enumerate(items.values(), 1)]
    put = upsert(connection, tables.items)
    changed = {name: put.excluded[name] for name in rows[0] if name != "id"}
    connection.execute(put.on_conflict_do_update(index_elements=["id"], set_=changed), rows)
    connection.execute(delete(tables.values).where(tables.values.c.item_id == bindparam("item")), [{"item": name} for name in items])
    values = [{"field": field, "value": value, "item_id": item.id} for item, _ in items.values() for field, value in field_values(item.fields)]
    if values:
        connection.execute(upsert(connection, tables.values).on_conflict_do_nothing(), values)
    count(connection, "items", len(items) - known)


def item_row(item: Item, fields: str, seq: int) -> dict[str, Any]:
    """A row of the table of items."""
    search = f"{item.title or ''}\n{item.text}".casefold()
    return {"id": item.id, "text": item.text, "title": item.title, "fields": fields, "search": search, "seq": seq}


def field_values(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values that items can be filtered by: short texts, numbers, truth values, and lists of them."""
    for name, value in fields.items():
        parts = value if isinstance(value, list | tuple) else [value]
        if len(name.encode()) <= _VALUES:
            texts = [_written(part) for part in parts[:_VALUES] if isinstance(part, str | int | float)]
            yield from ((name, text) for text in dict.fromkeys(texts) if len(text.encode()) <= _LONGEST_VALUE and "\0" not in text)


def get_items(connection: Connection, ids: Iterable[str]) -> dict[str, Item]:
    """The items among `ids` that there are."""
    found = (row for part in _parts(list(ids)) for row in _found(connection, part, "id, text, title, fields, seq"))
    return {row[0]: _item(row) for row in found}


def page(connection: Connection, after: str | None, limit: int, query: str | None, category: str | None) -> Page[Item]:
    """Items in the order of their ids: those behind `after` with all words of `query` in title or text, of one category."""
    i = tables.items.c
    chosen = _columns().order_by(i.id).limit(limit + 1)
    if after is not None:
        chosen = chosen.where(i.id > after)
    for word in (query or "").casefold().split()[:_WORDS]:
        chosen = chosen.where(i.search.contains(word, autoescape=True))
    if category is not None:
        chosen = chosen.where(i.id.in_(_having(CATEGORY_FIELDS, [category])))
    rows = [_item(row) for row in connection.execute(chosen)]
    return Page(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)


def since(connection: Connection, seq: int, limit: int) -> list[Item]:
    """Items changed after change number `seq`, in that order."""
    chosen = _columns().where(tables.items.c.seq > seq).order_by(tables.items.c.seq).limit(limit)
    return [_item(row) for row in connection.execute(chosen)]


def categories(connection: Connection, limit: int) -> list[tuple[str, int]]:
    """The largest categories and how many items each has."""
    v, n = tables.values.c, func.count()
    chosen = select(v.value, n).where(v.field.in_(CATEGORY_FIELDS)).group_by(v.value).order_by(n.desc(), v.value).limit(limit)
    return [(value, size) for value, size in connection.execute(chosen)]


def matching(connection: Connection, filters: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Ids, in order, of the items that have, for each field, one of its values.

    Raises:
        DataError: If more is asked than one statement can hold.
    """
    if len(filters) > _FIELDS or sum(map(len, filters.values())) > _ASKED_VALUES:
        raise DataError(f"filters: at most {_FIELDS} fields with {_ASKED_VALUES} values in all")
    i = tables.items.c
    chosen = select(i.id).order_by(i.id)
    for field, values in filters.items():
        chosen = chosen.where(i.id.in_(_having([field], values)))
    return tuple(connection.execute(chosen).scalars())


def _columns() -> Select[Any]:
    i = tables.items.c
    return select(i.id, i.text, i.title, i.fields, i.seq)


def _having(fields: Sequence[str], values: Sequence[str]) -> Select[tuple[Any]]:
    v = tables.values.alias().c
    return select(v.item_id).where(v.field.in_(fields), v.value.in_(values))


def _found(connection: Connection, ids: Sequence[str], columns: str) -> Sequence[Any]:
    # Asked for with every recommendation: SQL as it is.
    places = ", ".join("?" * len(ids))
    return connection.exec_driver_sql(sql(connection, f"SELECT {columns} FROM tongtu_items WHERE id IN ({places})"), tuple(ids)).fetchall()


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _ONE_QUESTION] for start in range(0, len(ids), _ONE_QUESTION))


def _item(row: Sequence[Any]) -> Item:
    name, text, title, fields, seq = row
    return Item(name, text, title, orjson.loads(fields) if fields != "{}" else NO_FIELDS, seq)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
