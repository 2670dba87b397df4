"""Documents in a model's order, in the shape that clients of Cohere's and Jina's rerank endpoints send."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tongtu.serve.answers import RerankAnswer
from tongtu.serve.call import Attention
from tongtu.serve.problems import Problem
from tongtu.serve.routes.parts import asked, call_of, gives, json, service_of, takes
from tongtu.serve.schemas import Document, RecommendRequest, RerankRequest
from tongtu.serve.service import Service

router = APIRouter(tags=["rerank"])
_TOLD = takes(RerankRequest, 404)


@router.post(
    "/v1/rerank",
    summary="Rank documents",
    openapi_extra=_TOLD["openapi_extra"],
    responses={**gives(RerankAnswer, "Documents, best first."), **_TOLD["responses"]},
)
async def rerank(request: Request) -> Response:
    """Order documents that name items of the catalogue, by id or by title or text, for a user, a history and a query."""
    body, service, call = await asked(request, RerankRequest), service_of(request), call_of(request)
    facts = service.facts(body.user, body.model)
    until = service.until(call, facts)
    with Attention(call, request.receive):
        async with asyncio.timeout_at(until):
            ids = await _ids(service, body.documents)
            distinct = list(dict.fromkeys(ids))
            wish = body.query.strip() or None
            put = await service.question(
                RecommendRequest(user=body.user, history=body.history, wish=wish, candidates=distinct, exclude_seen=False, k=len(distinct))
            )
            answer = await service.engine.recommend(facts.version, put, until)
    score = dict(zip(answer.items, answer.scores, strict=True))
    place = {item: rank for rank, item in enumerate(answer.items)}
    order = sorted(range(len(ids)), key=lambda index: (place.get(ids[index], len(ids)), index))
    relevance = _stretched(score)
    results: list[dict[str, Any]] = []
    for index in order[: body.top_n or len(order)]:
        row: dict[str, Any] = {"index": index, "relevance_score": relevance.get(ids[index], 0.0)}
        results.append(row | ({"document": _document(body.documents[index])} if body.return_documents else {}))
    return json({"id": call.id, "model": facts.name, "results": results, "usage": {"total_tokens": 0, "search_units": 1}})


async def _ids(service: Service, documents: Sequence[str | Document]) -> list[str]:
    """The catalogue's id of each document.

    Raises:
        Problem: If one names no item.
    """
    named = [document.id or document.text if isinstance(document, Document) else document for document in documents]
    short = [name for name in dict.fromkeys(named) if 0 < len(name) <= 512]
    known = {id for id, item in (await service.catalogue.items(short)).items() if item is not None}
    found: list[str] = []
    for index, (name, document) in enumerate(zip(named, documents, strict=True)):
        words = document.text if isinstance(document, Document) else document
        id = name if name in known else await service.catalogue.id_of_text(words)
        if id is None:
            raise Problem(422, f"documents.{index}: it names no item of the catalogue, by id, title or text: write it with PUT /v1/items first")
        found.append(id)
    return found


def _stretched(score: dict[str, float]) -> dict[str, float]:
    if not score:
        return {}
    low, high = min(score.values()), max(score.values())
    return {item: 1.0 if high == low else round((value - low) / (high - low), 6) for item, value in score.items()}


def _document(document: str | Document) -> dict[str, Any]:
    return {"text": document} if isinstance(document, str) else document.model_dump(exclude_none=True)
