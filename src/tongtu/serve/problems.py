"""What goes wrong, told as application/problem+json (RFC 9457): one status, one sentence, and the limit where one was passed."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import ValidationError

from tongtu.errors import DataError, ModelError, StorageError, TongtuError
from tongtu.serve.engine.messages import DeadlineExceeded, ModelFailed, NotPossible, Overloaded, UnknownVersion, WorkerLost
from tongtu.serve.store.writer import StoreBusy

MEDIA = b"application/problem+json"
_SHOWN = 5  # mistakes of one body that are told
_BOUNDS = ("le", "lt", "ge", "gt", "max_length", "min_length")
_TOO_BIG = {"less_than_equal", "less_than", "too_long", "string_too_long"}


class Problem(Exception):
    """An answer that is no 2xx.

    Attributes:
        status: The HTTP status.
        detail: One sentence for people.
        limit: The limit that was passed: {"name", "value"}.
        headers: Further headers ("Retry-After").
        more: Further members of the body.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        limit: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.limit = status, detail, limit
        self.headers, self.more = dict(headers or {}), dict(more or {})

    def body(self, instance: str, request_id: str) -> bytes:
        """The body, as JSON."""
        title = HTTPStatus(self.status).phrase
        told: dict[str, Any] = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        told |= {"instance": _sound(instance), "request_id": request_id}
        if self.limit is not None:
            told["limit"] = dict(self.limit)
        return orjson.dumps(told | self.more)


def over(name: str, limit: int, status: int = 422, unit: str = "") -> Problem:
    """The problem of what passes a limit, which it names."""
    return Problem(status, f"{name} is above the limit of {limit:,}{unit}: send less at once", {"name": name, "value": limit})


def busy(seconds: float, status: int = 503, detail: str = "the service has all the work it can take") -> Problem:
    """Too much at once: when to come back."""
    wait = max(1, round(seconds + 0.49))
    return Problem(status, f"{detail}: try again in {wait} s", headers={"Retry-After": str(wait)})


def problem_of(error: Exception) -> Problem | None:
    """The problem that an error of ours amounts to; None for one nobody foresaw."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Overloaded):
        return busy(error.retry_after)
    if isinstance(error, (DeadlineExceeded, TimeoutError)):
        return Problem(504, "no answer within the deadline; the work on it was given up: ask for less, or try again later")
    if isinstance(error, WorkerLost):
        return busy(1.0, detail="the process that worked on it was lost")
    if isinstance(error, ModelFailed):
        return Problem(500, _line(error))
    if isinstance(error, StoreBusy):
        return busy(1.0, detail="more waits to be written than the store can hold")
    if isinstance(error, StorageError):
        return busy(5.0, detail="the store does not answer")
    if isinstance(error, UnknownVersion):
        return Problem(404, _line(error))
    if isinstance(error, (NotPossible, ModelError, DataError)):
        return Problem(422, _line(error))
    return Problem(422, _line(error)) if isinstance(error, TongtuError) else None


def of_validation(error: ValidationError) -> Problem:
    """What is wrong with a body: the first few mistakes, each with its place, and the limit if the first is one."""
    mistakes = error.errors(include_url=False, include_input=False)
    told = [{"at": _place(mistake["loc"]), "message": _sound(str(mistake["msg"]).removeprefix("Value error, "))} for mistake in mistakes[:_SHOWN]]
    first = mistakes[0]
    detail = f"{told[0]['at']}: {told[0]['message']}" if told[0]["at"] else str(told[0]["message"])
    context = first.get("ctx") or {}
    bound = next((context[name] for name in _BOUNDS if name in context), None)
    limit = {"name": told[0]["at"], "value": bound} if first["type"] in _TOO_BIG and isinstance(bound, int | float) else None
    status = 400 if first["type"] == "json_invalid" else 422
    return Problem(status, detail, limit, more={"errors": told})


def _place(location: tuple[int | str, ...]) -> str:
    return _sound(".".join(str(part) for part in location)[:200])


def _line(error: Exception) -> str:
    return _sound(" ".join(str(error).split()))


def _sound(text: str) -> str:
    """Text that UTF-8 can hold, whatever was sent."""
    return text.encode("utf-8", "replace").decode("utf-8")
