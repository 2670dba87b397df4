"""Running the service: the port, the signals, and an end that drops nobody."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from types import FrameType
from typing import Any

import uvicorn

from tongtu.errors import ConfigError, TongtuError
from tongtu.serve.app import create_app
from tongtu.serve.gate import Gate
from tongtu.serve.service import Service
from tongtu.serve.settings import ServeSettings, named_models
from tongtu.serve.telemetry import open_logs

_BACKLOG = 2048
_KEEP_ALIVE = 30
_LATE = 0.5  # seconds that a new connection has to bring its request
_CLEARING = 2.0  # seconds that workers and store may take to close
_LAST_WORDS = 4.0  # seconds before the end of the drain at which what still streams is told to stop


def run(settings: ServeSettings) -> int:
    """Serve until a signal comes; the exit status.

    Args:
        settings: How.

    Raises:
        TongtuError: If the service cannot be started: a setting, the store, the port or a model is at fault.
    """
    app = create_app(settings, open_logs(settings.logs))
    sock = bound(settings.host, settings.port)
    server = Server(app, settings)
    _greet(app.service, sock)
    server.run(sockets=[sock])
    failed = app.service.failed
    if isinstance(failed, TongtuError):
        raise failed
    return 0 if failed is None else 1


class Server(uvicorn.Server):
    """Uvicorn, with an end in three steps: not ready but answering, then no new connections, then what is left is told to stop.

    The first step gives balancers the time to learn of it, and clients with open connections an answer that says they are closed, so that
    no request is on its way into a connection that goes away.
    """

    def __init__(self, app: Gate, settings: ServeSettings) -> None:
        self.service = app.service
        self.linger = min(settings.linger, settings.drain / 2)
        self.drain = settings.drain
        self._stopping: float | None = None
        left = max(1, int(settings.drain - self.linger - _CLEARING))
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                loop="uvloop",
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=left,
            )
        )
        self.service.on_failure = self._fail

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second Ctrl-C ends at once."""
        if self._stopping is not None and sig == signal.SIGINT:
            self.force_exit = self.should_exit = True
            return
        self.service.draining = True
        if self._stopping is None:
            self._stopping = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Uvicorn's clock: whether it is time to take no more connections."""
        if self._stopping is not None and not self.should_exit:
            self.should_exit = not self.service.warm or time.monotonic() - self._stopping >= self.linger
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Uvicorn's end, with a word to the streams before its patience is over."""
        begun = self._stopping if self._stopping is not None else time.monotonic()
        left = begun + self.drain - _LAST_WORDS - time.monotonic()
        word = asyncio.get_running_loop().call_later(max(0.0, left), self.service.ending.set)
        self.service.log("stopping", connections=len(self.server_state.connections))
        await self._take_last(sockets or [])
        await super().shutdown(sockets)
        word.cancel()
        self.service.log("stopped", seconds=round(time.monotonic() - begun, 2))

    async def _take_last(self, sockets: list[socket.socket]) -> None:
        """Take no more connections; those that are already open, here or in the system's queue, have a moment to bring their request."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            with contextlib.suppress(OSError):
                while True:
                    late, _ = sock.accept()
                    late.setblocking(False)
                    await loop.connect_accepted_socket(self._protocol, late)
        for server in self.servers:
            server.close()
        until = loop.time() + _LATE
        while loop.time() < until and any(getattr(one, "cycle", None) is None for one in self.server_state.connections):
            await asyncio.sleep(0.02)

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        return protocol

    def _fail(self) -> None:
        self.should_exit = True


def bound(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: If there can be none.
    """
    sock: socket.socket | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)  # who comes before the loop runs waits
        sock.setblocking(False)
    except (OSError, UnicodeError) as error:
        if sock is not None:
            sock.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host}:{port} ({reason}): choose another --host or --port (0 takes a free one)") from None
    return sock


def _greet(service: Service, sock: socket.socket) -> None:
    """What is served, where, and who may ask."""
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    base = f"http://{'localhost' if host in ('0.0.0.0', '::') else shown}:{port}"
    models = ", ".join(f"{name} ({folder})" for name, folder in named_models(service.settings).items()) or "those of the last time"
    lines = (
        f"Models    {models}",
        f"Page      {base}/",
        f"Dashboard {base}/dashboard",
        f"API       {base}/docs, described in {base}/openapi.json",
        f"Store     {service.store.sync.name}",
        f"Access    {service.guard.access.why}",
        "Loading the models; Ctrl-C ends.",
    )
    print("\n".join(lines), file=sys.stderr, flush=True)
