"""Writing events, which every click pays for: SQL as it is, one statement for a whole group where the database can, and no counting later."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from tongtu.serve.store.checking import EventRow

_DAY = 24 * 60
_COLUMNS = "user_id, item_id, time, key, rating, fields, arrived"
_EVENT = f"INSERT INTO tongtu_events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
_USER = "INSERT INTO tongtu_users (id, attributes) VALUES (?, '{}') ON CONFLICT DO NOTHING"
_TOTAL = "UPDATE tongtu_totals SET n = n + ? WHERE name = ?"
_MINUTE = "INSERT INTO tongtu_minutes (minute, n) VALUES (?, ?) ON CONFLICT (minute) DO UPDATE SET n = tongtu_minutes.n + excluded.n"
_OLD = "DELETE FROM tongtu_minutes WHERE minute <= ?"

_ALL = f"""WITH new AS (
    INSERT INTO tongtu_events ({_COLUMNS})
    SELECT a, b, c, d, e, f, g
    FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::float8[], %s::text[], %s::bigint[]) WITH ORDINALITY AS x(a, b, c, d, e, f, g, n)
    ORDER BY n ON CONFLICT (key) DO NOTHING RETURNING key, user_id
), made AS (
    INSERT INTO tongtu_users (id, attributes) SELECT DISTINCT user_id, '{{}}' FROM new ON CONFLICT DO NOTHING RETURNING id
), total AS (
    UPDATE tongtu_totals SET n = n + CASE name WHEN 'events' THEN (SELECT count(*) FROM new) ELSE (SELECT count(*) FROM made) END
    WHERE name IN ('events', 'users')
), arrived AS (
    INSERT INTO tongtu_minutes (minute, n) SELECT %s, count(*) FROM new HAVING count(*) > 0
    ON CONFLICT (minute) DO UPDATE SET n = tongtu_minutes.n + excluded.n
), old AS (
    DELETE FROM tongtu_minutes WHERE minute <= %s
) SELECT key FROM new"""


def insert_events(connection: Connection, rows: Sequence[EventRow]) -> list[bool]:
    """Write events whose key is not there yet; of each whether it was new."""
    if not rows:
        return []
    return _at_once(connection, rows) if connection.dialect.name == "postgresql" else _one_by_one(connection, rows)


def _one_by_one(connection: Connection, rows: Sequence[EventRow]) -> list[bool]:
    # The driver itself: SQLAlchemy would take most of the time.
    cursor = connection.connection.cursor()
    new = [cursor.execute(_EVENT, row).rowcount == 1 for row in rows]
    if n := sum(new):
        users = {row[0]: None for row, is_new in zip(rows, new, strict=True) if is_new}
        made = cursor.executemany(_USER, [(user,) for user in users]).rowcount
        cursor.executemany(_TOTAL, [(n, "events"), (made, "users")])
        minute = rows[-1][-1] // 60
        cursor.execute(_MINUTE, (minute, n))
        cursor.execute(_OLD, (minute - _DAY,))
    return new


def _at_once(connection: Connection, rows: Sequence[EventRow]) -> list[bool]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    minute = rows[-1][-1] // 60
    left = {row[0] for row in connection.exec_driver_sql(_ALL, (*columns, minute, minute - _DAY))}
    new = []
    for row in rows:
        new.append(row[3] in left)
        left.discard(row[3])
    return new
