"""Users in the database."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from sqlalchemy import Connection, func, select

from tongtu.serve.store import tables
from tongtu.serve.store.events import add_users, upsert
from tongtu.serve.store.records import Page, User


def put_users(connection: Connection, users: Mapping[str, str]) -> None:
    """Make users, or give those that are there other attributes; attributes as JSON."""
    add_users(connection, users)
    put = upsert(connection, tables.users)
    rows = [{"id": user, "attributes": text} for user, text in users.items()]
    connection.execute(put.on_conflict_do_update(index_elements=["id"], set_={"attributes": put.excluded.attributes}), rows)


def attributes(connection: Connection, user: str) -> Mapping[str, str] | None:
    """What is known of a user, or None for somebody unknown."""
    found = connection.execute(select(tables.users.c.attributes).where(tables.users.c.id == user)).scalar()
    if found is None:
        return None
    known: dict[str, str] = orjson.loads(found)
    return known


def page(connection: Connection, after: str | None, limit: int, query: str | None) -> Page[User]:
    """Users in the order of their ids: those whose id comes behind `after` and holds `query`."""
    u = tables.users.c
    chosen = select(u.id, u.attributes).order_by(u.id).limit(limit + 1)
    if after is not None:
        chosen = chosen.where(u.id > after)
    if query:
        chosen = chosen.where(func.lower(u.id).contains(query.lower(), autoescape=True))
    rows = [User(name, orjson.loads(text)) for name, text in connection.execute(chosen)]
    return Page(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)
