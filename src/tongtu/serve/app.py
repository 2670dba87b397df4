"""The service as an ASGI application: routes, their description, and what happens at the start and the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from tongtu.errors import ConfigError, TongtuError
from tongtu.serve import answers, schemas
from tongtu.serve.gate import Gate, response_of
from tongtu.serve.problems import Problem, problem_of
from tongtu.serve.routes import chat, events, health, items, models, pages, recommend, rerank, users
from tongtu.serve.routes.parts import call_of
from tongtu.serve.security import decide_access
from tongtu.serve.service import Log, Service, no_log
from tongtu.serve.settings import ServeSettings, named_models
from tongtu.serve.starting import close, warm_up
from tongtu.serve.store import AsyncStore, Store

_ROUTERS = (recommend.router, items.router, users.router, events.router, chat.router, rerank.router, models.router, health.router, pages.router)
_DIRECT = {
    ("POST", "/v1/recommend"): recommend.recommend,
    ("POST", "/v1/events"): events.event,
    ("GET", "/health/live"): health.live,
}
_BODIES = (
    schemas.RecommendRequest,
    schemas.RecommendBatch,
    schemas.CompareRequest,
    schemas.ExplainRequest,
    schemas.ItemBody,
    schemas.UserBody,
    schemas.EventBody,
    schemas.EventBatch,
    schemas.ChatRequest,
    schemas.RerankRequest,
    schemas.InstallBody,
    schemas.TrafficBody,
)
_ABOUT = "Next-item recommendations by fitted models: for users, for histories and wishes, with events that count at once. Ids are yours, as you write them."


def create_app(settings: ServeSettings, log: Log = no_log) -> Gate:
    """The application; its models are loaded when it is started.

    Args:
        settings: How it runs.
        log: Writes a line of the log.

    Raises:
        ConfigError: If it would be open to other machines, or a setting cannot be.
        StorageError: If the store cannot be opened.
    """
    folders = named_models(settings)
    report = _report(settings.report)
    store = Store.open(settings.store)
    try:
        access = decide_access(settings, len(store.list_keys()))
    except TongtuError:
        store.close()
        raise
    service = Service(settings, AsyncStore(store), access, log)
    service.report = report
    service.model_roots = _roots(settings, folders)
    # Pages of other sites need headers that only the framework adds.
    return Gate(_framework(service, folders), service, {} if settings.allow_origins else _DIRECT)


def _framework(service: Service, folders: dict[str, Path]) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.beside(warm_up(service, folders))
        yield
        await close(service)

    app = FastAPI(title="Tongtu", version=version("tongtu"), description=_ABOUT, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    for router in _ROUTERS:
        app.include_router(router)
    if pages.WEB.is_dir():
        app.mount("/static", StaticFiles(directory=pages.WEB), name="static")
    for kind in (Problem, TongtuError, TimeoutError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _told)
    app.add_exception_handler(Exception, _unforeseen)
    described = cache(lambda: _openapi(app))
    app.openapi = described  # type: ignore[method-assign]
    origins = service.settings.allow_origins
    return CORSMiddleware(app, allow_origins=origins, allow_methods=["GET", "POST", "PUT", "DELETE"], allow_headers=["*"]) if origins else app


async def _told(request: Request, error: Exception) -> Response:
    """The answer to an error that was foreseen."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        context = first.get("ctx") or {}
        bound = next((context[name] for name in ("le", "ge", "max_length", "min_length") if name in context), None)
        problem = Problem(422, f"{place}: {first['msg']}", None if bound is None else {"name": place, "value": bound})
    elif isinstance(error, HTTPException):
        problem = Problem(error.status_code, str(error.detail), headers=error.headers)
    else:
        problem = problem_of(error) or Problem(500, "something went wrong here")
    return response_of(problem, call_of(request), request.scope)


async def _unforeseen(request: Request, error: Exception) -> Response:
    return response_of(Problem(500, "something went wrong here: the log tells more under this request id"), call_of(request), request.scope)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The description: the routes', with the bodies that they read themselves."""
    described = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    kinds: list[tuple[type[BaseModel], Any]] = [*((kind, "validation") for kind in _BODIES), (answers.ProblemOut, "serialization")]
    _, bodies = models_json_schema(kinds, ref_template="#/components/schemas/{model}")
    components = described.setdefault("components", {})
    components["schemas"] = {**components.get("schemas", {}), **bodies["$defs"]}
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "A key of `tongtu keys add`; not needed where the service is open."}
    }
    described["security"] = [{"key": []}, {}]
    for operations in described["paths"].values():
        for operation in operations.values():
            for answer in operation["responses"].values():
                if answer.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "").endswith("HTTPValidationError"):
                    del answer["content"]["application/json"]
    return described


def _roots(settings: ServeSettings, folders: dict[str, Path]) -> tuple[Path, ...]:
    if settings.models_root is None:
        return tuple(dict.fromkeys(folder.resolve().parent for folder in folders.values()))
    root = Path(settings.models_root).resolve()
    if not root.is_dir():
        raise ConfigError(f"no folder {settings.models_root}: check models_root")
    return (root,)


def _report(given: str | None) -> bytes | None:
    if given is None:
        return None
    import orjson

    path = Path(given) / "results.json" if Path(given).is_dir() else Path(given)
    try:
        content = path.read_bytes()
        if not isinstance(orjson.loads(content), dict):
            raise ValueError("no object")
    except (OSError, ValueError):
        raise ConfigError(f"{path} is no results.json: give the folder that `tongtu compare` wrote with --report") from None
    return content
