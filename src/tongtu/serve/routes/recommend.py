"""Recommendations: one question, several, or one put to several models; and the reasons for them."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tongtu.serve.answers import BatchAnswer, CompareAnswer, ExplainAnswer, RecommendAnswer
from tongtu.serve.asking import causes
from tongtu.serve.call import Attention
from tongtu.serve.routes.parts import asked, call_of, gives, json, service_of, takes
from tongtu.serve.schemas import CompareRequest, ExplainRequest, RecommendBatch, RecommendRequest

router = APIRouter(tags=["recommend"])


def _documented(body: Any, answer: Any, description: str) -> dict[str, Any]:
    told = takes(body, 404)
    return {**told, "responses": {**gives(answer, description), **told["responses"]}}


@router.post("/v1/recommend", summary="Recommend items", **_documented(RecommendRequest, RecommendAnswer, "Items, best first."))
async def recommend(request: Request) -> Response:
    """For a user, for a history that is given, or for nobody in particular. A user's stored events of seconds ago are heeded."""
    body = await asked(request, RecommendRequest)
    call = call_of(request)
    with Attention(call, request.receive):
        return json(await service_of(request).recommend(body, call))


@router.post("/v1/recommend/batch", summary="Recommend to several", **_documented(RecommendBatch, BatchAnswer, "One answer a question, in their order."))
async def recommend_batch(request: Request) -> Response:
    """Up to 100 questions; they fail together."""
    body = await asked(request, RecommendBatch)
    call = call_of(request)
    with Attention(call, request.receive):
        return json({"answers": await service_of(request).recommend_many(body.requests, call)})


@router.post("/v1/compare", summary="Ask several models", **_documented(CompareRequest, CompareAnswer, "One answer a model, and their overlap."))
async def compare(request: Request) -> Response:
    """The same question to up to eight models, side by side."""
    body = await asked(request, CompareRequest)
    call = call_of(request)
    with Attention(call, request.receive):
        return json(await service_of(request).compare(body, call))


@router.post("/v1/explain", summary="Say why", **_documented(ExplainRequest, ExplainAnswer, "One reason an item."))
async def explain(request: Request) -> Response:
    """Which events of the history speak for each item: how far its score falls when the event is left out."""
    body = await asked(request, ExplainRequest)
    call, service = call_of(request), service_of(request)
    facts = service.facts(body.user, body.model)
    until = service.until(call, facts)
    with Attention(call, request.receive):
        async with asyncio.timeout_at(until):
            put = await service.question(RecommendRequest(user=body.user, history=body.history, attributes=body.attributes, k=len(body.items)))
            reasons = await service.reasons(facts, put, body.items, until)
            titles = await service.catalogue.titles(list({*body.items, *(item for reason in reasons for item, _ in reason.because)}))
    rows = [{"item": r.item, "title": titles.get(r.item), "because": causes(r, titles), "text": r.text} for r in reasons]
    return json({"reasons": rows, "model": facts.name, "version": facts.version, "request_id": call.id})
