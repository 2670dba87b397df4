"""Which versions are served under which names: installing, rolling back, splitting traffic; all of it survives a restart.

Under each name one version answers, and the one before it stays open for a roll-back. Nothing changes for anybody until a new version is open
in every worker; requests keep the version they were given, so one that is replaced stays open for as long as a request may take.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tongtu.errors import ModelError
from tongtu.serve.engine.engine import Engine
from tongtu.serve.engine.messages import ModelFacts, NotPossible, UnknownVersion
from tongtu.serve.engine.traffic import Traffic
from tongtu.serve.store.records import SavedModel

_LINGER, _LINGER_SLOW = 5.0, 60.0  # seconds, longer than any request waits
_TRAFFIC, _ORDER = "traffic", "model order"

log = logging.getLogger("tongtu.serve.registry")


class Kept(Protocol):
    """What a registry needs of a store; `Store` has it."""

    def models(self) -> list[SavedModel]: ...
    def save_models(self, rows: Sequence[SavedModel]) -> None: ...
    def setting(self, name: str) -> Any: ...
    def save_setting(self, name: str, value: Mapping[str, Any]) -> None: ...


class Keeper(Protocol):
    """A store for an event loop; `AsyncStore` is one."""

    @property
    def sync(self) -> Kept: ...

    async def call(self, method: Callable[..., Any], *args: Any) -> Any: ...


@dataclass(frozen=True)
class Served:
    """What a name stands for: the version that answers, the one before it, and since when in seconds since 1970."""

    current: ModelFacts
    previous: ModelFacts | None
    since: int
    before: int = 0


class Registry:
    """The models of a service by name.

    Args:
        engine: Opens and closes them.
        store: Remembers them.
        linger: Seconds that a version which is no longer needed stays open; None for longer than any request waits.
    """

    def __init__(self, engine: Engine, store: Keeper, linger: float | None = None) -> None:
        self.engine, self.store, self.linger = engine, store, linger
        self.traffic = Traffic()
        self._served: dict[str, Served] = {}
        self._changing = asyncio.Lock()

    async def restore(self) -> None:
        """Serve again what was served; a version whose folder cannot be opened any more is left out, and the log says why."""
        rows: list[SavedModel] = await self.store.call(self.store.sync.models)
        opened = {(row.name, row.role): (await self._reopened(row), row.installed) for row in rows}
        order = await self.store.call(self.store.sync.setting, _ORDER)
        for name in dict.fromkeys([*(order or {}).get("names", []), *(row.name for row in rows)]):
            current, since = opened.get((name, "current"), (None, 0))
            previous, before = opened.get((name, "previous"), (None, 0))
            if current is None:
                current, since, previous, before = previous, before, None, 0
            if current is not None:
                self._served[name] = Served(current, previous, since, before)
        kept = await self.store.call(self.store.sync.setting, _TRAFFIC)
        if kept is not None:
            traffic = Traffic.of(kept["split"], kept["shadow"], kept["salt"])
            for gone in {*traffic.split, traffic.shadow} - {None, *self._served}:
                traffic = traffic.without(str(gone))
            self.traffic = traffic

    async def install(self, name: str, path: str | Path) -> ModelFacts:
        """Let a folder answer under a name; what answered before stays open. A folder that answers already, unchanged, is left alone.

        Raises:
            ModelError: If it cannot be opened; nothing has changed then.
        """
        async with self._changing:
            old = self._served.get(name)
            facts = await self.engine.load(name, path)
            if old is not None and (old.current.path, old.current.fingerprint) == (facts.path, facts.fingerprint):
                await self.engine.unload(facts.version)
                return old.current
            now = int(time.time())
            new = Served(facts, None, now) if old is None else Served(facts, old.current, now, old.since)
            await self._change({**self._served, name: new}, facts)
            if old is not None and old.previous is not None:
                self._close_later(old.previous)
            return facts

    async def rollback(self, name: str) -> ModelFacts:
        """Let the version before answer again; it is open, so this takes no time. Rolling back twice changes nothing.

        Raises:
            UnknownVersion: If there is no such name.
            NotPossible: If there is no version before.
        """
        async with self._changing:
            old = self._of(name)
            if old.previous is None:
                raise NotPossible(f"the model {name} has no version before this one: install one")
            await self._change({**self._served, name: Served(old.previous, old.current, int(time.time()), old.since)})
            return old.previous

    async def remove(self, name: str) -> None:
        """Serve a name no longer.

        Raises:
            UnknownVersion: If there is no such name.
        """
        async with self._changing:
            old = self._of(name)
            await self._set_traffic(self.traffic.without(name))
            await self._change({other: served for other, served in self._served.items() if other != name})
            for facts in (old.current, old.previous):
                if facts is not None:
                    self._close_later(facts)

    async def set_traffic(self, split: Mapping[str, float], shadow: Mapping[str, Any] | None = None, salt: str | None = None) -> None:
        """Deal users out to models, and let another one be asked beside; see `Traffic`.

        Raises:
            UnknownVersion: If a name is not served.
            NotPossible: If the shares do not sum to 1.
        """
        traffic = Traffic.of(split, shadow, self.traffic.salt if salt is None else salt)
        for name in (*traffic.split, *([] if traffic.shadow is None else [traffic.shadow])):
            self._of(name)
        await self._set_traffic(traffic)

    async def order(self, first: Sequence[str]) -> None:
        """Put these names first; the first of all answers whoever asks for none."""
        async with self._changing:
            names = dict.fromkeys([*(name for name in first if name in self._served), *self._served])
            await self._change({name: self._served[name] for name in names})

    def pick(self, user: str | None, asked: str | None = None) -> str:
        """The version that answers: of the name (or the version) asked for, else of the user's share, else of the first name.

        Raises:
            UnknownVersion: If there is none.
        """
        if asked is not None:
            if asked not in self._served and any(facts.version == asked for facts in self.live()):
                return asked
            return self._of(asked).current.version
        name = self.traffic.name_for(user) or next(iter(self._served), None)
        if name is None:
            raise UnknownVersion("no model is being served: install one")
        return self._of(name).current.version

    def shadow_for(self, user: str | None, version: str) -> str | None:
        """The version to be asked beside the one that answers a user, or None."""
        if self.traffic.shadow is None or not self.traffic.shadowed(user):
            return None
        other = self._of(self.traffic.shadow).current.version
        return None if other == version else other

    def names(self) -> list[str]:
        """All names, the first first."""
        return list(self._served)

    def live(self) -> list[ModelFacts]:
        """All versions that answer, or are kept for a roll-back."""
        return [facts for one in self._served.values() for facts in (one.current, one.previous) if facts is not None]

    def facts(self, version: str) -> ModelFacts:
        """What is known of a version.

        Raises:
            UnknownVersion: If it is not open.
        """
        if version not in self.engine.facts:
            raise UnknownVersion(f"no version {version!r} is served: ask without naming it, or see GET /v1/models")
        return self.engine.facts[version]

    def previous(self, name: str) -> str | None:
        """The version that a roll-back of a name returns to."""
        before = self._of(name).previous
        return None if before is None else before.version

    def loaded_at(self, name: str) -> int:
        """Since when a name's version answers, in seconds since 1970."""
        return self._of(name).since

    def share(self, name: str) -> float:
        """A name's share of those who ask for no model by name."""
        return self.traffic.split.get(name, 0.0) if self.traffic.split else float(name == next(iter(self._served), None))

    def shadow_share(self, name: str) -> float | None:
        """The share of the users for whom a name is asked beside, None where it is no shadow."""
        return self.traffic.shadow_share if self.traffic.shadow == name else None

    def _of(self, name: str) -> Served:
        if name not in self._served:
            known = ", ".join(self._served) or "none"
            raise UnknownVersion(f"no model is named {name!r} (served are: {known}): ask one of them, or install it")
        return self._served[name]

    async def _change(self, served: dict[str, Served], new: ModelFacts | None = None) -> None:
        """Remember first, then serve: where it cannot be remembered, nothing changes."""
        try:
            await self.store.call(self.store.sync.save_models, _rows(served))
            if list(served) != list(self._served):
                await self.store.call(self.store.sync.save_setting, _ORDER, {"names": list(served)})
        except BaseException:
            if new is not None:
                await self.engine.unload(new.version)
            raise
        self._served = served

    async def _set_traffic(self, traffic: Traffic) -> None:
        await self.store.call(self.store.sync.save_setting, _TRAFFIC, traffic.plain())
        self.traffic = traffic

    async def _reopened(self, row: SavedModel) -> ModelFacts | None:
        try:
            return await self.engine.load(row.name, row.path, row.counter)
        except ModelError as error:
            log.error("%s (%s) is not served any more: %s", row.name, row.role, error)
            return None

    def _close_later(self, facts: ModelFacts) -> None:
        wait = self.linger if self.linger is not None else _LINGER_SLOW if facts.language_model else _LINGER

        def close() -> None:
            if facts.version in self.engine.facts and facts not in self.live():
                self.engine.forget(facts.version)

        asyncio.get_running_loop().call_later(wait, close)


def _rows(served: Mapping[str, Served]) -> list[SavedModel]:
    rows = []
    for name, one in served.items():
        for role, facts, since in (("current", one.current, one.since), ("previous", one.previous, one.before)):
            if facts is not None:
                counter = int(facts.version.rpartition("-")[2])
                rows.append(SavedModel(name, "current" if role == "current" else "previous", facts.path, facts.version, counter, since))
    return rows
