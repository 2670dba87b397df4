"""Conversations and language models in the engine, and how worker processes live and end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from engine_models import save

from tongtu.serve.engine.engine import Engine
from tongtu.serve.engine.messages import DeadlineExceeded, NotPossible, Question
from tongtu.serve.engine.settings import EngineSettings

PATIENCE = 150.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: save(name, root / name) for name in ("popular", "ease", "llmrank")}


@pytest.fixture(autouse=True)
def _no_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGTU_CACHE", str(tmp_path))


def run(work: Callable[[Engine], Awaitable[Any]], **settings: Any) -> Any:
    async def whole() -> Any:
        engine = Engine(EngineSettings(**{"workers": 1, **settings}))
        await engine.start()
        try:
            return await asyncio.wait_for(work(engine), PATIENCE)
        finally:
            await engine.close()

    return asyncio.run(whole())


def later(seconds: float = PATIENCE) -> float:
    return asyncio.get_running_loop().time() + seconds


async def talk(engine: Engine, version: str, text: str, state: dict[str, Any] | None = None) -> tuple[list[str], dict[str, Any]]:
    parts = [part async for part in engine.talk(version, Question(5, ("item-1", "item-17")), text, state, later())]
    *stages, reply = parts
    return [part["stage"] for part in stages], reply


def test_a_conversation_goes_on_where_it_stood(models: dict[str, Path]) -> None:
    async def work(engine: Engine) -> None:
        version = (await engine.load("m", models["popular"])).version
        assert engine.busy()["talking"]["alive"] == 0
        stages, first = await talk(engine, version, "something with piano, no guitar")
        assert stages[0] == "opening" and stages[-1] == "thinking"
        assert first["items"] and all(item.startswith("item-") and title for item, title in first["items"])
        assert not {item for item, _ in first["items"]} & {"item-1", "item-17"}
        stages, second = await talk(engine, version, "something else", first["state"])
        assert stages == ["thinking"], "the models stay open"
        assert second["items"] and not {item for item, _ in second["items"]} & {item for item, _ in first["items"]}
        _, fresh = await talk(engine, version, "something with piano, no guitar")
        assert fresh["items"] == first["items"], "who begins anew hears nothing of what others said"
        _, odd = await talk(engine, version, "something with piano, no guitar", {"format": 99})
        assert odd["items"] == first["items"]

    run(work, llm="unigram")


def test_without_its_language_model_a_conversation_is_degraded(models: dict[str, Path]) -> None:
    async def work(engine: Engine) -> None:
        version = (await engine.load("m", models["popular"])).version
        _, reply = await talk(engine, version, "recommend something")
        assert reply["items"] and "no language model at" in reply["degraded"]

    run(work, llm="hf:/no/such/folder")


def test_language_models_work_in_processes_of_their_own(models: dict[str, Path]) -> None:
    async def work(engine: Engine) -> None:
        slow, fast = await engine.load("slow", models["llmrank"]), await engine.load("fast", models["ease"])
        assert slow.language_model and not fast.language_model and "explain" not in slow.can
        assert engine._ranking.orders.keys() == {fast.version} and engine._talking.orders.keys() == {slow.version}
        answer = await engine.recommend(slow.version, Question(5, ("item-1", "item-2")), later())
        assert len(answer.items) == 5 and answer.model == "slow"
        with pytest.raises(NotPossible, match="too slow"):
            await engine.explain(slow.version, Question(5, ("item-1",)), ["item-2"], later())
        os.kill(engine._talking.workers[0].pid, signal.SIGSTOP)
        with pytest.raises(DeadlineExceeded):
            await engine.recommend(slow.version, Question(5), later(0.1))
        assert len((await engine.recommend(fast.version, Question(5), later())).items) == 5
        assert len((await engine.recommend(slow.version, Question(5), later())).items) == 5, "the one that hung was replaced"

    run(work)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_share_the_weights(models: dict[str, Path]) -> None:
    def mapped(pid: int) -> tuple[int, int]:
        """KiB of the weights that a process has in memory, and its share of them."""
        resident = share = 0
        ours = False
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            name, _, value = line.partition(":")
            if "-" in name and not value.endswith("kB"):
                ours = line.endswith("model.safetensors")
            elif ours and name in ("Rss", "Pss"):
                resident, share = resident + int(value.split()[0]) * (name == "Rss"), share + int(value.split()[0]) * (name == "Pss")
        return resident, share

    async def work(engine: Engine) -> None:
        version = (await engine.load("m", models["ease"])).version
        asked = {"do": "recommend", "version": version, "questions": [{"k": 5, "history": [f"item-{i}" for i in range(1, 200)]}]}
        for worker in engine._ranking.workers:
            assert "ok" in await worker.ask(asked)
        resident, share = zip(*(mapped(worker.pid) for worker in engine._ranking.workers), strict=True)
        assert min(resident) >= 100 and sum(share) < 0.7 * sum(resident)

    run(work, workers=2)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end children")
def test_no_worker_outlives_a_front_that_was_killed(models: dict[str, Path]) -> None:
    program = """
import asyncio, sys
from tongtu.serve.engine.engine import Engine
from tongtu.serve.engine.settings import EngineSettings
async def main():
    engine = Engine(EngineSettings(workers=2))
    await engine.start()
    await engine.load("m", sys.argv[1])
    print(*(one.pid for one in engine._ranking.workers), flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program, str(models["popular"])], stdout=subprocess.PIPE, text=True) as front:
        assert front.stdout is not None
        pids = [int(pid) for pid in front.stdout.readline().split()]
        assert len(pids) == 2 and all(Path(f"/proc/{pid}").exists() for pid in pids)
        front.kill()
    until = time.monotonic() + 10
    while any(_runs(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
