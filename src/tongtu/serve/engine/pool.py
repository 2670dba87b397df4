"""Workers of one kind: work goes to whoever is free, and a worker that died, or works for nobody, is replaced."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tongtu.errors import ModelError, TongtuError
from tongtu.serve.engine import messages
from tongtu.serve.engine.frames import Frame
from tongtu.serve.engine.jobs import TOGETHER, Job, Waiting
from tongtu.serve.engine.messages import ModelFailed, ServeError, UnknownVersion, WorkerLost
from tongtu.serve.engine.process import WorkerProcess

FOR_NOBODY = 0.15  # seconds that a worker may go on with what nobody waits for
_TRIES = 2
_YOUNG = 5.0  # a worker that dies within so many seconds is not replaced at once
_PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)

log = logging.getLogger("tongtu.serve.engine")


class Pool:
    """Some workers, and what waits for them.

    Args:
        size: How many workers.
        waiting: Where work waits.

    Attributes:
        orders: What each worker must have opened, by version: the frames that say so.
        further: Items that versions were extended by since, each an id and a text.
        restarts: How many workers were replaced.
        sizes: How often how many questions went to a worker together.
    """

    def __init__(self, size: int, waiting: Waiting) -> None:
        self.size, self.waiting = size, waiting
        self.workers: list[WorkerProcess] = []
        self.orders: dict[str, Frame] = {}
        self.further: dict[str, list[Sequence[str]]] = {}
        self.restarts = 0
        self.sizes: Counter[int] = Counter()
        self._closing = False
        self._died_young = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start the workers; they get ready while this returns."""
        for _ in range(self.size):
            await self._start_one()

    async def close(self, grace: float) -> None:
        """Finish what was accepted, for at most `grace` seconds, and end all workers."""
        until = time.monotonic() + grace
        while (len(self.waiting) or any(one.jobs for one in self.workers)) and time.monotonic() < until:
            await asyncio.sleep(0.01)
        self._closing = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*(one.close(1.0) for one in list(self.workers)))
        for job in self.waiting.all():
            self.waiting.drop(job)
            _fail(job, WorkerLost("the service is stopping: ask again in a moment"))

    def submit(self, job: Job) -> None:
        """Let a job be done.

        Raises:
            Overloaded: If too many wait.
        """
        self.waiting.put(job)
        self._dispatch()

    def give_up(self, job: Job) -> None:
        """Nobody waits for this job any more: it leaves the queue, and a worker that does nothing else is soon ended."""
        self.waiting.drop(job)
        for worker in self.workers:
            if job in worker.jobs and _for_nobody(worker.jobs):
                asyncio.get_running_loop().call_later(FOR_NOBODY, self._end, worker, worker.jobs)

    async def open(self, order: Frame) -> Frame:
        """Open a model in one worker, and if that goes well in all others; its facts.

        Raises:
            ModelError: If it cannot be opened; then no worker has it.
        """
        answer = await self._first_opened(order)
        if "error" in answer:
            raise _unopened(order, answer["error"])
        facts: Frame = answer["ok"]
        version = order["version"]
        self.orders[version] = {**order, "fingerprint": facts["fingerprint"]}
        others = [one for one in self.workers if one.ready.done() and version not in one.versions | one.loading]
        answers = await asyncio.gather(*(self._load(one, self.orders[version]) for one in others), return_exceptions=True)
        for found in answers:  # one whose process is gone will be opened by the next
            if isinstance(found, dict) and "error" in found:
                self.forget(version)
                raise _unopened(order, found["error"])
        return facts

    def forget(self, version: str) -> None:
        """Drop a version everywhere; what still waits for it fails."""
        self.orders.pop(version, None)
        self.further.pop(version, None)
        for job in self.waiting.of_version(version):
            self.waiting.drop(job)
            _fail(job, UnknownVersion(f"the version {version} is no longer served: ask again without naming it"))
        for worker in self.workers:
            if version in worker.versions:
                worker.versions.discard(version)
                worker.ask({"do": "unload", "version": version})

    async def extend(self, version: str, items: Sequence[Sequence[str]]) -> int:
        """Add items to a version in all workers; how many were new to it.

        Raises:
            ServeError: If it takes none.
        """
        holders = [one for one in self.workers if version in one.versions]
        self.further.setdefault(version, []).extend(items)
        asked = [one.ask({"do": "extend", "version": version, "items": items}) for one in holders]
        answers = [found for found in await asyncio.gather(*asked, return_exceptions=True) if isinstance(found, dict)]
        for found in answers:
            if "error" in found:
                del self.further[version][-len(items) :]
                raise error_from(found["error"])
        return max((found["ok"] for found in answers), default=0)

    def prepare(self, kind: str) -> None:
        """Let all workers import what models of a class need."""
        for worker in self.workers:
            worker.ask({"do": "prepare", "class": kind})

    @property
    def alive(self) -> list[WorkerProcess]:
        """The workers that can be asked."""
        return [one for one in self.workers if one.ready.done() and not one.gone]

    async def _start_one(self) -> None:
        worker = WorkerProcess(self._lost)
        self.workers.append(worker)
        await worker.start()
        self._task(self._bring_up(worker))

    async def _bring_up(self, worker: WorkerProcess) -> None:
        """Let a new worker open all that the others have."""
        if not await worker.ready:
            return
        while missing := [order for version, order in self.orders.items() if version not in worker.versions | worker.loading | worker.refused]:
            try:
                answer = await self._load(worker, missing[0])
            except ConnectionError:
                return
            if "error" in answer:
                worker.refused.add(missing[0]["version"])
                log.error("a new worker cannot open %s: %s", missing[0]["version"], answer["error"]["message"])
        self._dispatch()

    async def _first_opened(self, order: Frame) -> Frame:
        for _ in range(_TRIES):
            try:
                return await self._load(await self._any(), order, first=True)
            except ConnectionError:
                continue
        raise ModelError(f"{order['path']}: the process that opened it died, so it is not served: give the machine more memory, or fit a smaller model")

    async def _any(self) -> WorkerProcess:
        """A worker that can be asked, as soon as there is one."""
        while not self._closing:
            if self.alive:
                return min(self.alive, key=lambda one: len(one.loading))
            await asyncio.wait([one.ready for one in self.workers] or [asyncio.ensure_future(asyncio.sleep(0.05))], timeout=0.1)
        raise ModelError("the service is stopping: nothing new is opened")

    async def _load(self, worker: WorkerProcess, order: Frame, first: bool = False) -> Frame:
        version = order["version"]
        worker.loading.add(version)
        try:
            answer: Frame = await worker.ask(order)
            added = 0
            while "ok" in answer and (more := self.further.get(version, [])[added:]):
                await worker.ask({"do": "extend", "version": version, "items": more})
                added += len(more)
        finally:
            worker.loading.discard(version)
        if "ok" in answer and (first or version in self.orders):
            worker.versions.add(version)
            self._dispatch()
        elif "ok" in answer:  # it was forgotten meanwhile
            worker.ask({"do": "unload", "version": version})
        return answer

    def _dispatch(self) -> None:
        """Give work to everyone who is free."""
        if not len(self.waiting):
            return
        for worker in self.workers:
            if not worker.jobs and worker.versions and not worker.gone and (jobs := self.waiting.take(worker.versions)):
                self._send(worker, jobs)

    def _send(self, worker: WorkerProcess, jobs: list[Job]) -> None:
        first = jobs[0]
        body = {"questions": [one for job in jobs for one in job.body["questions"]]} if first.do == TOGETHER else first.body
        self.sizes[sum(job.weight for job in jobs)] += 1
        worker.jobs, worker.since = jobs, time.monotonic()
        answer = worker.ask({"do": first.do, "version": first.version, **body}, first.part)
        answer.add_done_callback(lambda done: self._done(worker, jobs, done))

    def _done(self, worker: WorkerProcess, jobs: list[Job], answer: asyncio.Future[Frame]) -> None:
        worker.jobs = []
        if answer.cancelled() or answer.exception() is not None:
            for job in reversed(jobs):
                self._again(job)
        else:
            self.waiting.learn(sum(job.weight for job in jobs), time.monotonic() - worker.since, len(self.alive))
            _deliver(jobs, answer.result())
        self._dispatch()

    def _again(self, job: Job) -> None:
        """A job whose worker died is tried once more; its second death may be its own doing."""
        job.tried += 1
        if job.done.done():
            return
        if job.tried < _TRIES and not self._closing:
            self.waiting.put_back(job)
        else:
            _fail(job, WorkerLost("the process that worked on this died, twice: see the service's log"))

    def _end(self, worker: WorkerProcess, jobs: list[Job]) -> None:
        if worker.jobs is jobs and _for_nobody(jobs) and not worker.gone:
            log.info("worker %d worked for nobody and is replaced", worker.pid)
            worker.kill()

    def _lost(self, worker: WorkerProcess) -> None:
        self.workers.remove(worker)
        if not self._closing:
            self.restarts += 1
            self._died_young = self._died_young + 1 if time.monotonic() - worker.started < _YOUNG else 0
            self._task(self._replace(worker, _PAUSES[min(self._died_young, len(_PAUSES) - 1)]))

    async def _replace(self, worker: WorkerProcess, pause: float) -> None:
        await worker.reaped()
        await asyncio.sleep(pause)
        await self._start_one()

    def _task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def error_from(told: Mapping[str, str]) -> TongtuError:
    """The error that a worker told of."""
    kind = getattr(messages, told["kind"], None)
    if isinstance(kind, type) and issubclass(kind, ServeError) and kind is not messages.Overloaded:
        return kind(told["message"])
    import tongtu.errors

    known = getattr(tongtu.errors, told["kind"], None)
    if isinstance(known, type) and issubclass(known, TongtuError) and known is not tongtu.errors.MissingExtra:
        return known(told["message"])
    return ModelFailed(told["message"])


def _unopened(order: Frame, told: Mapping[str, str]) -> TongtuError:
    """Why a model was not opened, in any case an error of its folder."""
    error = error_from(told)
    return ModelError(f"{order['path']} cannot be opened: {error}") if isinstance(error, ServeError) else error


def _deliver(jobs: list[Job], frame: Frame) -> None:
    """Give each job its part of what a worker answered."""
    if "error" in frame:
        for job in jobs:
            _fail(job, error_from(frame["error"]))
        return
    found = frame["ok"]
    for job in jobs:
        part, found = (found[: job.weight], found[job.weight :]) if job.do == TOGETHER else (found, found)
        if not job.done.done():
            job.done.set_result(part)


def _fail(job: Job, error: Exception) -> None:
    if not job.done.done():
        job.done.set_exception(error)


def _for_nobody(jobs: Sequence[Job]) -> bool:
    return bool(jobs) and all(job.done.done() for job in jobs)
