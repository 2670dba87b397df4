"""A service over small fitted models, with its real store and workers, asked in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tongtu.core import FitOptions
from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import text_world
from tongtu.serve.app import create_app
from tongtu.serve.run import Server, bound
from tongtu.serve.settings import settings_from

T = TypeVar("T")


def fitted(folder: Path) -> tuple[dict[str, Path], Dataset]:
    """Model folders by name, and the data they were fitted on."""
    from tongtu.systems.baselines.ease import EASE
    from tongtu.systems.baselines.popular import Popular
    from tongtu.systems.encoded.textknn import TextKNN

    data = text_world(users=60, items=80, seed=1).data
    systems = {"ease": EASE(EASE.Config()), "popular": Popular(Popular.Config()), "textknn": TextKNN(TextKNN.Config(encoder="hashing"))}
    for name, system in systems.items():
        system.fit(data, FitOptions(quiet=True)).save_pretrained(folder / name)
    return {name: folder / name for name in systems}, data


class Served:
    """A service that runs until it is closed.

    Args:
        settings: What differs from the usual.
    """

    def __init__(self, **settings: Any) -> None:
        self.runner = asyncio.Runner()
        self.gate = create_app(settings_from({"workers": 1, **settings}))
        self.service = self.gate.service
        try:
            self.run(self._start())
        except BaseException:
            self.runner.close()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine gives, on the service's event loop."""
        return self.runner.run(work)

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """One request and its answer."""
        return self.run(self.asking(method, path, body, **more))

    async def asking(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """The same, awaited."""
        if body is not None:
            more["json"] = body
        return await self.client.request(method, path, **more)

    def close(self) -> None:
        """End it."""
        self.run(self._stop())
        self.runner.close()

    async def _start(self) -> None:
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.gate, client=("127.0.0.1", 9)), base_url="http://localhost", timeout=60)
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.life = asyncio.ensure_future(self.gate({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, self.inbox.get, self.outbox.put))
        await self.inbox.put({"type": "lifespan.startup"})
        assert (await self.outbox.get())["type"] == "lifespan.startup.complete"
        failed = asyncio.Event()
        self.service.on_failure = failed.set
        waiting = [asyncio.ensure_future(self.service.began_well.wait()), asyncio.ensure_future(failed.wait())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
        if self.service.failed is not None:
            await self._stop()
            raise self.service.failed

    async def _stop(self) -> None:
        await self.inbox.put({"type": "lifespan.shutdown"})
        await self.life
        await self.client.aclose()


class Listening:
    """A service that listens on a port of its own, run by another thread.

    Args:
        settings: What differs from the usual.
    """

    def __init__(self, **settings: Any) -> None:
        chosen = settings_from({"workers": 1, "port": 0, **settings})
        self.gate = create_app(chosen)
        self.sock = bound(chosen.host, 0)
        self.server = Server(self.gate, chosen)
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}"
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.sock]})
        self.thread.start()
        until = time.monotonic() + 120
        while httpx.get(f"{self.url}/health/ready").status_code != 200:
            assert time.monotonic() < until and self.thread.is_alive()
            time.sleep(0.1)

    def close(self) -> None:
        """End it."""
        self.server.should_exit = True
        self.thread.join()
