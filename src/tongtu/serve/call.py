"""One request on its way through the service."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Self

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_HARMLESS = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_SOON = 0.05  # most answers are there before it is worth watching for the client


class Call:
    """What is known of a request: its id, when it came, whose key it carries, and what has become of it.

    Attributes:
        id: The client's X-Request-ID where that is harmless, else one of ours.
        began: When it came, on the event loop's clock.
        headers: The request's headers by name in small letters.
        key, scopes: Name of the key, and what it may do; no key has the name "".
        client: Address of the client.
        route: What it is counted under.
        status: That of the answer, 0 before there is one.
        left: Whether the client is gone.
    """

    __slots__ = ("began", "client", "headers", "id", "key", "left", "route", "scopes", "status")

    def __init__(self, scope: MutableMapping[str, Any], began: float) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.headers.get(b"x-request-id", b"")
        self.id = given.decode("ascii") if _HARMLESS.fullmatch(given) else os.urandom(8).hex()
        self.began = began
        client = scope.get("client")
        self.client = client[0] if client else ""
        self.key, self.scopes = "", frozenset[str]()
        self.route, self.status, self.left = "other", 0, False


class Attention:
    """While it is open, a client that leaves cancels the task that works for it; `Call.left` tells so.

    It takes over `receive`, so the body must have been read.
    """

    __slots__ = ("_call", "_receive", "_task", "_timer", "_watch")

    def __init__(self, call: Call, receive: Receive) -> None:
        self._call, self._receive = call, receive
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(_SOON, self._begin)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()

    def _begin(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._task is not None:
            self._call.left = True
            self._task.cancel()
