"""Loading a data set into the store, once: its users, its catalogue and its log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import polars as pl
from sqlalchemy import Connection

from tongtu.data.dataset import Dataset
from tongtu.data.item_text import item_names
from tongtu.errors import DataError
from tongtu.serve.store.catalogue import field_values, item_row
from tongtu.serve.store.checking import LONGEST_ID
from tongtu.serve.store.events import count
from tongtu.serve.store.records import Item
from tongtu.serve.store.registry_rows import save_setting, setting
from tongtu.serve.store.store import Store

SEED = "seed"
"""The setting that remembers what was loaded."""
_ROWS = 20_000
"""Rows that are handed over at once."""

_USERS = ("tongtu_users (id, attributes)", "text text")
_ITEMS = ("tongtu_items (id, text, title, fields, search, seq)", "text text text text text bigint")
_VALUES = ("tongtu_item_values (field, value, item_id)", "text text text")
_EVENTS = ("tongtu_events (user_id, item_id, time, rating, arrived)", "text text bigint float8 bigint")

Columns = Sequence[Sequence[Any]]


def seed(store: Store, data: Dataset) -> dict[str, int]:
    """Load a data set, whole or not at all. What was put into the store by hand stays; of the events only the rating is kept.

    Args:
        store: The store.
        data: The log. Where it knows only an order, all its events have time 0.

    Returns:
        How many users, items and events are new; all 0 where this very log had been loaded before.

    Raises:
        DataError: If another log had been loaded, or an id cannot be kept.
    """
    loaded = store.setting(SEED)
    if loaded is None:
        for ids, what in ((data.users.ids, "user"), (data.items.ids, "item")):
            _check_ids(ids, what)
        return store.writer.submit(lambda connection: _load_all(connection, data)).result()
    if loaded["fingerprint"] == data.fingerprint:
        return dict.fromkeys(("users", "items", "events"), 0)
    raise DataError(
        f"the store {store.name} holds the log of {loaded['name']}, which {data.name} would be mixed with: "
        "give the new one a store of its own with --store, or leave out --data"
    )


def _load_all(connection: Connection, data: Dataset) -> dict[str, int]:
    new = {
        "users": sum(_insert(connection, *_USERS, part) for part in _users(data)),
        "items": sum(_insert(connection, *_ITEMS, part) for part in _items(data)),
        "events": sum(_insert(connection, *_EVENTS, part) for part in _events(data)),
    }
    for part in _values(data):
        _insert(connection, *_VALUES, part)
    for name, n in new.items():
        count(connection, name, n)
    record = {"name": data.name, "fingerprint": data.fingerprint, **new}
    # Somebody else may have loaded it since we looked; only now nobody can.
    if setting(connection, SEED) is not None:
        raise DataError("another program has loaded a data set into the store at the same time: start again")
    save_setting(connection, SEED, orjson.dumps(record).decode())
    return new


def _check_ids(ids: pl.Series, what: str) -> None:
    wrong = ids.filter((ids.str.len_chars() > LONGEST_ID) | ids.str.contains("\0", literal=True))
    if len(wrong):
        raise DataError(f"{what} id {wrong[0][:40]!r}... has over {LONGEST_ID} characters or a NUL character and cannot be kept: give it another")


def _users(data: Dataset) -> Iterator[Columns]:
    for start in range(0, len(data.users), _ROWS):
        ids = data.users.ids[start : start + _ROWS].to_list()
        known = data.attributes(np.arange(start + 1, start + 1 + len(ids), dtype=np.int32))
        yield [ids, [orjson.dumps(dict(one)).decode() for one in known]]


def _items(data: Dataset) -> Iterator[Columns]:
    names = item_names(data.item_text, data.item_fields)
    for start in range(0, len(data.items), _ROWS):
        part = slice(start, start + _ROWS)
        ids, texts, titles = (column[part].fill_null("").to_list() for column in (data.items.ids, data.item_text, names))
        rows = []
        for name, text, title, fields in zip(ids, texts, titles, _fields(data, part), strict=True):
            item = Item(name, text.replace("\0", " "), title.replace("\0", " ") or None)
            rows.append(item_row(item, orjson.dumps(fields).decode(), 0).values())
        yield list(zip(*rows, strict=True))


def _values(data: Dataset) -> Iterator[Columns]:
    for start in range(0, len(data.items), _ROWS):
        part = slice(start, start + _ROWS)
        pairs = zip(data.items.ids[part].to_list(), _fields(data, part), strict=True)
        rows = [(field, value, name) for name, fields in pairs for field, value in field_values(fields)]
        if rows:
            yield list(zip(*rows, strict=True))


def _fields(data: Dataset, part: slice) -> list[dict[str, Any]]:
    """Fields of some items as JSON has them, without the title and without what is missing."""
    if not data.item_fields.width:
        return [{}] * len(range(*part.indices(len(data.items))))
    rows = orjson.loads(orjson.dumps(data.item_fields[part].to_dicts(), default=str))
    return [{name: value for name, value in row.items() if value is not None and name != "title"} for row in rows]


def _events(data: Dataset) -> Iterator[Columns]:
    now = int(time.time())
    ratings = data.event_fields["rating"].cast(pl.Float64).fill_nan(None) if "rating" in data.event_fields.columns else None
    for start in range(0, data.n_events, _ROWS):
        part = slice(start, start + _ROWS)
        users = data.users.ids.gather(data.event_user[part] - 1).to_list()
        n = len(users)
        times = [0] * n if data.time is None else data.time[part].tolist()
        yield [users, data.items.ids.gather(data.item[part] - 1).to_list(), times, [None] * n if ratings is None else ratings[part].to_list(), [now] * n]


def _insert(connection: Connection, into: str, kinds: str, columns: Columns) -> int:
    """Insert rows that are not there yet, in their order; how many."""
    types = kinds.split()
    if connection.dialect.name == "postgresql":
        names = ", ".join(f"c{place}" for place in range(len(types)))
        arrays = ", ".join(f"%s::{kind}[]" for kind in types)
        many = f"INSERT INTO {into} SELECT {names} FROM unnest({arrays}) WITH ORDINALITY AS x({names}, n) ORDER BY n ON CONFLICT DO NOTHING"
        return connection.exec_driver_sql(many, tuple(list(column) for column in columns)).rowcount
    places = ", ".join("?" * len(types))
    rows = list(zip(*columns, strict=True))
    return int(connection.connection.cursor().executemany(f"INSERT INTO {into} VALUES ({places}) ON CONFLICT DO NOTHING", rows).rowcount)
