from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tongtu.serve.store import Store

Run = Callable[..., Any]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


def test_a_key_is_made_listed_and_revoked(tongtu: Run, url: str) -> None:
    made = tongtu("keys", "add", "shop", "--scope", "write, read", "--store", url)
    assert made.exit_code == 0 and "only now" in made.stderr
    secret = made.stdout.strip()
    with Store.open(url, create=False) as store:
        found = store.find_key(secret)
        assert found is not None and (found.name, found.scopes) == ("shop", {"read", "write"})
    listed = tongtu("keys", "list", "--store", url)
    assert "shop" in listed.stdout and "read, write" in listed.stdout and secret[:6] in listed.stdout
    assert secret not in listed.output and secret.encode() not in b"".join(file.read_bytes() for file in Path(url[10:]).parent.iterdir())
    assert tongtu("keys", "revoke", "shop", "--store", url).exit_code == 0
    with Store.open(url, create=False) as store:
        assert store.find_key(secret) is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("add", "shop"), "there is a key 'shop' already: choose another name, or revoke it first"),
        (("add", "new", "--scope", "root"), "read, write, admin, got root"),
        (("add", "new", "--scope", ","), "got none"),
        (("add", "n" * 513), "1 to 512 characters"),
        (("revoke", "shops"), "there is no key 'shops'"),
    ],
)
def test_mistakes_get_one_line(tongtu: Run, url: str, arguments: tuple[str, ...], told: str) -> None:
    assert tongtu("keys", "add", "shop", "--store", url).exit_code == 0
    done = tongtu("keys", *arguments, "--store", url)
    assert done.exit_code == 2 and told in done.stderr and done.stderr.count("\n") == 1


def test_the_store_of_the_service_is_known_by_its_variable(tongtu: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGTU_SERVE_STORE", url)
    assert tongtu("keys", "add", "shop").exit_code == 0 and "shop" in tongtu("keys", "list", "--store", url).stdout


def test_a_store_is_made_only_by_the_first_key(tongtu: Run, url: str) -> None:
    for command in (("list",), ("revoke", "shop")):
        done = tongtu("keys", *command, "--store", url)
        assert done.exit_code == 2 and "there is no store" in done.stderr
    assert not Path(url[10:]).exists()
    assert tongtu("keys", "add", "shop", "--store", "mysql://host/name").exit_code == 2
