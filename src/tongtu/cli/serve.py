"""`tongtu serve`: saved models behind an HTTP API and a web page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer


def serve(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=]MODEL...", help="Model folders; the first answers whoever asks for none by name.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Where to listen. Beyond this machine only with keys, see `tongtu keys`. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one. [default: 8000]")] = None,
    data: Annotated[str | None, typer.Option(metavar="DIR|NAME", help="A data set whose users, items and events the store begins with.")] = None,
    store: Annotated[str | None, typer.Option(metavar="URL", help="sqlite:///FILE or postgresql+psycopg://... [default: sqlite:///tongtu.db]")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings as TOML, beneath flags and TONGTU_SERVE_... variables.")] = None,
    report: Annotated[str | None, typer.Option(metavar="DIR", help="What `tongtu compare` wrote, for the dashboard.")] = None,
    llm: Annotated[str | None, typer.Option(metavar="NAME", help="Language model of the chat: unigram, smollm2, hf:NAME or openai:NAME@URL.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that compute, of one thread each.")] = None,
    models_root: Annotated[str | None, typer.Option(metavar="DIR", help="Where models may be loaded from over HTTP.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A host name under which this is reached; may be repeated.")] = None,
    auth: Annotated[str | None, typer.Option(metavar="auto|on|off", help="Whether a key is asked for.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second a key may send; 0 for any number.")] = None,
    logs: Annotated[str | None, typer.Option(metavar="json|plain", help="How logs are written, on standard error.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, say deadline=1.5 or queue=32.")] = None,
) -> None:
    """Serve models. Ready means: GET /health/ready answers 200. SIGTERM ends it once accepted requests are answered."""
    from tongtu.config import parse_settings
    from tongtu.errors import MissingExtra

    flags: dict[str, Any] = {
        "models": tuple(models) if models else None,
        "host": host,
        "port": port,
        "data": data,
        "store": store,
        "report": report,
        "llm": llm,
        "workers": workers,
        "models_root": models_root,
        "allow_hosts": tuple(allow_host) if allow_host else None,
        "auth": auth,
        "rate": rate,
        "logs": logs,
        **parse_settings(settings or []),
    }
    try:
        from tongtu.serve.run import run
        from tongtu.serve.settings import settings_from
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("tongtu"):
            raise
        raise MissingExtra("the service", "serve") from None
    status = run(settings_from(flags, os.environ, config))
    if status:
        raise typer.Exit(status)
