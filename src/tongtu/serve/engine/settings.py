"""How many processes work, how much may wait for them, and from when on search is approximate."""

from __future__ import annotations

import os
from typing import Annotated, Protocol

from pydantic import Field

from tongtu.config import configuration


class Sizes(Protocol):
    """What an engine is told: `EngineSettings`, or the service's settings that hold the same."""

    @property
    def workers(self) -> int: ...
    @property
    def talkers(self) -> int: ...
    @property
    def max_batch(self) -> int: ...
    @property
    def queue(self) -> int: ...
    @property
    def llm(self) -> str | None: ...


def _workers() -> int:
    return min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@configuration
class EngineSettings:
    """Settings of the engine.

    Attributes:
        workers: Processes that answer, of one thread each.
        talkers: Processes for what needs a language model, started when they are first needed.
        max_batch: The most questions that are answered in one go.
        queue: The most questions that may wait.
        llm: The language model of conversations, see `tongtu.llm.model`; None for the model's own or the usual one.
        ann_above: Items from which on the best are searched approximately, where a model's scores are products of vectors.
    """

    workers: Annotated[int, Field(ge=1)] = Field(default_factory=_workers)
    talkers: Annotated[int, Field(ge=1)] = 1
    max_batch: Annotated[int, Field(ge=1)] = 64
    queue: Annotated[int, Field(ge=1)] = 256
    llm: str | None = None
    ann_above: Annotated[int, Field(ge=1)] = 500_000
