"""The engine with real worker processes and small models."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_models import save

from tongtu.core import Request
from tongtu.errors import ModelError, TongtuError
from tongtu.hub import open_model
from tongtu.serve.engine.engine import Engine
from tongtu.serve.engine.messages import Answer, DeadlineExceeded, NotPossible, Overloaded, Question, UnknownVersion
from tongtu.serve.engine.settings import EngineSettings

PATIENCE = 120.0  # a busy machine is no failure


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: save(name, root / name) for name in ("popular", "ease", "sasrec", "textknn")}


def run(work: Callable[[Engine], Awaitable[Any]], **settings: Any) -> Any:
    """Do something with a started engine, which leaves no process behind."""

    async def whole() -> Any:
        engine = Engine(EngineSettings(**{"workers": 1, **settings}))
        await engine.start()
        pids = workers(engine)
        try:
            return await asyncio.wait_for(work(engine), PATIENCE)
        finally:
            pids += workers(engine)
            await engine.close()
            assert not [pid for pid in pids if alive(pid)]

    return asyncio.run(whole())


def workers(engine: Engine) -> list[int]:
    return [one.pid for pool in (engine._ranking, engine._talking) for one in pool.workers]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def later(seconds: float = PATIENCE) -> float:
    return asyncio.get_running_loop().time() + seconds


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.02)


def test_answers_are_those_of_the_model(models: dict[str, Path]) -> None:
    history = ("item-5", "nobody knows this", "item-12")

    async def work(engine: Engine) -> dict[str, Answer]:
        versions = {name: (await engine.load(name, models[name])).version for name in ("ease", "sasrec")}
        return {name: await engine.recommend(version, Question(7, history), later()) for name, version in versions.items()}

    for name, answer in run(work).items():
        system = open_model(models[name])
        top = system.recommend([Request(history=system.items.encode(history))], 7)
        assert list(answer.items) == system.items.decode(top.items[0])
        np.testing.assert_allclose(answer.scores, top.scores[0], rtol=1e-4)
        assert (answer.unknown, answer.model) == (("nobody knows this",), name)


def test_limits_of_a_question_are_kept(models: dict[str, Path]) -> None:
    some = tuple(f"item-{i}" for i in range(1, 9))

    async def work(engine: Engine) -> list[Answer]:
        version = (await engine.load("sas", models["sasrec"])).version
        asked = [
            Question(200, some[:3]),
            Question(200, some[:3], exclude_seen=False),
            Question(5, some[:1], candidates=(*some, "no such item")),
            Question(5, some[:1], exclude=some),
            Question(5),
        ]
        return await engine.recommend_many(version, asked, later())

    unseen, all_of_them, among, without, nobody = run(work)
    assert len(unseen.items) == 197 and not set(unseen.items) & set(some[:3])
    assert len(all_of_them.items) == 200
    assert set(among.items) <= set(some[1:]) and len(among.items) == 5 and among.unknown == ("no such item",)
    assert len(without.items) == 5 and not set(without.items) & set(some)
    assert len(nobody.items) == 5


def test_one_bad_question_does_not_hurt_those_beside_it(models: dict[str, Path]) -> None:
    async def work(engine: Engine) -> list[Any]:
        version = (await engine.load("ease", models["ease"])).version
        bad = dataclasses.replace(Question(5, ("item-1", "item-2")), times=(1,))  # a time is missing
        good = [Question(5, (f"item-{i}",)) for i in range(1, 20)]
        return await asyncio.gather(*(engine.recommend(version, one, later()) for one in (*good, bad)), return_exceptions=True)

    *good, _ = run(work)
    assert all(isinstance(one, Answer) and len(one.items) == 5 for one in good)


def test_questions_that_wait_go_together(models: dict[str, Path]) -> None:
    async def work(engine: Engine) -> dict[str, Any]:
        version = (await engine.load("sas", models["sasrec"])).version
        answers = await asyncio.gather(*(engine.recommend(version, Question(3, (f"item-{i}",)), later()) for i in range(1, 101)))
        assert all(len(one.items) == 3 for one in answers)
        return engine.busy()["ranking"]

    seen = run(work, max_batch=32)
    assert max(seen["batch_sizes"]) == 32 and sum(seen["batch_sizes"].values()) <= 6
    assert seen["waiting"] == 0


def test_similar_items_and_reasons(models: dict[str, Path]) -> None:
    async def work(engine: Engine) -> tuple[Any, ...]:
        version = (await engine.load("sas", models["sasrec"])).version
        with pytest.raises(NotPossible, match="does not know"):
            await engine.similar(version, "no such item", 3, later())
        ease = (await engine.load("ease", models["ease"])).version
        return (
            await engine.similar(version, "item-7", 4, later()),
            await engine.similar(ease, "item-7", 4, later()),
            await engine.explain(ease, Question(5, ("item-1", "item-2", "item-3")), ["item-11", "no such item"], later()),
        )

    by_vectors, by_history, reasons = run(work)
    assert len(by_vectors.items) == len(by_history.items) == 4 and "item-7" not in by_vectors.items
    assert by_vectors.notes == {"by": "vectors"} and by_history.notes == {"by": "history"}
    assert np.all(np.diff(by_vectors.scores) <= 0) and abs(by_vectors.scores[0]) <= 1.0001
    assert [one.item for one in reasons] == ["item-11", "no such item"]
    assert reasons[0].because and not reasons[1].because
    assert all(item in ("item-1", "item-2", "item-3") and weight > 0 for item, weight in reasons[0].because)


def test_diversity_puts_unlike_items_beside_each_other(models: dict[str, Path]) -> None:
    async def work(engine: Engine) -> list[Answer]:
        version = (await engine.load("sas", models["sasrec"])).version
        popular = (await engine.load("popular", models["popular"])).version
        asked = [Question(10, ("item-7", "item-3"), diversity=weight) for weight in (0.0, 0.9)]
        return [*await engine.recommend_many(version, asked, later()), await engine.recommend(popular, asked[1], later())]

    plain, diverse, without_vectors = run(work)
    vectors = open_model(models["sasrec"]).item_vectors()  # type: ignore[attr-defined]

    def likeness(answer: Answer) -> float:
        rows = vectors[[int(item.partition("-")[2]) for item in answer.items]]
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return float((rows @ rows.T)[np.triu_indices(len(rows), 1)].mean())

    assert len(set(diverse.items)) == 10 and diverse.items[0] == plain.items[0]
    assert likeness(diverse) < likeness(plain) - 0.05
    assert without_vectors.notes["diversity"] == "not possible"


def test_new_items_reach_all_workers_and_those_to_come(models: dict[str, Path]) -> None:
    new = [("brand-new", "jazz piano record number 1000"), ("item-1", "it is known already")]

    async def work(engine: Engine) -> None:
        facts = await engine.load("texts", models["textknn"])
        popular = await engine.load("popular", models["popular"])
        assert "extend" in facts.can and "extend" not in popular.can
        with pytest.raises(NotPossible, match="takes no new items"):
            await engine.extend(popular.version, new)
        assert await engine.extend(facts.version, new) == 1
        asked = Question(3, ("item-2",), candidates=("brand-new", "item-3"))
        answers = await asyncio.gather(*(engine.recommend(facts.version, asked, later()) for _ in range(8)))
        assert all("brand-new" in one.items and not one.unknown for one in answers)
        (first, *_) = workers(engine)
        os.kill(first, signal.SIGKILL)
        await until(lambda: engine.busy()["ranking"]["restarts"] == 1)
        await until(lambda: all(facts.version in one.versions for one in engine._ranking.workers) and len(engine._ranking.workers) == 2)
        for worker in engine._ranking.workers:
            frame = {"do": "recommend", "version": facts.version, "questions": [dataclasses.asdict(asked)]}
            assert "brand-new" in (await worker.ask(frame))["ok"][0]["items"]

    run(work, workers=2)


def test_a_deadline_is_kept_and_the_work_is_dropped(models: dict[str, Path]) -> None:
    async def work(engine: Engine) -> None:
        version = (await engine.load("ease", models["ease"])).version
        os.kill(workers(engine)[0], signal.SIGSTOP)  # a worker that hangs
        started = time.perf_counter()
        waiting = asyncio.ensure_future(engine.recommend(version, Question(3), later()))
        with pytest.raises(DeadlineExceeded):
            await engine.recommend(version, Question(3), later(0.2))
        assert time.perf_counter() - started < 0.3
        waiting.cancel()
        await until(lambda: engine.busy()["ranking"]["restarts"] == 1)
        assert engine.busy()["ranking"]["waiting"] == 0
        answer = await engine.recommend(version, Question(3), later())
        assert len(answer.items) == 3

    run(work)


def test_a_question_survives_its_worker(models: dict[str, Path]) -> None:
    async def work(engine: Engine) -> None:
        version = (await engine.load("ease", models["ease"])).version
        (pid,) = workers(engine)
        os.kill(pid, signal.SIGSTOP)
        waiting = [asyncio.ensure_future(engine.recommend(version, Question(3, (f"item-{i}",)), later())) for i in range(1, 6)]
        await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        assert all(len(one.items) == 3 for one in await asyncio.gather(*waiting))
        assert not alive(pid)

    run(work)


def test_more_than_the_queue_holds_is_told_when_to_come_again(models: dict[str, Path]) -> None:
    async def work(engine: Engine) -> None:
        version = (await engine.load("ease", models["ease"])).version
        (pid,) = workers(engine)
        os.kill(pid, signal.SIGSTOP)
        waiting = [asyncio.ensure_future(engine.recommend(version, Question(3), later())) for _ in range(4)]
        await asyncio.sleep(0.01)  # the first is with the worker, three wait
        with pytest.raises(Overloaded) as refused:
            await engine.recommend(version, Question(3), later())
        assert refused.value.retry_after >= 1
        os.kill(pid, signal.SIGCONT)
        assert all(len(one.items) == 3 for one in await asyncio.gather(*waiting))

    run(work, queue=3)


def test_a_damaged_folder_leaves_everything_as_it_was(models: dict[str, Path], tmp_path: Path) -> None:
    folder = save("ease", tmp_path / "broken")
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)

    async def work(engine: Engine) -> None:
        version = (await engine.load("m", models["ease"])).version
        for path, words in ((folder, "damaged"), (tmp_path / "nowhere", "no model folder"), (tmp_path, "not a model folder")):
            with pytest.raises(ModelError, match=words):
                await engine.load("m", path)
        assert list(engine.facts) == [version] and engine.ready()
        assert all(one.versions == {version} for one in engine._ranking.workers)
        assert len((await engine.recommend(version, Question(3), later())).items) == 3
        await engine.unload(version)
        with pytest.raises(UnknownVersion):
            await engine.recommend(version, Question(3), later())

    run(work, workers=2)


@pytest.mark.parametrize(
    ("does", "lacks"),
    [
        ("import tongtu.serve.engine.engine, tongtu.serve.engine.registry", "torch transformers numpy polars scipy"),
        ("from tongtu.serve.engine.opened import prepare; prepare('tongtu.systems.baselines.ease:EASE')", "torch transformers scipy"),
        ("from tongtu.hub import open_model; open_model({sasrec!r})", "transformers scipy accelerate optuna faiss torch._dynamo"),
    ],
)
def test_nothing_is_imported_that_is_not_needed(models: dict[str, Path], does: str, lacks: str) -> None:
    check = f"import sys\n{does.format(sasrec=str(models['sasrec']))}\nfound = set({lacks.split()!r}) & set(sys.modules)\nassert not found, found"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_refusals_keep_their_words(models: dict[str, Path]) -> None:
    async def work(engine: Engine) -> None:
        facts = await engine.load("popular", models["popular"])
        with pytest.raises(TongtuError, match="no version"):
            await engine.recommend("deadbeef-1", Question(3), later())
        assert facts.system == "Popular" and facts.items == 200 and facts.fitted["seed"] == 0 and len(facts.fingerprint) == 64

    run(work)
