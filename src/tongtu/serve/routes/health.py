"""How the service is: for orchestrators, Prometheus and the dashboard."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tongtu.serve.answers import Health
from tongtu.serve.problems import Problem
from tongtu.serve.routes.parts import gives, json, problems, service_of
from tongtu.serve.service import Service

router = APIRouter(tags=["health"])
_PATIENCE = 1.0


@router.get("/health/live", summary="Alive?", responses=gives(Health, "The process answers."))
async def live(request: Request) -> Response:
    """Answers as long as the process does, whatever its workers are doing."""
    return json({"status": "alive", "reasons": []})


@router.get("/health/ready", summary="Ready?", responses={**gives(Health, "It takes questions."), **gives(Health, "It does not, and why.", 503)})
async def ready(request: Request) -> Response:
    """Whether to send questions here: not while models are loaded, while it is being stopped, or without its store or a worker."""
    reasons = await _reasons(service_of(request))
    return json({"status": "not ready" if reasons else "ready", "reasons": reasons}, 503 if reasons else 200, {"Retry-After": "1"} if reasons else None)


async def _reasons(service: Service) -> list[str]:
    reasons = []
    if service.draining:
        reasons.append("it is being stopped")
    if not service.warm:
        reasons.append("models are being loaded")
    elif not service.engine.ready():
        reasons.append("no worker is ready")
    try:
        async with asyncio.timeout(_PATIENCE):
            if not await service.store.ready():
                reasons.append("the store does not answer")
    except Exception:
        reasons.append("the store does not answer")
    return reasons


@router.get(
    "/metrics", summary="Metrics", response_class=Response, responses={200: {"description": "For Prometheus.", "content": {"text/plain": {}}}, **problems()}
)
async def metrics(request: Request) -> Response:
    """Requests, latencies by route, the queue, workers, model versions and events."""
    service = service_of(request)
    engine = {f"{kind}_{name}": value for kind, figures in service.engine.busy().items() for name, value in figures.items()}
    figures = {**engine, "in_hand": service.admission.inside, "ready": int(service.warm and not service.draining)}
    return Response(service.telemetry.exposition(figures), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/stats", summary="Figures", responses={200: {"description": "Figures for a dashboard.", "model": dict[str, Any]}, **problems()})
async def stats(request: Request) -> Response:
    """Requests by route and status, latencies, events of the last hour, what the store holds, models, workers, and how far a shadow agrees."""
    service = service_of(request)
    counts = await service.store.call(service.store.sync.counts)
    held = {"users": counts.users, "items": counts.items, "events": counts.events}
    models = {name: service.registry.pick(None, name) for name in service.registry.names()}
    engine = {name: value for name, value in service.engine.busy().items()}
    return json({**service.telemetry.summary(), "store": held, "events_per_minute": list(counts.minutes), "models": models, "engine": engine})


@router.get(
    "/v1/report", summary="The comparison", responses={200: {"description": "results.json of `tongtu compare`.", "model": dict[str, Any]}, **problems(404)}
)
async def report(request: Request) -> Response:
    """The comparison that the service was given, to show beside what it serves."""
    service = service_of(request)
    if service.report is None:
        raise Problem(404, "no comparison was given: start the service with --report RESULTS")
    return Response(service.report, media_type="application/json")
