"""Settings of the service: where they come from, and what is refused before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tongtu.errors import ConfigError
from tongtu.serve.security import decide_access, scope_for, shown_url
from tongtu.serve.settings import ServeSettings, named_models, settings_from


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('port = 1001\nqueue = 11\n[serve]\nmodels = ["a=first"]\nmax_batch = 7\n', encoding="utf-8")
    env = {"TONGTU_SERVE_PORT": "1002", "TONGTU_SERVE_ALLOW_HOSTS": "one.example, two.example", "TONGTU_CACHE": "elsewhere", "TONGTU_SERVE_QUEUE": "12"}
    settings = settings_from({"port": 1003, "queue": None}, env, file)
    assert (settings.port, settings.queue, settings.max_batch) == (1003, 12, 7)
    assert settings.models == ("a=first",)
    assert settings.allow_hosts == ("one.example", "two.example")


@pytest.mark.parametrize(
    ("flags", "env", "text", "told"),
    [
        ({"prot": 1}, {}, "", "did you mean 'port'"),
        ({}, {"TONGTU_SERVE_PROT": "1"}, "", "did you mean 'TONGTU_SERVE_PORT'"),
        ({}, {"TONGTU_SERVE_PORT": "many"}, "", "port"),
        ({}, {}, "dead_line = 2", "did you mean 'deadline'"),
        ({}, {}, "serve = 3", r"\[serve\]"),
        ({"max_k": 1001}, {}, "", "max_k"),
        ({"deadline": 0}, {}, "", "deadline"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, flags: dict[str, object], env: dict[str, str], text: str, told: str) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=told):
        settings_from(flags, env, file)


def test_models_are_named_by_hand_or_by_their_folder() -> None:
    models = named_models(ServeSettings(models=("best=runs/1", "runs/my model")))
    assert models == {"best": Path("runs/1"), "my-model": Path("runs/my model")}


@pytest.mark.parametrize("models", [("a=x", "a=y"), ("../a=x",), ("a/b=x",), ("=x",), ("a\n=x",), ("x" * 65 + "=x",)])
def test_names_that_are_none_are_refused(models: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        named_models(ServeSettings(models=models))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", ""])
@pytest.mark.parametrize("auth", ["auto", "on", "off"])
def test_nothing_beyond_this_machine_without_a_key(host: str, auth: str) -> None:
    with pytest.raises(ConfigError, match="tongtu keys add"):
        decide_access(settings_from({"host": host, "auth": auth}), keys=0)


def test_open_is_only_for_this_machine() -> None:
    assert decide_access(ServeSettings(), keys=0).open
    assert decide_access(ServeSettings(host="::1"), keys=0).open
    assert not decide_access(ServeSettings(), keys=1).open
    assert decide_access(ServeSettings(auth="off"), keys=1).open
    assert not decide_access(ServeSettings(host="0.0.0.0"), keys=1).open
    with pytest.raises(ConfigError, match="auth = off"):
        decide_access(ServeSettings(host="0.0.0.0", auth="off"), keys=1)
    with pytest.raises(ConfigError, match="no key"):
        decide_access(ServeSettings(auth="on"), keys=0)


def test_a_password_is_not_shown() -> None:
    assert shown_url("postgresql+psycopg://me:se@cret@db/x") == "postgresql+psycopg://me:***@db/x"
    assert shown_url("sqlite:///tongtu.db") == "sqlite:///tongtu.db"


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/recommend", "read"),
        ("POST", "/v1/recommend/batch", "read"),
        ("GET", "/v1/items/x", "read"),
        ("PUT", "/v1/items/x", "write"),
        ("DELETE", "/v1/users/x", "write"),
        ("POST", "/v1/events/batch", "write"),
        ("GET", "/v1/models", "read"),
        ("POST", "/v1/models/x", "admin"),
        ("POST", "/v1/models/x/rollback", "admin"),
        ("PUT", "/v1/traffic", "admin"),
        ("GET", "/v1/stats", "admin"),
    ],
)
def test_scopes(method: str, path: str, scope: str) -> None:
    assert scope_for(method, path) == scope
