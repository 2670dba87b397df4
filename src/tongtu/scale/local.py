"""The engine of one machine: one shard after another, or several at a time in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import ClassVar

from tongtu.core import Answer, Shard


class LocalEngine:
    """Maps a function over shards on this machine; answers come in the order of the shards.

    Args:
        workers: 1 works in this process. More start that many processes, each with a fresh interpreter and its share of the
            processor's cores; function, shards and answers must then be importable and plain.
    """

    name: ClassVar[str] = "local"

    def __init__(self, workers: int = 1) -> None:
        assert workers >= 1
        self.workers = workers

    def map(self, function: Callable[[Shard], Answer], shards: Iterable[Shard]) -> Iterator[Answer]:
        """The function's answer for each shard.

        Raises:
            BrokenProcessPool: If a worker process died.
        """
        if self.workers == 1:
            yield from map(function, shards)
            return
        with ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), _share_cores, (self.workers,)) as pool:
            yield from pool.map(function, shards)


def _share_cores(workers: int) -> None:
    """Threads of many processes that contend for the same cores lose far more than they win."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ["OMP_NUM_THREADS"] = str(max(1, cores // workers))
