"""Events in the database. The two paths that every request takes are written in SQL: they cost a third of what statements built in Python do."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tongtu.serve.store import tables
from tongtu.serve.store.checking import EventRow
from tongtu.serve.store.opening import sql
from tongtu.serve.store.records import NO_FIELDS, Counts, Event, History, StoredEvent

_COLUMNS = "user_id, item_id, time, key, rating, fields, arrived"
_INSERT_ONE = f"INSERT INTO tongtu_events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
_INSERT_MANY = f"""INSERT INTO tongtu_events ({_COLUMNS}) SELECT a, b, c, d, e, f, g
FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::float8[], %s::text[], %s::bigint[]) WITH ORDINALITY AS x(a, b, c, d, e, f, g, n)
ORDER BY n ON CONFLICT (key) DO NOTHING RETURNING key"""
_HISTORY = "SELECT item_id, time, rating FROM tongtu_events WHERE user_id = ? ORDER BY time DESC, seq DESC LIMIT ?"
_DAY = 24 * 60


def insert_events(connection: Connection, rows: Sequence[EventRow]) -> list[bool]:
    """Write events whose key is not there yet; of each whether it was new."""
    new = _insert_many(connection, rows) if connection.dialect.name == "postgresql" else _insert_each(connection, rows)
    kept = [row for row, is_new in zip(rows, new, strict=True) if is_new]
    if kept:
        add_users(connection, {row[0]: "{}" for row in kept})
        count(connection, "events", len(kept))
        _count_minute(connection, kept[-1][-1] // 60, len(kept))
    return new


def history(connection: Connection, user: str, last: int) -> History:
    """The last events of a user."""
    found = connection.exec_driver_sql(sql(connection, _HISTORY), (user, last)).fetchall()
    if not found:
        return History()
    items, times, ratings = zip(*reversed(found), strict=True)
    return History(items, times, ratings)


def histories(connection: Connection, users: Iterable[str], last: int) -> dict[str, History]:
    """The last events of each user."""
    return {user: history(connection, user, last) for user in users}


def page(connection: Connection, since: int, limit: int, seeded: bool) -> list[StoredEvent]:
    """Events with a number above `since`, in order; with or without those that came with the data set."""
    e = tables.events.c
    chosen = select(e.seq, e.user_id, e.item_id, e.time, e.key, e.rating, e.fields, e.arrived).where(e.seq > since).order_by(e.seq).limit(limit)
    found = connection.execute(chosen if seeded else chosen.where(e.key.is_not(None)))
    return [StoredEvent(seq, Event(user, item, when, key, _fields(rating, text)), arrived) for seq, user, item, when, key, rating, text, arrived in found]


def n_events(connection: Connection, user: str) -> int:
    """How many events a user has."""
    return int(connection.execute(select(func.count()).where(tables.events.c.user_id == user)).scalar_one())


def delete_user(connection: Connection, user: str) -> int:
    """Remove a user, their attributes and events; the number of events."""
    gone = connection.execute(delete(tables.events).where(tables.events.c.user_id == user)).rowcount
    count(connection, "events", -gone)
    count(connection, "users", -connection.execute(delete(tables.users).where(tables.users.c.id == user)).rowcount)
    return gone


def counts(connection: Connection) -> Counts:
    """How much there is."""
    n = {name: value for name, value in connection.execute(select(tables.totals.c.name, tables.totals.c.n))}
    last = connection.execute(select(func.max(tables.events.c.seq))).scalar() or 0
    now = int(time.time()) // 60
    recent = select(tables.minutes.c.minute, tables.minutes.c.n).where(tables.minutes.c.minute > now - 60)
    by_minute = {minute: value for minute, value in connection.execute(recent)}
    return Counts(n["users"], n["items"], n["events"], last, tuple(by_minute.get(now - back, 0) for back in range(59, -1, -1)))


def add_users(connection: Connection, users: Mapping[str, str]) -> None:
    """Make those users that are not there; attributes as JSON. Those that are there stay as they are."""
    if connection.dialect.name == "postgresql":
        many = "INSERT INTO tongtu_users (id, attributes) SELECT * FROM unnest(%s::text[], %s::text[]) ON CONFLICT DO NOTHING"
        made = connection.exec_driver_sql(many, (list(users), list(users.values()))).rowcount
    else:
        cursor = connection.connection.cursor()
        made = cursor.executemany("INSERT INTO tongtu_users (id, attributes) VALUES (?, ?) ON CONFLICT DO NOTHING", list(users.items())).rowcount
    count(connection, "users", made)


def count(connection: Connection, name: str, by: int) -> None:
    """Keep one of the totals."""
    if by:
        connection.execute(update(tables.totals).where(tables.totals.c.name == name).values(n=tables.totals.c.n + by))


def upsert(connection: Connection, table: Any) -> Any:
    """An insert that this database can turn into an update."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def _insert_each(connection: Connection, rows: Sequence[EventRow]) -> list[bool]:
    # The driver itself: SQLAlchemy would take most of the time that a group of events has.
    cursor = connection.connection.cursor()
    return [cursor.execute(_INSERT_ONE, row).rowcount == 1 for row in rows]


def _insert_many(connection: Connection, rows: Sequence[EventRow]) -> list[bool]:
    columns = tuple(list(column) for column in zip(*rows, strict=True))
    left = {row[0] for row in connection.exec_driver_sql(_INSERT_MANY, columns)}
    new = []
    for row in rows:
        new.append(row[3] in left)
        left.discard(row[3])
    return new


def _count_minute(connection: Connection, minute: int, n: int) -> None:
    put = upsert(connection, tables.minutes).values(minute=minute, n=n)
    connection.execute(put.on_conflict_do_update(index_elements=["minute"], set_={"n": tables.minutes.c.n + n}))
    connection.execute(delete(tables.minutes).where(tables.minutes.c.minute <= minute - _DAY))


def _fields(rating: float | None, text: str | None) -> Mapping[str, Any]:
    fields: dict[str, Any] = {} if text is None else orjson.loads(text)
    if rating is not None:
        fields["rating"] = rating
    return fields or NO_FIELDS
