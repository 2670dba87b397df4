"""What the registry of models remembers over a restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, delete, insert, select

from tongtu.serve.store import tables
from tongtu.serve.store.events import upsert
from tongtu.serve.store.records import SavedModel


def models(connection: Connection) -> list[SavedModel]:
    """Every model, by name, the current one before the previous."""
    m = tables.models.c
    rows = connection.execute(select(m.name, m.role, m.path, m.version, m.counter, m.installed).order_by(m.name, m.role))
    return [SavedModel(*row) for row in rows]


def save_models(connection: Connection, rows: Sequence[SavedModel]) -> None:
    """Put these in the place of all that were there."""
    connection.execute(delete(tables.models))
    if rows:
        connection.execute(insert(tables.models), [dict(vars(row)) for row in rows])


def setting(connection: Connection, name: str) -> Any:
    """A fact by name, or None."""
    found = connection.execute(select(tables.settings.c.value).where(tables.settings.c.name == name)).scalar()
    return None if found is None else orjson.loads(found)


def save_setting(connection: Connection, name: str, value: str) -> None:
    """Write a fact; `value` as JSON."""
    put = upsert(connection, tables.settings).values(name=name, value=value)
    connection.execute(put.on_conflict_do_update(index_elements=["name"], set_={"value": value}))
