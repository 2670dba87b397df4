"""How much may come at once: bytes of a body, requests of a key, questions in hand."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from tongtu.serve.call import Call, Message, Receive
from tongtu.serve.problems import Problem, busy, of_validation, over

Asked = TypeVar("Asked", bound=BaseModel)
_REMEMBERED = 10_000  # keys or addresses whose rate is remembered


async def read_body(call: Call, receive: Receive, limit: int, until: float) -> bytes:
    """A whole body, counted as it comes, so that nobody fills the memory by leaving its length untold.

    Args:
        call: The request.
        receive: Where the body comes from.
        limit: Most bytes.
        until: When to give up on a client that sends too slowly, on the event loop's clock.

    Raises:
        Problem: 413 above the limit, 408 for a body that does not come, 415 for anything but JSON.
    """
    kind = call.headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
    if kind != b"application/json":
        raise Problem(415, "the body must be JSON: send Content-Type: application/json")
    if call.headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Problem(415, "compressed bodies are not taken: send the JSON as it is")
    told = call.headers.get(b"content-length", b"")
    if told.isdigit() and (len(told) > 18 or int(told) > limit):
        raise over("body", limit, 413, " bytes")
    message = await _next(receive, until)
    body: bytes = message.get("body", b"")
    if len(body) <= limit and not message.get("more_body", False):
        return body
    parts, size = [body], len(body)
    while message.get("more_body", False) and size <= limit:
        message = await _next(receive, until)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    if size > limit:
        raise over("body", limit, 413, " bytes")
    return b"".join(parts)


async def _next(receive: Receive, until: float) -> Message:
    try:
        async with asyncio.timeout_at(until):
            message = await receive()
    except TimeoutError:
        raise Problem(408, "the body did not come within the deadline: send it faster", headers={"Connection": "close"}) from None
    if message["type"] == "http.disconnect":
        raise asyncio.CancelledError
    return message


def parse(kind: type[Asked], body: bytes) -> Asked:
    """A body as what it should be.

    Raises:
        Problem: 400 for what is no JSON, 422 for JSON of another shape, naming the place and the limit.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise of_validation(error) from None


class Rates:
    """Requests a second by key: each has a bucket that holds a second's worth and fills as time goes."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self.rate, self.clock = rate, clock
        self.burst = max(1.0, rate)
        self.buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str) -> None:
        """Take one request out of somebody's bucket.

        Raises:
            Problem: 429 if it is empty, with when to come back.
        """
        if not self.rate:
            return
        now = self.clock()
        left, then = self.buckets.pop(who, (self.burst, now))
        left = min(self.burst, left + (now - then) * self.rate)
        self.buckets[who] = (left - 1, now) if left >= 1 else (left, now)
        if len(self.buckets) > _REMEMBERED:
            self.buckets.popitem(last=False)
        if left < 1:
            problem = busy((1 - left) / self.rate, 429, f"more than {self.rate:g} requests a second")
            problem.limit = {"name": "rate", "value": self.rate}
            raise problem


class Admission:
    """How many requests are in hand. Whoever comes beyond the limit is sent away before any work is done for them."""

    def __init__(self, most: int) -> None:
        self.most, self.inside = most, 0

    def enter(self) -> None:
        """Take one in.

        Raises:
            Problem: 503 if there are too many, with when to come back.
        """
        if self.inside >= self.most:
            raise busy(1.0)
        self.inside += 1

    def leave(self) -> None:
        """One is answered."""
        self.inside -= 1
