"""API keys. The store keeps only the SHA-256 of each: a secret of 256 random bits needs no slower one."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, insert, select

from tongtu.errors import ConfigError
from tongtu.serve.store import tables
from tongtu.serve.store.checking import ident
from tongtu.serve.store.records import SCOPES, Key

PREFIX = "tt_"
_SHOWN = 6

HashedKey = tuple[str, Key]


def check_scopes(scopes: Iterable[str]) -> list[str]:
    """The scopes in their usual order.

    Raises:
        ConfigError: If there is none, or one that does not exist.
    """
    asked = set(scopes)
    if not asked or not asked <= set(SCOPES):
        raise ConfigError(f"a key needs scopes out of {', '.join(SCOPES)}, got {', '.join(sorted(asked)) or 'none'}")
    return [scope for scope in SCOPES if scope in asked]


def add(connection: Connection, name: str, scopes: Sequence[str]) -> str:
    """Make a key; its secret, which is nowhere else.

    Raises:
        ConfigError: If there is a key of this name.
    """
    k = tables.keys.c
    if connection.execute(select(k.name).where(k.name == ident(name, "the name of a key"))).first():
        raise ConfigError(f"there is a key {name!r} already: choose another name, or revoke it first")
    secret = PREFIX + secrets.token_urlsafe(32)
    row = {"name": name, "hash": hashed(secret), "start": secret[:_SHOWN], "scopes": ",".join(scopes), "created": int(time.time())}
    connection.execute(insert(tables.keys), row)
    return secret


def revoke(connection: Connection, name: str) -> bool:
    """Remove a key; whether it was there."""
    return connection.execute(delete(tables.keys).where(tables.keys.c.name == name)).rowcount > 0


def all_keys(connection: Connection) -> list[HashedKey]:
    """Every key with its hash, by name."""
    k = tables.keys.c
    rows = connection.execute(select(k.name, k.hash, k.start, k.scopes, k.created).order_by(k.name))
    return [(found, Key(name, frozenset(scopes.split(",")), start, created)) for name, found, start, scopes, created in rows]


def find(known: Iterable[HashedKey], secret: str) -> Key | None:
    """The key of a secret. Every known key is compared, each in the same time, whether an earlier one fitted or not."""
    asked = hashed(secret)
    fitting = [key for digest, key in known if hmac.compare_digest(digest, asked)]
    return fitting[0] if fitting else None


def hashed(secret: str) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
