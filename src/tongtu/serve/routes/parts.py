"""What the routes share: reading a body, writing JSON, describing both."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
from fastapi import Path, Query
from pydantic import BaseModel
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from tongtu.serve.answers import ProblemOut
from tongtu.serve.call import Call
from tongtu.serve.limits import parse, read_body
from tongtu.serve.problems import Problem

if TYPE_CHECKING:
    from tongtu.serve.service import Service

Asked = TypeVar("Asked", bound=BaseModel)

_TEXT = r"^[^\x00]*$"
ItemId = Annotated[str, Path(min_length=1, max_length=512, pattern=_TEXT, description="The item's id, percent-encoded.", examples=["50"])]
UserId = Annotated[str, Path(min_length=1, max_length=512, pattern=_TEXT, description="The user's id, percent-encoded.", examples=["196"])]
NameInPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="What the model is called.", examples=["ease"])]
NameInQuery = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Which model.")]
Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
Cursor = Annotated[str | None, Query(max_length=1024, pattern=r"^[A-Za-z0-9_-]*$", description="`next` of the page before.")]
Words = Annotated[str, Query(max_length=256, pattern=_TEXT, description="Text to look for, without regard to case.")]

_TOLD = {
    400: "Not JSON.",
    401: "A valid key is needed.",
    403: "The key may not do this.",
    404: "There is none of that name or id.",
    408: "The body did not come in time.",
    409: "It cannot be done as things are.",
    413: "The body is too large; the limit is named.",
    415: "The body is not plain JSON.",
    421: "Another host name is asked for.",
    422: "A value is missing, unknown or out of range; the place and the limit are named.",
    429: "The key sends too many requests; see Retry-After.",
    503: "The service has all the work it can take, or is not ready; see Retry-After.",
    504: "No answer within the deadline.",
}


class Whole(Convertor[str]):
    """An id in a path, whatever it holds: slashes, and line breaks too, which the framework's own "path" leaves out."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        """The id."""
        return value

    def to_string(self, value: str) -> str:
        """The id."""
        return value


register_url_convertor("whole", Whole())


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of problems: those of every route, and further ones."""
    always = (400, 401, 403, 421, 422, 429, 503, 504)
    schema = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{ProblemOut.__name__}"}}}
    retry = {"Retry-After": {"description": "Seconds.", "schema": {"type": "string"}}}
    return {
        status: {"description": _TOLD[status], "content": schema} | ({"headers": retry} if status in (429, 503) else {})
        for status in sorted({*always, *statuses})
    }


def takes(kind: type[BaseModel], *further: int) -> dict[str, Any]:
    """A route's documentation of its body and what may be wrong with it."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {"openapi_extra": {"requestBody": body}, "responses": problems(408, 413, 415, *further)}


def gives(kind: type[BaseModel], description: str, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """The documentation of a good answer."""
    return {status: {"description": description, "model": kind}}


def service_of(request: Request) -> Service:
    """The service a request came to."""
    service: Service = request.scope["service"]
    return service


def call_of(request: Request) -> Call:
    """What is known of a request."""
    call: Call = request.scope["call"]
    return call


async def asked(request: Request, kind: type[Asked]) -> Asked:
    """The body of a request.

    Raises:
        Problem: If it is too large, no JSON, or not of this kind.
    """
    service, call = service_of(request), call_of(request)
    return parse(kind, await read_body(call, request.receive, service.settings.max_body, service.until(call)))


def json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer as JSON."""
    return Response(orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS), status, dict(headers) if headers else None, "application/json")


def after(cursor: str | None) -> str | None:
    """The id a page begins behind.

    Raises:
        Problem: If the cursor is none of ours.
    """
    if not cursor:
        return None
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise Problem(422, "cursor: not one that this service gave: use `next` of the page before") from None


def cursor_of(id: str | None) -> str | None:
    """The cursor of the page behind an id."""
    return None if id is None else base64.urlsafe_b64encode(id.encode("utf-8")).decode("ascii").rstrip("=")
