"""The one thread that writes. Whatever waits when it is free goes to disk in one transaction, so that many writers share one sync."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from tongtu.errors import StorageError
from tongtu.serve.store.checking import EventRow
from tongtu.serve.store.inserting import insert_events
from tongtu.serve.store.opening import begin_writing, for_reading, for_writing, storing

T = TypeVar("T")

_ONE_GROUP = 5_000
"""Events written in one transaction, more only if one call brings them."""
_WAITING = 100_000
"""Events and other jobs that may wait."""
_FOR_ALL = (OperationalError, InterfaceError, sqlite3.OperationalError)
"""What keeps every job from being written; anything else is the fault of one."""


class StoreBusy(StorageError):
    """More waits to be written than the store can hold; nothing of the call was written."""


@dataclass
class _Job:
    future: Future[Any]
    rows: Sequence[EventRow] = ()
    work: Callable[[Connection], Any] | None = None
    scrub: bool = False

    @property
    def size(self) -> int:
        return len(self.rows) or 1


class Writer:
    """Writes what it is given, in order; each job is written whole or not at all, and is on disk when its future has a result.

    Args:
        engine: The database.
        name: What to call it in errors.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._database, self._engine, self._name = engine, for_writing(engine), name
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="tongtu-store-writer", daemon=True)
        self._thread.start()

    def add_events(self, rows: Sequence[EventRow]) -> Future[list[bool]]:
        """Write events; the result says of each whether it is new."""
        return self._put(_Job(Future(), rows=rows))

    def submit(self, work: Callable[[Connection], T], scrub: bool = False) -> Future[T]:
        """Call `work` inside a transaction.

        Args:
            work: May be called again from the start where others failed beside it.
            scrub: Whether what it deletes must leave no trace in the database's files.
        """
        return self._put(_Job(Future(), work=work, scrub=scrub))

    def close(self) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _put(self, job: _Job) -> Future[Any]:
        with self._changed:
            if self._closed:
                raise StorageError(f"the store {self._name} has been closed: open it again")
            if self._waiting and self._waiting + job.size > _WAITING:
                raise StoreBusy(f"{self._waiting} events are waiting for the store {self._name} already: try again in a moment")
            self._waiting += job.size
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def _run(self) -> None:
        while group := self._next_group():
            # A caller who has given up before its turn gets nothing written.
            wanted = [job for job in group if job.future.set_running_or_notify_cancel()]
            if wanted:
                self._write(wanted)

    def _next_group(self) -> list[_Job]:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            group: list[_Job] = []
            size = 0
            while self._jobs and (not group or size + self._jobs[0].size <= _ONE_GROUP):
                group.append(self._jobs.popleft())
                size += group[-1].size
            self._waiting -= size
            return group

    def _write(self, group: list[_Job]) -> None:
        try:
            results = self._transaction(group)
        except Exception as error:
            if len(group) == 1 or isinstance(error.__cause__, _FOR_ALL):
                for job in group:
                    job.future.set_exception(error)
            else:
                for job in group:
                    self._write([job])
        else:
            for job, result in zip(group, results, strict=True):
                job.future.set_result(result)

    def _transaction(self, group: list[_Job]) -> list[Any]:
        with storing(self._name):
            try:
                results = self._attempt(group)
            except DBAPIError as error:
                # The server was restarted since the last time. Once a commit was sent nobody knows whether it was done: then the caller
                # must decide.
                if not error.connection_invalidated or error.statement is None:
                    raise
                results = self._attempt(group)
        if any(job.scrub for job in group):
            self._scrub()
        return results

    def _scrub(self) -> None:
        """Empty SQLite's log, which still holds what was deleted. While somebody reads it stays, until there is room for new events in it."""
        if self._engine.dialect.name == "sqlite":
            with suppress(DBAPIError), for_reading(self._database).connect() as connection:
                patience = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
                for pragma in ("busy_timeout=200", "wal_checkpoint(TRUNCATE)", f"busy_timeout={patience}"):
                    connection.exec_driver_sql(f"PRAGMA {pragma}")

    def _attempt(self, group: list[_Job]) -> list[Any]:
        with self._engine.begin() as connection:
            begin_writing(connection)
            return [result for part in _in_parts(group) for result in _written(connection, part)]


def _in_parts(group: list[_Job]) -> list[list[_Job]]:
    """Neighbours that bring events go together."""
    parts: list[list[_Job]] = []
    for job in group:
        if parts and job.work is None and parts[-1][-1].work is None:
            parts[-1].append(job)
        else:
            parts.append([job])
    return parts


def _written(connection: Connection, part: list[_Job]) -> list[Any]:
    if (work := part[0].work) is not None:
        return [work(connection)]
    new = iter(insert_events(connection, [row for job in part for row in job.rows]))
    return [[next(new) for _ in job.rows] for job in part]
