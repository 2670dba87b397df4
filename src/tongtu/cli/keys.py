"""`tongtu keys`: who may use the service."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tongtu.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from tongtu.serve.store.store import Store

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the keys of the service.")

_Store = Annotated[
    str,
    typer.Option("--store", metavar="URL", envvar="TONGTU_SERVE_STORE", help="The service's store: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME."),
]
_DEFAULT = "sqlite:///tongtu.db"


@app.command("add", epilog="Example: tongtu keys add shop --scope read,write --store sqlite:///tongtu.db")
def add(
    name: Annotated[str, typer.Argument(help="What to call the key; it stands in `tongtu keys list` and in the service's log.")],
    scope: Annotated[str, typer.Option(metavar="NAMES", help="What it allows, with commas between: read, write, admin.")] = "read",
    store: _Store = _DEFAULT,
) -> None:
    """Make a key and print it, this once: the store keeps only its SHA-256."""
    from tongtu.cli.output import note

    with _open(store, create=True) as opened:
        print(opened.add_key(name, [part.strip() for part in scope.split(",") if part.strip()]))
    note(f"This key of {name} is shown only now. Send it with each request as: Authorization: Bearer KEY")


@app.command("list", epilog="Example: tongtu keys list --store sqlite:///tongtu.db")
def list_keys(store: _Store = _DEFAULT) -> None:
    """Print every key's name, what it allows, how it begins, and when it was made."""
    from tongtu.cli.output import table

    with _open(store) as opened:
        known = opened.list_keys()
    rows = [(key.name, _scopes(key.scopes), f"{key.start}...", datetime.fromtimestamp(key.created, UTC).strftime("%Y-%m-%d %H:%M UTC")) for key in known]
    table(["name", "allows", "begins", "made"], rows)


@app.command("revoke", epilog="Example: tongtu keys revoke shop --store sqlite:///tongtu.db")
def revoke(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    store: _Store = _DEFAULT,
) -> None:
    """Make a key worthless; a running service knows it within a second."""
    from tongtu.cli.output import note

    with _open(store) as opened:
        if not opened.revoke_key(name):
            known = ", ".join(key.name for key in opened.list_keys()) or "none"
            raise ConfigError(f"there is no key {name!r} in {opened.name}; known: {known}")
    note(f"{name} is revoked")


def _open(url: str, create: bool = False) -> Store:
    try:
        from tongtu.serve.store.store import Store
    except ImportError as error:
        raise MissingExtra("tongtu keys", "serve") from error
    return Store.open(url, create)


def _scopes(scopes: frozenset[str]) -> str:
    return ", ".join(scope for scope in ("read", "write", "admin") if scope in scopes)
