"""The outermost part of the service: every request passes it before any work is done for it, and every answer leaves through it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tongtu.serve.call import Call, Message, Receive, Send
from tongtu.serve.limits import Admission
from tongtu.serve.problems import MEDIA, Problem, problem_of
from tongtu.serve.security import HEADERS, scope_for
from tongtu.serve.service import Service

Endpoint = Callable[[Request], Awaitable[Response]]
_CLOSE = (b"connection", b"close")
_GONE = 499  # what is counted for a client that left; nobody reads it
_STORED = ("/v1/events", "/v1/users", "/v1/items")


class Gate:
    """Checks host, origin, key, rate and room, in this order, from the headers alone; then hands on.

    It is no middleware of the framework's: refusing a request must cost next to nothing, since under overload most are refused.

    Args:
        app: Answers what is let in.
        service: Whom it is for.
        direct: Endpoints by method and path that are called without the framework's routing, because they are called most.
    """

    def __init__(self, app: Any, service: Service, direct: Mapping[tuple[str, str], Endpoint]) -> None:
        self.app, self.service, self.direct = app, service, direct

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request; the framework sees what comes before and after them all."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        call = Call(scope, loop.time())
        scope["call"], scope["service"] = call, self.service
        reply = self._replying(call, send)
        room: Admission | None = None
        try:
            if await self._let_in(call, scope):
                wanted = self.service.talks if scope["path"] == "/v1/chat" else self.service.admission
                wanted.enter()
                room = wanted
            await self._answer(call, scope, receive, reply)
        except asyncio.CancelledError:
            if not call.left:
                raise
            call.status = _GONE
        except Exception as error:
            await self._fail(call, scope, reply, error)
        finally:
            if room is not None:
                room.leave()
            self._note(call, scope, loop.time() - call.began)

    async def _let_in(self, call: Call, scope: dict[str, Any]) -> bool:
        """Whether a request takes up room; raises the problem of one that may not come in."""
        service, path = self.service, scope["path"]
        if path.startswith("/health/"):
            return False
        service.guard.check_host(call)
        if not path.startswith("/v1/"):
            if path == "/metrics":
                await service.guard.check_key(call, "read")
            return False
        service.guard.check_origin(call)
        if scope["method"] == "OPTIONS":
            return False
        await service.guard.check_key(call, scope_for(scope["method"], path))
        service.rates.take(call.key or call.client)
        return True

    async def _answer(self, call: Call, scope: dict[str, Any], receive: Receive, reply: Send) -> None:
        direct = self.direct.get((scope["method"], scope["path"]))
        patience = self._patience(call, scope)
        if direct is None:
            async with patience:
                await self.app(scope, receive, reply)
            return
        call.route = scope["path"]
        async with patience:
            response = await direct(Request(scope, receive))
        await response(scope, receive, reply)

    def _patience(self, call: Call, scope: dict[str, Any]) -> Any:
        """What only reads and writes the store has the deadline as a whole; other routes keep their own."""
        path: str = scope["path"]
        if not path.startswith(_STORED) or path.endswith("/similar") or (path.startswith("/v1/items") and scope["method"] == "PUT"):
            return contextlib.nullcontext()
        return asyncio.timeout_at(call.began + self.service.settings.deadline)

    def _replying(self, call: Call, send: Send) -> Send:
        service = self.service

        async def reply(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                headers = [*message.get("headers", ()), *HEADERS, (b"x-request-id", call.id.encode("ascii"))]
                if service.draining:
                    headers.append(_CLOSE)
                message["headers"] = headers
            await send(message)

        return reply

    async def _fail(self, call: Call, scope: dict[str, Any], reply: Send, error: Exception) -> None:
        problem = problem_of(error)
        if problem is None:
            self.service.log("failed", "error", request_id=call.id, method=scope["method"], exc_info=error)
            problem = Problem(500, "something went wrong here: the log tells more under this request id")
        if not call.status:
            await response_of(problem, call, scope)(scope, _nothing, reply)

    def _note(self, call: Call, scope: dict[str, Any], seconds: float) -> None:
        service, route = self.service, scope.get("route")
        if route is not None:
            call.route = getattr(route, "path_format", "other")
        service.telemetry.answered(call.route, call.status, seconds)
        if service.settings.log_requests and scope["path"] != "/health/live" and service.telemetry.worth_a_line(call.status):
            service.log(
                "request",
                request_id=call.id,
                method=scope["method"],
                route=call.route,
                status=call.status,
                ms=round(1000 * seconds, 2),
                **({"key": call.key} if call.key else {}),
            )


def response_of(problem: Problem, call: Call, scope: Mapping[str, Any]) -> Response:
    """A problem as an answer."""
    response = Response(problem.body(scope["path"], call.id), problem.status, media_type=MEDIA.decode("ascii"))
    for name, value in problem.headers.items():
        response.headers[name] = value
    return response


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
