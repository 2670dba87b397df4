"""The pages that people open, and the API's description."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tongtu.serve.problems import Problem

WEB = Path(__file__).parent.parent / "web"

router = APIRouter(include_in_schema=False)


@router.get("/")
async def index(request: Request) -> Response:
    """Where people try it."""
    return _page("index.html")


@router.get("/dashboard")
async def dashboard(request: Request) -> Response:
    """Where people watch it."""
    return _page("dashboard.html")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The API's operations, on one page without a script."""
    return Response(_described(request.app.openapi()), media_type="text/html")


def _page(name: str) -> Response:
    path = WEB / name
    if not path.is_file():
        raise Problem(404, "this installation has no pages; the API is described at /docs")
    return Response(path.read_bytes(), headers={"Cache-Control": "no-cache"}, media_type="text/html")


def _described(described: dict[str, Any]) -> str:
    rows = []
    for path, operations in described["paths"].items():
        for method, told in operations.items():
            statuses = ", ".join(sorted(told["responses"]))
            rows.append(
                f"<section class=card><h2><code>{method.upper()} {escape(path)}</code></h2><p><strong>{escape(told.get('summary', ''))}.</strong>"
                f" {escape(told.get('description', ''))}</p>{_body(told, described)}<p>Answers: {statuses}.</p></section>"
            )
    title = escape(described["info"]["title"])
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}</title>"
        "<link rel=icon href=/static/icon.svg type=image/svg+xml><link rel=stylesheet href=/static/tongtu.css><header class=top><a class=brand href=/>"
        "<img src=/static/icon.svg alt='' width=28 height=28> Tongtu</a><nav aria-label=Pages><a href=/>Playground</a><a href=/dashboard>Dashboard</a>"
        f"<a href=/docs aria-current=page>API</a></nav></header><main class=reference><h1>{title}</h1><p>{escape(described['info']['description'])}"
        f" The whole of it, for programs: <a href=/openapi.json>openapi.json</a>.</p>{''.join(rows)}</main></html>"
    )


def _body(told: dict[str, Any], described: dict[str, Any]) -> str:
    reference = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {}).get("$ref")
    if reference is None:
        return ""
    schema = described["components"]["schemas"][reference.rsplit("/", 1)[1]]
    needed = set(schema.get("required", ()))
    fields = "".join(
        f"<li><code>{escape(name)}</code>{'' if name in needed else ' (optional)'} {escape(field.get('description', ''))}</li>"
        for name, field in schema.get("properties", {}).items()
    )
    return f"<p>Body:</p><ul>{fields}</ul>"
