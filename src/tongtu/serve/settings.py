"""The settings of the service, from flags, environment and a TOML file alike.

A flag wins over the environment, the environment over the file. A setting `max_body` is `--set max_body=...` or a flag of its own on the
command line, `TONGTU_SERVE_MAX_BODY` in the environment and `max_body = ...` in the file, at its top or under `[serve]`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tongtu.config import build, configuration, nearest, read_toml
from tongtu.errors import ConfigError

PREFIX = "TONGTU_SERVE_"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LISTS = ("models", "allow_hosts", "allow_origins")


@configuration
class ServeSettings:
    """How the service runs.

    Attributes:
        host, port: Where it listens; port 0 takes a free one.
        models: "name=path" or "path" each; the first answers whoever asks for none by name.
        models_root: Folder that models may be loaded from over HTTP; by default the folders that hold the models given at the start.
        store: SQLAlchemy URL of the event store.
        data: A data set, by folder or name, whose users, items and events the store begins with.
        report: A results.json of `tongtu compare`, or its folder, for the dashboard.
        workers: Processes that compute, of one thread each; by default one a core, at most two.
        talkers: Processes for what a language model does, started at the first need.
        llm: Language model of the chat.
        max_batch: Most questions that one forward pass answers.
        queue: Most requests in hand; beyond that comes 503 at once, so that those inside are answered soon. Slow models that gain by batches want more.
        deadline, llm_deadline: Seconds until a question, or one to a language model, is given up.
        drain: Seconds that a stop may take.
        linger: Seconds that it goes on accepting connections after it said that it is not ready, so that balancers learn of it.
        max_body: Largest body in bytes. max_k, max_history: Largest k, longest history given or read.
        rate: Requests a second that one key (or one address, without keys) may send; 0 for any number.
        allow_hosts: Host headers that are answered, besides loopback names and plain addresses; "*" for any.
        allow_origins: Origins of other web pages that may call; none by default.
        auth: "auto" asks for a key where there is one or the service is reachable from elsewhere; "on" always, "off" never.
        history_seconds, history_cache: How long, and of how many users, histories are kept in memory; own events are heeded at once.
        ann_above: Catalogue size from which vector models search approximately.
        logs: Lines of JSON, or plain ones.
        log_requests: Whether every request is logged.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    models: tuple[str, ...] = ()
    models_root: str | None = None
    store: str = "sqlite:///tongtu.db"
    data: str | None = None
    report: str | None = None
    workers: Annotated[int, Field(ge=1, le=256)] = min(2, os.cpu_count() or 1)
    talkers: Annotated[int, Field(ge=1, le=64)] = 1
    llm: str | None = None
    max_batch: Annotated[int, Field(ge=1, le=1024)] = 64
    queue: Annotated[int, Field(ge=1, le=100_000)] = 32
    deadline: Annotated[float, Field(gt=0, le=600)] = 2.0
    llm_deadline: Annotated[float, Field(gt=0, le=3600)] = 30.0
    drain: Annotated[float, Field(gt=0, le=600)] = 20.0
    linger: Annotated[float, Field(ge=0, le=60)] = 1.0
    max_body: Annotated[int, Field(ge=1024, le=1 << 30)] = 1 << 20
    max_k: Annotated[int, Field(ge=1, le=1000)] = 1000
    max_history: Annotated[int, Field(ge=1, le=1000)] = 1000
    rate: Annotated[float, Field(ge=0)] = 0.0
    allow_hosts: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    auth: Literal["auto", "on", "off"] = "auto"
    history_seconds: Annotated[float, Field(ge=0)] = 10.0
    history_cache: Annotated[int, Field(ge=0)] = 50_000
    ann_above: Annotated[int, Field(ge=1)] = 500_000
    logs: Literal["json", "plain"] = "json"
    log_requests: bool = True


def settings_from(flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None, toml: Path | None = None) -> ServeSettings:
    """Settings of a file, over them those of the environment, over them those of the command line.

    Args:
        flags: Values by setting; None is a flag that was not given.
        env: Environment variables; only those that begin with `PREFIX` matter.
        toml: A file, or None.

    Raises:
        ConfigError: For an unknown setting, naming the nearest, or a value out of range.
    """
    values: dict[str, Any] = {}
    where = "serve"
    if toml is not None:
        read = read_toml(toml)
        values = {**{key: value for key, value in read.items() if key != "serve"}, **_table(read.get("serve", {}), toml)}
        where = str(toml)
        build(ServeSettings, values, where)
    values |= _from_environment(env or {})
    values |= {name: value for name, value in (flags or {}).items() if value is not None}
    return build(ServeSettings, values, "serve")


def named_models(settings: ServeSettings) -> dict[str, Path]:
    """The models to serve: folder by name. "path" alone is named by its folder.

    Raises:
        ConfigError: If a name is no name or stands twice.
    """
    found: dict[str, Path] = {}
    for entry in settings.models:
        name, equals, path = entry.partition("=")
        if not equals:
            path, name = entry, re.sub(r"[^A-Za-z0-9._-]+", "-", Path(entry).resolve().name).strip("-._") or "model"
        check_name(name)
        if name in found:
            raise ConfigError(f"two models are named {name}: name them apart, as in tongtu serve first={found[name]} second={path}")
        found[name] = Path(path)
    return found


def check_name(name: str) -> None:
    """Refuse what cannot name a model.

    Raises:
        ConfigError: If it is more than letters, digits, ".", "_" and "-", or too long.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name[:80]!r} cannot name a model: use up to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    if host.lower() in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _table(value: Any, toml: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{toml}: serve is a table: write [serve] and its settings below")
    return value


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    known = {f"{PREFIX}{name.upper()}": name for name in ServeSettings.__dataclass_fields__}
    values: dict[str, Any] = {}
    for variable, value in env.items():
        if not variable.startswith(PREFIX):
            continue
        if variable not in known:
            raise ConfigError(f"environment: unknown setting {variable}, {nearest(variable, known)}")
        name = known[variable]
        values[name] = tuple(part.strip() for part in value.split(",") if part.strip()) if name in _LISTS else value
    return values
