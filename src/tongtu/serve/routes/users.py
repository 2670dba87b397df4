"""Users over HTTP: read, describe, forget."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tongtu.serve.answers import Deleted, UserOut, UserPage, UserSummary
from tongtu.serve.problems import Problem
from tongtu.serve.routes.parts import Cursor, Limit, UserId, Words, after, asked, cursor_of, gives, json, problems, service_of, takes
from tongtu.serve.schemas import UserBody

router = APIRouter(tags=["users"])
_NEWEST = 50


@router.get("/v1/users", summary="Search users", responses={**gives(UserPage, "Users in the order of their ids."), **problems()})
async def users(request: Request, query: Words = "", limit: Limit = 20, cursor: Cursor = None) -> Response:
    """Users whose id holds the query; all without one."""
    store = service_of(request).store
    page = await store.call(store.sync.users, after(cursor), limit, query.strip() or None)
    return json({"users": [{"id": user.id, "attributes": dict(user.attributes)} for user in page.rows], "next": cursor_of(page.next)})


@router.get("/v1/users/{id:whole}", summary="One user", responses={**gives(UserOut, "The user."), **problems(404)})
async def user(request: Request, id: UserId) -> Response:
    """What is known of a user, and their last 50 events, the newest last."""
    service = service_of(request)
    known = await service.histories.of(id)
    history = known.history
    if known.attributes is None and not history.items:
        raise Problem(404, "no user has this id")
    newest = list(zip(history.items, history.times, history.ratings, strict=True))[-_NEWEST:]
    titles = await service.catalogue.titles([entry[0] for entry in newest])
    rows = [{"item": item, "title": titles.get(item), "time": time, "rating": rating} for item, time, rating in newest]
    events = await service.store.call(service.store.sync.n_events, id)
    return json({"id": id, "attributes": dict(known.attributes or {}), "history": rows, "events": events})


def _documented() -> dict[str, Any]:
    told = takes(UserBody, 404)
    return {**told, "responses": {**gives(UserSummary, "The user is stored."), **told["responses"]}}


@router.put("/v1/users/{id:whole}", summary="Describe a user", **_documented())
async def put_user(request: Request, id: UserId) -> Response:
    """Add a user, or replace what is known of them. Their events stay."""
    body, service = await asked(request, UserBody), service_of(request)
    await service.store.call(service.store.sync.put_users, [(id, dict(body.attributes))])
    service.histories.changed([id])
    return json({"id": id, "attributes": body.attributes})


@router.delete("/v1/users/{id:whole}", summary="Forget a user", responses={**gives(Deleted, "The user is forgotten."), **problems(404)})
async def delete_user(request: Request, id: UserId) -> Response:
    """Delete a user's attributes and events. Models that learnt from them keep what they learnt until they are fitted anew."""
    service = service_of(request)
    removed = await service.store.call(service.store.sync.delete_user, id)
    service.histories.changed([id])
    return json({"id": id, "events": removed})
