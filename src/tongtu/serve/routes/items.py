"""The catalogue over HTTP: search, read, write, and items like one."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tongtu.serve.answers import ItemOut, ItemPage, SimilarAnswer, StoredItem
from tongtu.serve.call import Attention
from tongtu.serve.catalogue import shown
from tongtu.serve.engine.messages import NotPossible
from tongtu.serve.problems import Problem
from tongtu.serve.routes.parts import (
    Cursor,
    ItemId,
    Limit,
    NameInQuery,
    Words,
    after,
    asked,
    call_of,
    cursor_of,
    gives,
    json,
    problems,
    service_of,
    takes,
)
from tongtu.serve.schemas import ItemBody
from tongtu.serve.store.records import Item

router = APIRouter(tags=["items"])
_K = Annotated[int, Query(ge=1, le=1000, description="How many.")]
_Category = Annotated[str | None, Query(max_length=256, pattern=r"^[^\x00]*$", description="A value that one of the item's fields must have.")]


@router.get("/v1/items", summary="Search items", responses={**gives(ItemPage, "Items in the order of their ids."), **problems()})
async def items(request: Request, query: Words = "", category: _Category = None, limit: Limit = 20, cursor: Cursor = None) -> Response:
    """Items whose title, text or id holds the query; all without one. Long texts are whole here."""
    rows, last = await service_of(request).catalogue.page(after(cursor), limit, query.strip(), category or None)
    return json({"items": [shown(item) for item in rows], "next": cursor_of(last)})


@router.get("/v1/items/{id:whole}/similar", summary="Items like one", responses={**gives(SimilarAnswer, "Items, the most similar first."), **problems(404)})
async def similar(request: Request, id: ItemId, k: _K = 10, model: NameInQuery = None) -> Response:
    """Items that the model holds to be close to one."""
    service, call = service_of(request), call_of(request)
    facts = service.facts(None, model)
    if "similar" not in facts.can:
        raise Problem(422, f"the model {facts.name} knows no similar items: ask another")
    until = service.until(call, facts)
    with Attention(call, request.receive):
        async with asyncio.timeout_at(until):
            try:
                answer = await service.engine.similar(facts.version, id, min(k, service.settings.max_k), until)
            except NotPossible as error:
                raise Problem(404, str(error)) from None
            rows = await service.catalogue.shown(answer.items)
    found = [{**item, "score": score, "rank": rank} for rank, (item, score) in enumerate(zip(rows, answer.scores, strict=True), 1)]
    return json({"items": found, "model": facts.name, "version": facts.version, "request_id": call.id})


@router.get("/v1/items/{id:whole}", summary="One item", responses={**gives(ItemOut, "The item."), **problems(404)})
async def item(request: Request, id: ItemId) -> Response:
    """An item, its text whole."""
    found = await service_of(request).catalogue.item(id)
    if found is None:
        raise Problem(404, "no item has this id")
    return json(shown(found))


def _documented() -> dict[str, Any]:
    told = takes(ItemBody, 404)
    return {**told, "responses": {**gives(StoredItem, "The item is stored."), **told["responses"]}}


@router.put("/v1/items/{id:whole}", summary="Write an item", **_documented())
async def put_item(request: Request, id: ItemId) -> Response:
    """Add an item or replace it. Models that read texts can recommend a new one as soon as this is answered."""
    body, service = await asked(request, ItemBody), service_of(request)
    written = Item(id, body.text, body.title, dict(body.fields))
    await service.store.call(service.store.sync.put_items, [written])
    service.catalogue.changed([id])
    return json({"id": id, "recommendable": await service.extend([written]) if body.text else []})
