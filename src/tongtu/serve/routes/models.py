"""Models over HTTP: which are served, put in, rolled back, and how traffic is split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tongtu.serve.answers import ModelList, ModelOut, TrafficOut
from tongtu.serve.problems import Problem
from tongtu.serve.routes.parts import NameInPath, asked, gives, json, problems, service_of, takes
from tongtu.serve.schemas import InstallBody, TrafficBody
from tongtu.serve.service import Service

router = APIRouter(tags=["models"])


def _documented(body: Any, answer: Any, description: str) -> dict[str, Any]:
    told = takes(body, 404, 409)
    return {**told, "responses": {**gives(answer, description), **told["responses"]}}


@router.get("/v1/models", summary="List models", responses={**gives(ModelList, "The models that are served."), **problems()})
async def models(request: Request) -> Response:
    """Every model by its name, with the version that answers now."""
    service = service_of(request)
    return json({"models": [_shown(service, name) for name in service.registry.names()]})


@router.get("/v1/models/{name}", summary="One model", responses={**gives(ModelOut, "The model."), **problems(404)})
async def model(request: Request, name: NameInPath) -> Response:
    """One model."""
    service = service_of(request)
    _known(service, name)
    return json(_shown(service, name))


@router.post("/v1/models/{name}", summary="Put a model in", **_documented(InstallBody, ModelOut, "The model answers from now on."))
async def install(request: Request, name: NameInPath) -> Response:
    """Open a model folder and let it answer under this name. Where that fails, nothing changes; the version before is kept for a roll-back."""
    body, service = await asked(request, InstallBody), service_of(request)
    path = _allowed(service, body.path)
    await service.install(name, path)
    return json(_shown(service, name))


@router.post(
    "/v1/models/{name}/rollback", summary="Roll a model back", responses={**gives(ModelOut, "The version before answers again."), **problems(404, 409)}
)
async def rollback(request: Request, name: NameInPath) -> Response:
    """Return to the version before, which is still open. Rolling back again returns to the newer one."""
    service = service_of(request)
    _known(service, name)
    if service.registry.previous(name) is None:
        raise Problem(409, f"the model {name} has no version before this one")
    await service.registry.rollback(name)
    service.tidy()
    return json(_shown(service, name))


@router.delete("/v1/models/{name}", summary="Take a model out", responses={**gives(ModelList, "The models that are left."), **problems(404, 409)})
async def remove(request: Request, name: NameInPath) -> Response:
    """Serve a model no longer. Its folder stays. The last model stays."""
    service = service_of(request)
    _known(service, name)
    if len(service.registry.names()) == 1:
        raise Problem(409, f"{name} is the only model: put another one in first")
    await service.registry.remove(name)
    service.tidy()
    return json({"models": [_shown(service, left) for left in service.registry.names()]})


@router.put("/v1/traffic", summary="Split traffic", **_documented(TrafficBody, TrafficOut, "Traffic is split like this."))
async def traffic(request: Request) -> Response:
    """Who answers those who ask for no model by name; a shadow is asked too, without its answer being given."""
    body, service = await asked(request, TrafficBody), service_of(request)
    for name in (*body.split, *(() if body.shadow is None else (body.shadow.model,))):
        _known(service, name)
    if abs(sum(body.split.values()) - 1) > 1e-6:
        raise Problem(422, f"split: the shares sum to {sum(body.split.values()):g} and must sum to 1")
    shadow = None if body.shadow is None else body.shadow.model_dump()
    await service.registry.set_traffic(dict(body.split), shadow, body.salt)
    return json({"split": dict(body.split), "shadow": shadow})


def _known(service: Service, name: str) -> None:
    if name not in service.registry.names():
        raise Problem(404, f"no model is named {name}")


def _shown(service: Service, name: str) -> dict[str, Any]:
    registry = service.registry
    facts = registry.facts(registry.pick(None, name))
    return {
        "name": name,
        "version": facts.version,
        "previous": registry.previous(name),
        "system": facts.system,
        "items": facts.items,
        "can": sorted(facts.can),
        "language_model": facts.language_model,
        "path": Path(facts.path).name,
        "loaded_at": registry.loaded_at(name),
        "share": registry.share(name),
        "shadow": registry.shadow_share(name),
    }


def _allowed(service: Service, path: str) -> Path:
    """A folder below one that models may come from; links are followed first, so that none leads elsewhere."""
    roots = service.model_roots
    for root in roots:
        found = (root / path).resolve()
        if found != root and found.is_relative_to(root):
            if not found.is_dir():
                raise Problem(422, "path: there is no such folder")
            return found
    raise Problem(422, "path: models may only come from the folders that the service was started with (models_root)")
