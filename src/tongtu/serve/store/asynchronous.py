"""The store for an event loop: questions run in a few threads, events wait for the writer without a thread each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from tongtu.serve.store import keys
from tongtu.serve.store.records import Event, History, Key
from tongtu.serve.store.store import Store

P = ParamSpec("P")
T = TypeVar("T")

_READERS = 4
_WRITERS = 4
_KEYS_FRESH = 1.0
"""Seconds after which a key that another program revoked no longer fits."""


class AsyncStore:
    """A store whose methods are awaited. `await store.call(store.sync.items, limit=5)` reaches every other method.

    Args:
        store: The store; it is closed with this.
        readers: Threads that ask it.
    """

    def __init__(self, store: Store, readers: int = _READERS) -> None:
        self.sync = store
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="tongtu-store-reader")
        # While the disk hangs those who write wait in threads of their own.
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="tongtu-store-caller")
        self._keys: list[keys.HashedKey] = []
        self._keys_until = 0.0

    async def call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a method of the store, from another thread."""
        threads = self._writers if getattr(method, "writes", False) else self._readers
        return await asyncio.get_running_loop().run_in_executor(threads, lambda: method(*args, **kwargs))

    async def add_events(self, new: Sequence[Event]) -> list[bool]:
        """As `Store.add_events`. Who stops waiting before the writer's turn gets nothing written."""
        return await asyncio.wrap_future(self.sync.start_events(new))

    async def history(self, user: str, last: int) -> History:
        """As `Store.history`."""
        return await self.call(self.sync.history, user, last)

    async def histories(self, users: Sequence[str], last: int) -> dict[str, History]:
        """As `Store.histories`."""
        return await self.call(self.sync.histories, users, last)

    async def find_key(self, secret: str) -> Key | None:
        """As `Store.find_key`, with keys read at most a second ago."""
        return keys.find(await self._known(), secret)

    async def has_keys(self) -> bool:
        """Whether there is any key, as of at most a second ago."""
        return bool(await self._known())

    async def ready(self) -> bool:
        """As `Store.ready`."""
        return await self.call(self.sync.ready)

    async def close(self) -> None:
        """Write what waits, and let go of the database."""
        await self.call(self.sync.close)
        self._readers.shutdown()
        self._writers.shutdown()

    async def _known(self) -> list[keys.HashedKey]:
        if time.monotonic() >= self._keys_until:
            self._keys = await self.call(self.sync.hashed_keys)
            self._keys_until = time.monotonic() + _KEYS_FRESH
        return self._keys
