"""Keys and their scopes, rates, and what never stands in a log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from served import Served, fitted

from tongtu.errors import ConfigError, ModelError
from tongtu.serve.app import create_app
from tongtu.serve.settings import settings_from
from tongtu.serve.store import Store


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return fitted(tmp_path_factory.mktemp("models"))[0]


def test_keys_scopes_and_rates(models: dict[str, Path], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with Store.open(url) as store:
        read, write, admin = (store.add_key(name, [name]) for name in ("read", "write", "admin"))
    lines: list[dict[str, Any]] = []
    served = Served(models=(f"popular={models['popular']}",), store=url, rate=5.0, host="0.0.0.0")
    served.service.log = lambda event, level="info", **facts: lines.append({"event": event, **facts})
    served.service.rates.clock = lambda: 0.0
    try:

        def status(method: str, path: str, key: str | None, body: Any = None, header: str = "Authorization") -> int:
            served.service.rates.buckets.clear()
            value = f"Bearer {key}" if header == "Authorization" else key
            answer = served.ask(method, path, body, headers={} if key is None else {header: str(value).encode("utf-8")})
            assert answer.status_code != 401 or answer.headers["www-authenticate"] == "Bearer"
            return answer.status_code

        event = {"user": "u", "item": "i"}
        assert [status("POST", "/v1/recommend", key, {}) for key in (None, "tt_" + "x" * 43, "ä", read, write)] == [401, 401, 401, 200, 403]
        assert [status("POST", "/v1/events", key, event) for key in (None, read, write, admin)] == [401, 403, 201, 403]
        assert [status("GET", "/v1/stats", key) for key in (read, write, admin)] == [403, 403, 200]
        assert status("GET", "/v1/models", read, header="X-API-Key") == 200
        assert [status("GET", path, None) for path in ("/health/live", "/health/ready", "/docs", "/metrics")] == [200, 200, 200, 401]
        # A key is asked for before anything of a body is looked at.
        assert served.ask("POST", "/v1/recommend", content=b"x" * 100).status_code == 401
        served.service.rates.buckets.clear()
        statuses = [served.ask("GET", "/v1/models", headers={"X-API-Key": read}) for _ in range(7)]
        assert [answer.status_code for answer in statuses] == [200] * 5 + [429] * 2
        assert statuses[-1].headers["retry-after"] == "1"
        assert served.ask("GET", "/v1/stats", headers={"X-API-Key": admin}).status_code == 200
        assert {line.get("key") for line in lines} >= {"read", "write", "admin"}
        assert not [line for line in lines if any(secret[3:] in repr(line) for secret in (read, write, admin))]
        assert not [file for file in tmp_path.iterdir() if any(secret[10:].encode() in file.read_bytes() for secret in (read, write, admin))]
    finally:
        served.close()


def test_what_cannot_be_served_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with pytest.raises(ConfigError, match="tongtu keys add"):
        create_app(settings_from({"host": "0.0.0.0", "store": url}))
    with pytest.raises(ConfigError, match=r"results\.json"):
        create_app(settings_from({"report": str(tmp_path), "store": url}))
    with pytest.raises(ConfigError, match="no model to serve"):
        Served(store=url)
    with pytest.raises(ModelError, match=r"no model folder|not a model folder"):
        Served(models=(str(tmp_path),), store=url)


def test_a_restart_serves_the_same_unless_told_otherwise(models: dict[str, Path], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"

    def start(*given: str) -> dict[str, str]:
        served = Served(models=given, store=url, models_root=str(models["ease"].parent))
        try:
            if given == (f"a={models['popular']}",) and len(served.service.registry.names()) == 1:
                assert served.ask("POST", "/v1/models/a", {"path": "ease"}).status_code == 200
                assert served.ask("POST", "/v1/models/b", {"path": "popular"}).status_code == 200
            return {model["name"]: model["path"] for model in served.ask("GET", "/v1/models").json()["models"]}
        finally:
            served.close()

    assert start(f"a={models['popular']}") == {"a": "ease", "b": "popular"}
    assert start(f"a={models['popular']}") == {"a": "ease", "b": "popular"}
    assert start() == {"a": "ease", "b": "popular"}
    again = start(f"c={models['textknn']}")
    assert again == {"b": "popular", "c": "textknn"}
    assert next(iter(again)) == "c"
    assert start(f"c={models['ease']}") == {"c": "ease", "b": "popular"}
