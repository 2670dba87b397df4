"""What waits for a worker, and what of it goes to one together."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any

from tongtu.serve.engine.frames import Frame
from tongtu.serve.engine.messages import Overloaded

TOGETHER = "recommend"  # the kind of work of which many pieces make one call of the model

_FORGET = 0.9


@dataclass(eq=False)
class Job:
    """One piece of work for a model.

    Attributes:
        do: Its kind.
        version: The model that is to do it.
        body: What else the frame says; `questions` where the kind is `TOGETHER`.
        done: What comes of it; when it is cancelled, nobody waits any more.
        part: Takes what comes before the end, where the work tells of its stages.
        tried: How often a worker died of it, or with it.
    """

    do: str
    version: str
    body: dict[str, Any]
    done: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    part: Callable[[Frame], None] | None = None
    tried: int = 0

    @property
    def weight(self) -> int:
        """How many questions it holds."""
        return len(self.body["questions"]) if self.do == TOGETHER else 1


class Waiting:
    """Jobs in the order they came; those that are given up leave at once.

    Args:
        limit: The most questions that may wait.
        together: The most that go to a worker at once.
    """

    def __init__(self, limit: int, together: int) -> None:
        self.limit, self.together = limit, together
        self._jobs: OrderedDict[int, Job] = OrderedDict()
        self.weight = 0
        self._seconds_each = 0.0

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: Job) -> None:
        """Let a job wait.

        Raises:
            Overloaded: If there is no room.
        """
        if self._jobs and self.weight + job.weight > self.limit:
            raise Overloaded(self.weight, max(1.0, self.weight * self._seconds_each))
        self._add(job, first=False)

    def put_back(self, job: Job) -> None:
        """Let a job that lost its worker wait before all others."""
        self._add(job, first=True)

    def drop(self, job: Job) -> None:
        """Forget a job, if it waits here."""
        if self._jobs.pop(id(job), None) is not None:
            self.weight -= job.weight

    def take(self, versions: Container[str]) -> list[Job]:
        """The jobs that a worker which holds `versions` does next: the first that it can do, and what can be done in one go with it."""
        chosen: list[Job] = []
        weight = 0
        for job in self._jobs.values():
            if not chosen:
                if job.version in versions:
                    chosen, weight = [job], job.weight
                    if job.do != TOGETHER:
                        break
            elif job.do == TOGETHER and job.version == chosen[0].version and weight + job.weight <= self.together:
                chosen.append(job)
                weight += job.weight
            if weight >= self.together:
                break
        for job in chosen:
            self.drop(job)
        return chosen

    def all(self) -> list[Job]:
        """All jobs, in order."""
        return list(self._jobs.values())

    def of_version(self, version: str) -> list[Job]:
        """The jobs that wait for one version."""
        return [job for job in self._jobs.values() if job.version == version]

    def learn(self, questions: int, seconds: float, workers: int) -> None:
        """Remember how long questions take, to tell those who find no room when to come again."""
        each = seconds / max(questions, 1) / max(workers, 1)
        self._seconds_each = each if not self._seconds_each else _FORGET * self._seconds_each + (1 - _FORGET) * each

    def _add(self, job: Job, first: bool) -> None:
        self._jobs[id(job)] = job
        if first:
            self._jobs.move_to_end(id(job), last=False)
        self.weight += job.weight
