"""The engine: every question of the service goes through it, to the processes that hold the models.

All of it runs on the event loop and waits; nothing here computes. Cancelling the task that awaits an answer gives the question up.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from tongtu.files import MANIFEST
from tongtu.serve.engine.jobs import TOGETHER, Job, Waiting
from tongtu.serve.engine.messages import Answer, DeadlineExceeded, ModelFacts, NotPossible, Question, Reasons, UnknownVersion, facts_from, plain, reasons_from
from tongtu.serve.engine.pool import Pool, error_from
from tongtu.serve.engine.settings import EngineSettings, Sizes

_SLOW_ROADS = ("tongtu.systems.prompted.", "tongtu.systems.tuned.")
_ANN_ABOVE = 500_000


class Engine:
    """Opened models in processes of their own, and questions to them.

    Args:
        settings: How many processes, and how much may wait; see `EngineSettings`.
    """

    def __init__(self, settings: Sizes | None = None) -> None:
        self.settings: Sizes = settings or EngineSettings()
        self.facts: dict[str, ModelFacts] = {}
        self._ranking = Pool(self.settings.workers, Waiting(self.settings.queue, self.settings.max_batch))
        self._talking = Pool(self.settings.talkers, Waiting(self.settings.queue, 1))
        self._talks = False
        self._first_talk = asyncio.Lock()
        self._counters: Counter[str] = Counter()

    async def start(self) -> None:
        """Start the workers; models can be loaded at once."""
        await self._ranking.start()

    async def close(self, grace: float = 0.0) -> None:
        """Finish what was accepted, for at most `grace` seconds, and end all processes."""
        await asyncio.gather(self._ranking.close(grace), self._talking.close(grace))

    def ready(self) -> bool:
        """Whether there is a worker for each model."""
        return bool(self._ranking.alive) and all(any(version in one.versions for one in self._pool(version).alive) for version in self.facts)

    async def load(self, name: str, path: str | Path, counter: int | None = None) -> ModelFacts:
        """Open a model beside what is served.

        Args:
            name: What users call it.
            path: Its folder.
            counter: The number at the end of its version; one more than that of the last of this name if None.

        Raises:
            ModelError: If it cannot be opened or does not answer; nothing has changed then.
        """
        folder = Path(path).resolve()
        kind, fingerprint = await asyncio.to_thread(_looked_at, folder)
        number = self._counters[name] + 1 if counter is None else counter
        self._counters[name] = max(self._counters[name], number)
        version = f"{fingerprint[:8] or 'unknown'}-{number}"
        while version in self.facts:
            number = self._counters[name] = self._counters[name] + 1
            version = f"{fingerprint[:8]}-{number}"
        order = {"do": "load", "name": name, "version": version, "path": str(folder), "ann_above": getattr(self.settings, "ann_above", _ANN_ABOVE)}
        if kind.startswith(_SLOW_ROADS):
            await self._start_talking()
            facts = await self._talking.open(order)
        else:
            if kind:
                self._ranking.prepare(kind)
            facts = await self._ranking.open(order)
        self.facts[version] = facts_from(facts)
        return self.facts[version]

    async def unload(self, version: str) -> None:
        """Close a version; questions that still wait for it fail.

        Raises:
            UnknownVersion: If it is not there.
        """
        self._known(version)
        self.forget(version)

    def forget(self, version: str) -> None:
        """Close a version, if it is open."""
        self.facts.pop(version, None)
        self._ranking.forget(version)
        self._talking.forget(version)

    async def recommend(self, version: str, question: Question, deadline: float) -> Answer:
        """The answer to one question.

        Args:
            version: Of the model.
            question: What is asked.
            deadline: Until when, in the loop's time.

        Raises:
            Overloaded, DeadlineExceeded, UnknownVersion, WorkerLost, ModelFailed: Where there is no answer.
            TongtuError: If the model refuses the question.
        """
        (answer,) = await self.recommend_many(version, [question], deadline)
        return answer

    async def recommend_many(self, version: str, questions: Sequence[Question], deadline: float) -> list[Answer]:
        """An answer to each question, all of one version; the first that cannot be answered is an error."""
        facts = self._known(version)
        most = self.settings.max_batch
        parts = [questions[start : start + most] for start in range(0, len(questions), most)]
        asked = [self._ask(TOGETHER, version, {"questions": [plain(one) for one in part]}, deadline) for part in parts]
        found = [await asked[0]] if len(asked) == 1 else await _all(asked)
        answers = [one for part in found for one in part]
        for one in answers:
            if "error" in one:
                raise error_from(one["error"])
        return [_answer(one, facts) for one in answers]

    async def similar(self, version: str, item: str, k: int, deadline: float) -> Answer:
        """The items most like one.

        Raises:
            NotPossible: If the model does not know it.
        """
        facts = self._known(version)
        return _answer(await self._ask("similar", version, {"item": item, "k": k}, deadline), facts)

    async def explain(self, version: str, question: Question, items: Sequence[str], deadline: float) -> list[Reasons]:
        """Why each of the items would be recommended."""
        self._known(version)
        found = await self._ask("explain", version, {"question": plain(question), "items": list(items)}, deadline)
        return [reasons_from(one) for one in found]

    async def extend(self, version: str, items: Sequence[tuple[str, str]]) -> int:
        """Let a model know further items, each an id and a text, in all workers now and to come; how many were new to it.

        Raises:
            NotPossible: If it takes none.
        """
        facts = self._known(version)
        if "extend" not in facts.can:
            raise NotPossible(f"the model {facts.name} takes no new items: fit it again with them, or ask a model that reads texts")
        given = [list(one) for one in items]
        added = await self._pool(version).extend(version, given)
        if self._pool(version) is not self._talking and version in self._talking.orders:
            await self._talking.extend(version, given)
        return added

    async def talk(self, version: str, question: Question, text: str, state: dict[str, Any] | None, deadline: float) -> AsyncIterator[dict[str, Any]]:
        """One turn of a conversation: stages first, {"stage": ...}, then the reply with its items, why it is degraded, and the state to go on with.

        Args:
            version: Of the model that recommends.
            question: Who talks: history, attributes, what to forget.
            text: What they say.
            state: What the turn before ended with, None for the first.
            deadline: Until when, in the loop's time.
        """
        facts = self._known(version)
        if "chat" not in facts.can:
            raise NotPossible(f"the model {facts.name} has no titles or texts to talk about: fit it on a data set that has them")
        stages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        body = {"question": plain(question), "text": text, "state": state, "llm": self.settings.llm, "seconds": deadline - asyncio.get_running_loop().time()}
        work = asyncio.ensure_future(self._turn(version, body, deadline, stages))
        try:
            while (part := await stages.get()) is not None:
                yield part
            yield await work
        finally:
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work
            elif not work.cancelled():
                work.exception()

    def busy(self) -> dict[str, Any]:
        """What a look at the engine shows: for each kind of worker how many there are, how many work, were replaced, and what waits."""
        return {name: _seen(pool) for name, pool in (("ranking", self._ranking), ("talking", self._talking))}

    async def _turn(self, version: str, body: dict[str, Any], deadline: float, stages: asyncio.Queue[dict[str, Any] | None]) -> dict[str, Any]:
        try:
            async with _until(deadline):
                if version not in self._talking.orders:
                    stages.put_nowait({"stage": "opening"})
                    await self._open_for_talk(version)
            found: dict[str, Any] = await self._ask("talk", version, body, deadline, stages.put_nowait, self._talking)
            return found
        finally:
            stages.put_nowait(None)

    async def _open_for_talk(self, version: str) -> None:
        await self._start_talking()
        async with self._first_talk:
            if version not in self._talking.orders:
                self._talking.further[version] = list(self._ranking.further.get(version, []))
                await self._talking.open(self._ranking.orders[version])

    async def _start_talking(self) -> None:
        if not self._talks:
            self._talks = True
            await self._talking.start()

    async def _ask(self, do: str, version: str, body: dict[str, Any], deadline: float, part: Any = None, pool: Pool | None = None) -> Any:
        pool = pool or self._pool(version)
        job = Job(do, version, body, part=part)
        try:
            async with _until(deadline):
                pool.submit(job)
                return await job.done
        finally:
            if not job.done.done() or job.done.cancelled():
                job.done.cancel()
                pool.give_up(job)

    def _known(self, version: str) -> ModelFacts:
        if version not in self.facts:
            raise UnknownVersion(f"no version {version!r} is served: ask without naming it, or see GET /v1/models")
        return self.facts[version]

    def _pool(self, version: str) -> Pool:
        return self._ranking if version in self._ranking.orders else self._talking


@contextlib.asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise DeadlineExceeded("no answer within the time allowed: ask again, for fewer items or with a faster model") from None


async def _all(asked: Sequence[Any]) -> list[Any]:
    """What comes of all; the first error cancels the rest."""
    tasks = [asyncio.ensure_future(one) for one in asked]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _looked_at(folder: Path) -> tuple[str, str]:
    """The class that a folder names and the SHA-256 of its manifest, "" where it has none: whether it is any good is for a worker to say."""
    try:
        kind = str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["class"])
        return kind, hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


def _answer(found: dict[str, Any], facts: ModelFacts) -> Answer:
    return Answer(
        tuple(found["items"]), tuple(found["scores"]), tuple(found["unknown"]), found["notes"], model=facts.name, version=facts.version, ms=found["ms"]
    )


def _seen(pool: Pool) -> dict[str, Any]:
    return {
        "workers": pool.size,
        "alive": len(pool.alive),
        "working": sum(bool(one.jobs) for one in pool.workers),
        "restarts": pool.restarts,
        "waiting": pool.waiting.weight,
        "batch_sizes": dict(sorted(pool.sizes.items())),
    }
