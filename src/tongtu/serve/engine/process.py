"""One worker process as the front sees it: started on a socket of its own, asked by frames, and ended for good."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from tongtu.serve.engine.frames import Frame, Splitter, packed
from tongtu.serve.engine.jobs import Job

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")


class WorkerProcess(asyncio.Protocol):
    """A worker, what it holds and what it does.

    Args:
        lost: Called once when the process is gone, however it went.

    Attributes:
        versions, loading, refused: The models that it has opened, opens just now, and cannot open.
        jobs: What it works on, [] when it is free.
        since: When it began with that, in the loop's time.
    """

    def __init__(self, lost: Callable[[WorkerProcess], None]) -> None:
        self._lost = lost
        self._splitter = Splitter()
        self._transport: asyncio.Transport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: dict[int, tuple[asyncio.Future[Any], Callable[[Frame], None] | None]] = {}
        self._number = 0
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.gone = self._closing = False
        self.versions: set[str] = set()
        self.loading: set[str] = set()
        self.refused: set[str] = set()
        self.jobs: list[Job] = []
        self.since = 0.0
        self.started = time.monotonic()

    async def start(self) -> None:
        """Start the process; `ready` tells when it answers."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "tongtu.serve.engine.worker", str(theirs.fileno()), str(os.getpid())]
            surroundings = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1"), "TOKENIZERS_PARALLELISM": "false"}
            try:
                # In this thread, since a process that ends with its parent ends with the thread that started it.
                self._process = subprocess.Popen(command, env=surroundings, stdin=subprocess.DEVNULL, stdout=2, pass_fds=(theirs.fileno(),))
            except OSError:
                ours.close()
                raise
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid if self._process else 0

    def ask(self, frame: Mapping[str, Any], part: Callable[[Frame], None] | None = None) -> asyncio.Future[Any]:
        """Send a frame; the future gets what is answered, or `ConnectionError` when the process goes first."""
        self._number += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._transport is None or self.gone:
            answer.set_exception(ConnectionError("the worker is gone"))
            answer.exception()
            return answer
        self._asked[self._number] = (answer, part)
        self._transport.write(packed({**frame, "id": self._number}))
        return answer

    def kill(self) -> None:
        """End the process now."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._transport is not None:
            self._transport.abort()

    async def close(self, grace: float) -> None:
        """Let the process end by closing its socket, and end it when it does not within `grace` seconds."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()
        until = time.monotonic() + grace
        while self._process is not None and self._process.poll() is None and time.monotonic() < until:
            await asyncio.sleep(0.01)
        self.kill()
        await self.reaped()

    async def reaped(self) -> None:
        """Wait until the system has forgotten the process, which has ended or was killed."""
        if self._process is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._process.wait)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            frames = self._splitter.feed(data)
        except ValueError:
            self.kill()
            return
        for frame in frames:
            self._take(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.gone = True
        if self._process is not None and not self._closing and self._process.poll() is None:
            self._process.kill()  # a worker that closed its socket is of no use, whatever it does
        asked, self._asked = self._asked, {}
        for answer, _ in asked.values():
            if not answer.done():
                answer.set_exception(ConnectionError("the worker is gone"))
                answer.exception()  # nobody may wait for it any more, and that is no mistake
        if not self.ready.done():
            self.ready.set_result(False)
        self._lost(self)

    def _take(self, frame: Frame) -> None:
        if frame.get("ready"):
            if not self.ready.done():
                self.ready.set_result(True)
            return
        if "part" in frame:
            _, part = self._asked.get(frame["id"], (None, None))
            if part is not None:
                part(frame["part"])
            return
        answer, _ = self._asked.pop(frame["id"], (None, None))
        if answer is not None and not answer.done():
            answer.set_result(frame)
