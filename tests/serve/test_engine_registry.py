"""The registry of models: swaps under load, roll-back, restart, shares of the traffic."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from engine_models import Notebook, save

from tongtu.errors import ModelError
from tongtu.serve.engine.engine import Engine
from tongtu.serve.engine.messages import NotPossible, Question, UnknownVersion
from tongtu.serve.engine.registry import Registry
from tongtu.serve.engine.settings import EngineSettings
from tongtu.serve.engine.traffic import Traffic

PATIENCE = 120.0
SWAPS = 20


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {"popular": save("popular", root / "popular"), "recent": save("popular", root / "recent", days=30), "ease": save("ease", root / "ease")}


def run(work: Callable[[Registry], Awaitable[Any]], store: Notebook | None = None, **settings: Any) -> Any:
    async def whole() -> Any:
        engine = Engine(EngineSettings(**{"workers": 1, **settings}))
        await engine.start()
        try:
            return await asyncio.wait_for(work(Registry(engine, store or Notebook(), linger=0.5)), PATIENCE)
        finally:
            await engine.close()

    return asyncio.run(whole())


def later() -> float:
    return asyncio.get_running_loop().time() + PATIENCE


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_swaps_under_load_fail_no_request(models: dict[str, Path]) -> None:
    async def work(registry: Registry) -> None:
        engine, seen, stop = registry.engine, set[str](), asyncio.Event()
        await registry.install("m", models["popular"])

        async def asks(user: int) -> int:
            count = 0
            while not stop.is_set():
                version = registry.pick(str(user))
                answer = await engine.recommend(version, Question(5, (f"item-{user + 1}",)), later())
                assert answer.version == version and len(answer.items) == 5
                seen.add(answer.version)
                count += 1
            return count

        clients = [asyncio.ensure_future(asks(user)) for user in range(8)]
        for number in range(SWAPS):
            await registry.install("m", models["recent" if number % 2 == 0 else "popular"])
            if number == 2:
                await asyncio.sleep(1)
                open_files = descriptors(os.getpid()), descriptors(engine._ranking.workers[0].pid)
        stop.set()
        assert sum(await asyncio.gather(*clients)) > SWAPS
        assert len(seen) >= SWAPS / 2
        while len(engine.facts) > 2:  # the versions that are no longer needed are closed one after the other
            await asyncio.sleep(0.05)
        assert {one.version for one in registry.live()} == set(engine.facts)
        await asyncio.sleep(0.2)
        now = descriptors(os.getpid()), descriptors(engine._ranking.workers[0].pid)
        assert now[0] <= open_files[0] and now[1] <= open_files[1] + 1

    run(work)


def test_rollback_is_at_once_and_a_bad_folder_changes_nothing(models: dict[str, Path], tmp_path: Path) -> None:
    async def work(registry: Registry) -> None:
        first = await registry.install("m", models["popular"])
        with pytest.raises(NotPossible, match="no version before"):
            await registry.rollback("m")
        second = await registry.install("m", models["ease"])
        assert (registry.pick(None), registry.previous("m")) == (second.version, first.version)
        started = time.perf_counter()
        await registry.rollback("m")
        answer = await registry.engine.recommend(registry.pick(None), Question(3), later())
        assert time.perf_counter() - started < 1 and answer.version == first.version
        with pytest.raises(ModelError):
            await registry.install("m", tmp_path)
        assert (registry.pick(None), registry.previous("m")) == (first.version, second.version)
        assert await registry.install("m", models["popular"]) == first and registry.previous("m") == second.version
        await registry.rollback("m")
        assert registry.pick(None) == second.version and registry.facts(second.version).system == "EASE"

    run(work)


def test_what_cannot_be_remembered_is_not_served(models: dict[str, Path]) -> None:
    async def work(registry: Registry) -> None:
        first = await registry.install("m", models["popular"])
        registry.store.full = True  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="no room"):
            await registry.install("m", models["ease"])
        assert registry.pick(None) == first.version and list(registry.engine.facts) == [first.version]

    run(work)


def test_a_restart_serves_the_same(models: dict[str, Path], tmp_path: Path) -> None:
    store = Notebook()
    gone = save("popular", tmp_path / "gone")

    async def before(registry: Registry) -> tuple[Any, ...]:
        await registry.install("z", models["popular"])
        await registry.install("z", models["ease"])
        await registry.install("a", models["recent"])
        await registry.install("lost", gone)
        await registry.set_traffic({"z": 0.5, "a": 0.25, "lost": 0.25}, {"model": "a", "share": 0.5}, "salt")
        return registry.names(), registry.pick("somebody", "z"), registry.previous("z")

    async def after(registry: Registry) -> tuple[Any, ...]:
        await registry.restore()
        assert registry.share("z") == pytest.approx(2 / 3) and registry.shadow_share("a") == 0.5
        assert (await registry.install("z", models["ease"])).version == registry.pick(None, "z")
        return registry.names(), registry.pick("somebody", "z"), registry.previous("z")

    names, *versions = run(before, store)
    for file in gone.iterdir():
        file.unlink()
    again, *same = run(after, store)
    assert names == ["z", "a", "lost"] and again == ["z", "a"] and versions == same


def test_names_versions_and_shadows(models: dict[str, Path]) -> None:
    async def work(registry: Registry) -> None:
        with pytest.raises(UnknownVersion, match="no model is being served"):
            registry.pick(None)
        a, b = await registry.install("a", models["popular"]), await registry.install("b", models["ease"])
        assert registry.pick("u") == registry.pick("u", "a") == a.version and registry.pick("u", b.version) == b.version
        with pytest.raises(UnknownVersion, match="served are: a, b"):
            registry.pick("u", "c")
        with pytest.raises(UnknownVersion):
            await registry.set_traffic({"a": 0.5, "c": 0.5})
        await registry.set_traffic({"a": 1.0}, {"model": "b", "share": 1.0})
        assert registry.shadow_for("u", a.version) == b.version and registry.shadow_for("u", b.version) is None
        await registry.remove("b")
        assert registry.names() == ["a"] and registry.shadow_for("u", a.version) is None

    run(work)


def test_users_stay_with_their_share() -> None:
    traffic = Traffic.of({"a": 0.7, "b": 0.3}, None, "s")
    users = [f"user-{number}" for number in range(4_000)]
    first = [traffic.name_for(user) for user in users]
    assert first == [traffic.name_for(user) for user in users]
    assert first.count("a") / len(users) == pytest.approx(0.7, abs=0.03)
    grown = Traffic.of({"a": 0.8, "b": 0.2}, None, "s")
    assert all(grown.name_for(user) == "a" for user, name in zip(users, first, strict=True) if name == "a")
    other = Traffic.of({"a": 0.7, "b": 0.3}, None, "another")
    assert 0.3 < sum(other.name_for(user) != name for user, name in zip(users, first, strict=True)) / len(users) < 0.55


@pytest.mark.parametrize("split", [{"a": 0.5}, {"a": 1.5, "b": -0.5}])
def test_shares_must_sum_to_one(split: dict[str, float]) -> None:
    with pytest.raises(NotPossible, match="sum to"):
        Traffic.of(split, None, None)
