"""Who may ask: keys and their scopes, hosts, origins, and the headers that every answer carries."""

from __future__ import annotations

import hashlib
import ipaddress
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from tongtu.errors import ConfigError
from tongtu.serve.call import Call
from tongtu.serve.problems import Problem
from tongtu.serve.settings import LOOPBACK_NAMES, ServeSettings, is_loopback

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_WRITING = {"events", "items", "users"}
_GOVERNING = {"models", "traffic", "stats", "keys"}
_TRUSTED = 1.0  # seconds that a key is remembered: as long as a revoked one may live on
_KEYS = 4096
_LONGEST = 200


class FoundKey(Protocol):
    """A key of the store."""

    @property
    def name(self) -> str: ...
    @property
    def scopes(self) -> frozenset[str]: ...


@dataclass(frozen=True)
class Access:
    """Whether keys are asked for, and one line on why."""

    open: bool
    why: str


def decide_access(settings: ServeSettings, keys: int) -> Access:
    """Whether the service runs open or asks for keys.

    Args:
        settings: Those of the service.
        keys: How many keys the store has.

    Raises:
        ConfigError: If it could be reached from other machines without a key, or asks for keys that nobody has.
    """
    local, where = is_loopback(settings.host), shown_url(settings.store)
    if not keys and not local:
        raise ConfigError(
            f"{settings.host} is reachable from other machines and the store has no key: make one with `tongtu keys add NAME --store {where}`,"
            " or listen on 127.0.0.1"
        )
    if settings.auth == "off":
        if not local:
            raise ConfigError(f"auth = off is only for this machine, and {settings.host} is reachable from others: leave auth out, or listen on 127.0.0.1")
        return Access(True, "open to everybody on this machine (auth = off)")
    if keys:
        return Access(False, f"a key is asked for ({keys} in the store)")
    if settings.auth == "on":
        raise ConfigError(f"auth = on, and the store has no key: make one with `tongtu keys add NAME --store {where}`")
    return Access(True, "open to everybody on this machine, since the store has no key (`tongtu keys add` makes one)")


def shown_url(url: str) -> str:
    """A store's URL without the password in it."""
    scheme, mark, rest = url.partition("://")
    account, at, place = rest.rpartition("@")
    return f"{scheme}{mark}{account.partition(':')[0]}{':***' if ':' in account else ''}{at}{place}" if at else url


def scope_for(method: str, path: str) -> str:
    """What a key must be allowed for a path below /v1."""
    part = path[4:].split("/", 1)[0]
    reading = method in ("GET", "HEAD")
    if part in _GOVERNING:
        return "read" if reading and part == "models" else "admin"
    return "write" if part in _WRITING and not reading else "read"


class Guard:
    """Checks hosts, origins and keys. Keys are looked up by their hash, which the store compares in constant time."""

    def __init__(self, settings: ServeSettings, access: Access, find: Callable[[str], Awaitable[FoundKey | None]], clock: Callable[[], float]) -> None:
        self.access, self.find, self.clock = access, find, clock
        own = () if settings.host in ("0.0.0.0", "::", "") else (settings.host.lower(),)
        self.hosts = {*LOOPBACK_NAMES, *own, *(host.lower() for host in settings.allow_hosts)}
        self.any_host = "*" in settings.allow_hosts
        self.origins = set(settings.allow_origins)
        self.local = is_loopback(settings.host)
        self.known: OrderedDict[bytes, tuple[FoundKey, float]] = OrderedDict()
        self.sound_hosts: set[bytes] = set()

    def check_host(self, call: Call) -> None:
        """Refuse names that are not ours: a page elsewhere could have its own name resolve to this machine.

        Raises:
            Problem: 421.
        """
        given = call.headers.get(b"host", b"")
        if self.any_host or given in self.sound_hosts:
            return
        name = _host(given.decode("latin-1"))
        if name not in self.hosts and (self.local or not _is_address(name)):
            raise Problem(421, "this host name is not served here: add it with --allow-host")
        if len(self.sound_hosts) < 1000:
            self.sound_hosts.add(given)

    def check_origin(self, call: Call) -> None:
        """Refuse what a page of another site sends through somebody's browser.

        Raises:
            Problem: 403.
        """
        if call.headers.get(b"sec-fetch-site") == b"cross-site" and call.headers.get(b"origin", b"").decode("latin-1") not in self.origins:
            raise Problem(403, "pages of other sites may not call this service: see allow_origins")

    async def check_key(self, call: Call, scope: str) -> None:
        """Find whose key a request carries, and whether it may do this.

        Raises:
            Problem: 401 without a valid key, 403 if it lacks the scope.
        """
        if self.access.open:
            return
        found = await self._found(_secret(call))
        if found is None:
            raise Problem(401, "a valid key is needed: send it as Authorization: Bearer KEY", headers={"WWW-Authenticate": "Bearer"})
        call.key, call.scopes = found.name, frozenset(found.scopes)
        if scope not in call.scopes:
            raise Problem(403, f"the key {found.name} lacks the scope {scope}: ask for one that has it")

    async def _found(self, secret: str) -> FoundKey | None:
        if not secret or len(secret) > _LONGEST or not secret.isascii():
            return None
        digest, now = hashlib.sha256(secret.encode()).digest(), self.clock()
        known = self.known.get(digest)
        if known is not None and known[1] > now:
            return known[0]
        self.known.pop(digest, None)
        found = await self.find(secret)
        if found is not None:
            self.known[digest] = (found, now + _TRUSTED)
            if len(self.known) > _KEYS:
                self.known.popitem(last=False)
        return found


def _secret(call: Call) -> str:
    given = call.headers.get(b"authorization", b"")
    if given[:7].lower() == b"bearer ":
        return given[7:].strip().decode("latin-1")
    return call.headers.get(b"x-api-key", b"").strip().decode("latin-1")


def _host(given: str) -> str:
    given = given.strip().lower()
    if given.startswith("["):
        return given[1:].partition("]")[0]
    return given.rpartition(":")[0] if given.count(":") == 1 else given


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
