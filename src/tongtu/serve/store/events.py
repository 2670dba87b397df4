"""Events in the database: reading, counting and forgetting them. `inserting` writes them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tongtu.serve.store import tables
from tongtu.serve.store.opening import sql
from tongtu.serve.store.records import NO_FIELDS, Counts, Event, History, StoredEvent

# Every recommendation asks this: SQL as it is.
_HISTORY = "SELECT item_id, time, rating FROM tongtu_events WHERE user_id = ? ORDER BY time DESC, seq DESC LIMIT ?"


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


def answers(connection: Connection) -> bool:
    """Whether the tables are there."""
    return connection.exec_driver_sql("SELECT n FROM tongtu_totals WHERE name = 'events'").scalar() is not None


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


def _fields(rating: float | None, text: str | None) -> Mapping[str, Any]:
    fields: dict[str, Any] = {} if text is None else orjson.loads(text)
    if rating is not None:
        fields["rating"] = rating
    return fields or NO_FIELDS
