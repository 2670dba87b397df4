"""Opening the store's database: where it lies, how it is set up, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from tongtu.errors import ConfigError, StorageError, writing
from tongtu.serve.store.tables import NAMESPACE

REVISIONS = ("0001",)
"""Every schema there has been, oldest first; each has a file in `migrations/versions`."""
VERSION_TABLE = f"{NAMESPACE}schema"

_PATIENCE = 10
"""Seconds to wait for another program that is writing, or for a server that does not answer."""
_LOCK = 0x746F6E67
"""Number of the lock that writers take on PostgreSQL."""


def parse_url(url: str) -> URL:
    """Where the store lies; "postgresql://" means the driver that is installed with Tongtu.

    Raises:
        ConfigError: If it is not the address of a database that can be used.
    """
    remedy = "write sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(f"the store's address cannot be read: {remedy}") from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise ConfigError(f"no store can be kept in {parsed.drivername}: {remedy}")
    if parsed.get_backend_name() == "sqlite" and (parsed.database in (None, "", ":memory:") or str(parsed.database).startswith("file:")):
        raise ConfigError("the store must be a file, so that what was acknowledged is still there after a restart: write sqlite:///FILE")
    return parsed


def open_engine(url: URL, create: bool) -> Engine:
    """The database at `url`, with today's tables.

    Args:
        url: As `parse_url` gives it.
        create: Whether to make it where there is none; an older one is brought up to date in any case.

    Raises:
        StorageError: If it cannot be opened, is another program's, or was made by a newer Tongtu.
    """
    name = url.render_as_string()
    if url.get_backend_name() == "sqlite":
        _place_file(Path(str(url.database)), name, create)
        engine = create_engine(url, connect_args={"timeout": _PATIENCE, "check_same_thread": False}, pool_size=8, max_overflow=8)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        alive = {"connect_timeout": _PATIENCE // 2, "keepalives_idle": _PATIENCE, "tcp_user_timeout": 1000 * _PATIENCE, "application_name": "tongtu"}
        engine = create_engine(url, connect_args=alive, pool_size=8, max_overflow=8)
    try:
        with storing(name):
            _migrate(engine, name, create)
    except BaseException:
        engine.dispose()
        raise
    return engine


def for_writing(engine: Engine) -> Engine:
    """The same database for transactions that write, one after the other: see `begin_writing`."""
    return engine.execution_options(tongtu_writes=True)


def for_reading(engine: Engine) -> Engine:
    """The same database for single questions, without the cost of a transaction around each."""
    return engine if engine.dialect.name == "sqlite" else engine.execution_options(isolation_level="AUTOCOMMIT")


def begin_writing(connection: Connection) -> None:
    """Wait until no other writer is at work, in this process or another.

    SQLite has one writer by its nature. On PostgreSQL a lock to the end of the transaction makes it so: numbers of events then appear
    in their order, so that a reader who remembers the last one misses none, and writers of the same keys cannot lock each other out.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT set_config('lock_timeout', '{_PATIENCE}s', true), pg_advisory_xact_lock({_LOCK})")


def sql(connection: Connection, statement: str) -> str:
    """A statement with "?" for its parameters, as this database's driver wants it."""
    return statement.replace("?", "%s") if connection.dialect.name == "postgresql" else statement


@contextmanager
def storing(name: str) -> Iterator[None]:
    """Turn a database's errors into one line with a remedy. `name` is the store's address without its password."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        raise StorageError(f"the store {name}: {_meaning(error)}") from error
    except SQLAlchemyError as error:
        raise StorageError(f"the store {name} cannot be used: {_first_line(error)}") from error


_MEANINGS = {
    "disk is full": "no room left: free some disk space; what was acknowledged before is unchanged",
    "disk I/O error": "the disk cannot be read or written: check it and the space left; what was acknowledged before is unchanged",
    "readonly": "not allowed to write: change its permissions or choose another --store",
    "unable to open": "cannot be opened: check the path and its permissions, or choose another --store",
    "is locked": f"another program has been writing for {_PATIENCE} s: wait for it, or stop it",
    "lock timeout": f"another program has been writing for {_PATIENCE} s: wait for it, or stop it",
    "not a database": "is not a database: choose another --store",
    "malformed": "is damaged: put back a copy, or choose another --store",
    "already exists": "holds tables of an unfinished or foreign store: choose another --store",
    "password authentication": "the server refuses the user or the password: check --store",
    "does not exist": "is not there: create the database, or check --store",
    "permission denied": "the server does not let this user do that: grant the right, or check --store",
}


def _meaning(error: DBAPIError | sqlite3.Error) -> str:
    told = _first_line(error.orig if isinstance(error, DBAPIError) and error.orig is not None else error)
    for part, meaning in _MEANINGS.items():
        if part in told:
            return meaning
    return f"{told}: check that its server runs and can be reached" if "connect" in told else told


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _place_file(path: Path, name: str, create: bool) -> None:
    if path.is_dir():
        raise StorageError(f"the store {name} is a folder: name a file, as in sqlite:///{path}/tongtu.db")
    if path.exists():
        return
    if not create:
        raise StorageError(f"there is no store {name}: check --store, or make one with: tongtu serve --store {name}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # What people did is nobody else's business; SQLite gives its other files the same rights.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    # Transactions are begun and ended by us alone. The system's cache of files serves every connection; their own are small.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "cache_size=-4000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get("tongtu_writes"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(engine: Engine, name: str, create: bool) -> None:
    with for_reading(engine).connect() as connection:
        found = _revision(connection)
    if found == REVISIONS[-1]:
        return
    if found is None and not create:
        raise StorageError(f"{name} holds no store: check --store, or make one with: tongtu serve --store {name}")
    if found is not None and found not in REVISIONS:
        raise StorageError(f"the store {name} was made by a newer Tongtu (its schema is {found}, this one knows {REVISIONS[-1]}): install that one")
    from alembic import command
    from alembic.config import Config

    with for_writing(engine).begin() as connection:
        begin_writing(connection)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    """The schema that is there, or None without one."""
    if not connection.dialect.has_table(connection, VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return None if found is None else str(found)
