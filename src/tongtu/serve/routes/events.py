"""Events over HTTP: on disk before they are acknowledged, and none twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tongtu.serve.answers import Accepted
from tongtu.serve.problems import Problem
from tongtu.serve.routes.parts import asked, call_of, gives, json, service_of, takes
from tongtu.serve.schemas import EventBatch, EventBody
from tongtu.serve.service import Service
from tongtu.serve.store.records import Event

router = APIRouter(tags=["events"])
_LONGEST_KEY = 128


def _documented(body: Any, good: dict[int | str, dict[str, Any]]) -> dict[str, Any]:
    told = takes(body)
    return {**told, "responses": {**good, **told["responses"]}}


_ONE = {**gives(Accepted, "The event was there already."), **gives(Accepted, "The event is on disk.", 201)}


@router.post("/v1/events", status_code=201, summary="Add an event", **_documented(EventBody, _ONE))
async def event(request: Request) -> Response:
    """A user met an item. With a key, in the body or as the header Idempotency-Key, sending it again changes nothing."""
    body = await asked(request, EventBody)
    header = call_of(request).headers.get(b"idempotency-key")
    new = await _add(service_of(request), [body], None if header is None else _key(header))
    return json({"accepted": new, "duplicates": 1 - new}, 201 if new else 200)


@router.post("/v1/events/batch", status_code=201, summary="Add events", **_documented(EventBatch, gives(Accepted, "The events are on disk.", 201)))
async def events(request: Request) -> Response:
    """Up to 1000 events, all taken or none. Those whose keys are there already count as duplicates."""
    body = await asked(request, EventBatch)
    new = await _add(service_of(request), body.events, None)
    return json({"accepted": new, "duplicates": len(body.events) - new}, 201)


async def _add(service: Service, bodies: Sequence[EventBody], key: str | None) -> int:
    now = int(time.time())
    events = [_event(body, now, key) for body in bodies]
    new = sum(await service.store.add_events(events))
    service.histories.changed({body.user for body in bodies})
    service.telemetry.taken(new, len(events) - new)
    return new


def _event(body: EventBody, now: int, key: str | None) -> Event:
    fields = dict(body.fields) if body.rating is None else {**body.fields, "rating": body.rating}
    return Event(body.user, body.item, now if body.time is None else body.time, body.key or key, fields)


def _key(header: bytes) -> str:
    if not 0 < len(header) <= _LONGEST_KEY or not header.isascii() or b"\x00" in header:
        raise Problem(422, f"Idempotency-Key: 1 to {_LONGEST_KEY} ASCII characters", {"name": "Idempotency-Key", "value": _LONGEST_KEY})
    return header.decode("ascii")
