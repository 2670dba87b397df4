"""The store, awaited."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
from sqlalchemy import Connection, event

from tongtu.errors import DataError, StorageError
from tongtu.serve.store import AsyncStore, Event, Store


@pytest.fixture
def awaiting(store: Store) -> Iterator[Callable[[Callable[[AsyncStore], Awaitable[None]]], None]]:
    """Runs a coroutine function with an awaited store, and closes it."""

    async def run(body: Callable[[AsyncStore], Awaitable[None]]) -> None:
        opened = AsyncStore(store)
        try:
            await body(opened)
        finally:
            await opened.close()

    yield lambda body: asyncio.run(run(body))


Run = Callable[[Callable[[AsyncStore], Awaitable[None]]], None]


def test_many_writers_share_commits(awaiting: Run) -> None:
    async def body(store: AsyncStore) -> None:
        commits: list[Connection] = []
        event.listen(store.sync.writer._engine, "commit", commits.append)
        answers = await asyncio.gather(*(store.add_events([Event(f"{n % 7}", f"{n}", n, f"{n % 400}")]) for n in range(500)))
        assert sum(new for (new,) in answers) == 400 and 0 < len(commits) < 50
        assert len((await store.history("3", 999)).items) == sum(n % 7 == 3 for n in range(400))
        assert (await store.histories(["3"], 1))["3"].times == (395,)
        assert (await store.call(store.sync.events, limit=3))[2].event.item == "2"

    awaiting(body)


def test_errors_reach_the_one_who_asked(awaiting: Run) -> None:
    async def body(store: AsyncStore) -> None:
        with pytest.raises(DataError):
            await store.add_events([Event("", "x", 1)])
        assert await store.ready()
        await store.call(store.sync.close)
        with pytest.raises(StorageError):
            await store.add_events([Event("ann", "x", 1)])

    awaiting(body)


def test_who_stops_waiting_in_time_wrote_nothing(awaiting: Run) -> None:
    async def body(store: AsyncStore) -> None:
        go = threading.Event()

        def wait(_connection: Connection) -> bool:
            return go.wait(60)

        held = asyncio.wrap_future(store.sync.writer.submit(wait))
        await asyncio.sleep(0.2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.add_events([Event("ann", "tea", 1)]), 0.05)
        # Nor do those who write a user or an item keep others from reading meanwhile.
        writing = [asyncio.ensure_future(store.call(store.sync.put_users, [(f"user {n}", {})])) for n in range(20)]
        await asyncio.sleep(0.05)
        assert (await asyncio.wait_for(store.history("ann", 9), 20)).items == ()
        go.set()
        assert await held and await asyncio.gather(*writing) == [None] * 20
        assert (await store.call(store.sync.counts)).users == 20
        assert await store.add_events([Event("ann", "cup", 1)]) == [True]
        assert (await store.history("ann", 9)).items == ("cup",)

    awaiting(body)


def test_keys_are_known_for_a_second(awaiting: Run, store_url: str) -> None:
    async def body(store: AsyncStore) -> None:
        assert not await store.has_keys()
        with Store.open(store_url) as elsewhere:
            secret = elsewhere.add_key("shop", ["read"])
            until = time.monotonic() + 30
            while await store.find_key(secret) is None:
                assert time.monotonic() < until
                await asyncio.sleep(0.1)
            assert await store.has_keys() and await store.find_key(secret + "x") is None
            elsewhere.revoke_key("shop")
            await asyncio.sleep(1.05)
            assert await store.find_key(secret) is None

    awaiting(body)
