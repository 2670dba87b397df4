"""What the service refuses, as errors that carry its own words.

    ServiceError                the service refuses; `status`, `detail`, `request_id` and everything else it said in `problem`
    ├── NotAllowed              401, 403: no key, a wrong one, or one without the scope
    ├── NotThere                404: no such user, item or model
    ├── Refused                 400, 409, 413, 415, 422: the request cannot be answered as it is
    ├── Busy                    429, 503: not now, and not before the call's deadline; `retry_after`
    ├── TookTooLong             504: the service's own deadline was over
    └── Unreachable             no answer at all

The message is one line with a remedy, as of every error of Tongtu.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from tongtu.errors import TongtuError


class ServiceError(TongtuError):
    """The service refuses.

    Args:
        status: Of HTTP; 0 where there was no answer.
        problem: What it said (problem+json).
        message: The line to show.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], message: str) -> None:
        super().__init__(message)
        self.status, self.problem = status, dict(problem)
        self.detail = str(problem.get("detail") or problem.get("title") or "")
        self.request_id: str | None = problem.get("request_id")


class NotAllowed(ServiceError):
    """No key, a wrong one, or one without the scope."""


class NotThere(ServiceError):
    """No such user, item or model."""


class Refused(ServiceError):
    """The request cannot be answered as it is."""


class Busy(ServiceError):
    """Not now, and not before the call's deadline."""


class TookTooLong(ServiceError):
    """The service's own deadline was over."""


class Unreachable(ServiceError):
    """No answer at all."""

    def __init__(self, url: str, error: Exception) -> None:
        said = str(error) or type(error).__name__
        if isinstance(error, httpx.TimeoutException):
            message = f"{url} gave no answer before the deadline: give the client a longer one, or look at the service's log"
        else:
            message = f"{url} cannot be reached ({said}): check the address and that `tongtu serve` runs there"
        super().__init__(0, {"detail": said}, message)


_KINDS: Mapping[int, type[ServiceError]] = {401: NotAllowed, 403: NotAllowed, 404: NotThere, 429: Busy, 503: Busy, 504: TookTooLong}
_REMEDIES: Mapping[type[ServiceError], str] = {
    NotAllowed: ": give a key of the right scope, or set TONGTU_KEY",
    Busy: ": try again later, or give the client a longer deadline",
    TookTooLong: ": ask for less at once, or try again",
}


def problem_from(status: int, problem: Mapping[str, Any], url: str) -> ServiceError:
    """The error that an answer means."""
    kind = _KINDS.get(status, Refused if 400 <= status < 500 else ServiceError)
    said = str(problem.get("detail") or problem.get("title") or "no reason given")
    asked = problem.get("request_id")
    request = f", request {asked}" if asked else ""
    return kind(status, problem, f"{url} says: {said} (HTTP {status}{request}){_REMEDIES.get(kind, '')}")
