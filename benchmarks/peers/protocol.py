"""What both sides of a speed comparison share: the same log, the same held-out items, the same clock, the same lines of output.

It needs NumPy alone, since each side runs in an environment of its own. A run prints JSON lines to standard output:

    {"event": "start", ...}     versions, sizes, settings
    {"event": "trial", ...}     seconds of an epoch, from a part of one (only with --trial)
    {"event": "epoch", ...}     one an epoch: seconds of training and of evaluation, R@10 and N@10 on the validation items
    {"event": "end", ...}       why it ended, seconds, peak memory
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CUTOFF = 10


@dataclass(frozen=True)
class Log:
    """Events grouped by user, oldest first; users and items are 1, 2, ...; user u owns `item[offset[u - 1]:offset[u]]`."""

    item: np.ndarray
    offset: np.ndarray
    items: int

    @property
    def users(self) -> int:
        return len(self.offset) - 1

    def held_out(self) -> tuple[Log, np.ndarray, np.ndarray]:
        """What to learn from, and the users and validation items to be found.

        Leave-one-out: the last event of each user with three or more is the test item (unused here), the one before it the
        validation item; the rest is for training.
        """
        length = np.diff(self.offset)
        user = np.flatnonzero(length >= 3) + 1
        place = self.offset[user] - 2
        keep = np.ones(len(self.item), bool)
        keep[place] = keep[place + 1] = False
        kept = np.concatenate([[0], np.cumsum(keep)])
        return Log(self.item[keep], kept[self.offset], self.items), user, self.item[place]


def read_log(path: Path) -> Log:
    """A CSV file with columns user_id, item_id, position."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(row["user_id"], row["item_id"], int(row["position"])) for row in csv.DictReader(file)]
    _, user = np.unique([row[0] for row in rows], return_inverse=True)
    items, item = np.unique([row[1] for row in rows], return_inverse=True)
    order = np.lexsort(([row[2] for row in rows], user))
    return Log(item[order] + 1, np.concatenate([[0], np.cumsum(np.bincount(user))]), len(items))


def arguments(description: str) -> argparse.ArgumentParser:
    """The arguments both sides take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("log", type=Path, help="CSV file with columns user_id, item_id, position")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", type=float, default=float("inf"), help="stop when R@10 reaches this")
    parser.add_argument("--limit", type=float, default=float("inf"), help="stop after the epoch in which this many seconds have passed")
    return parser


class Course:
    """The clock of one run. `begin` before the fit, `epoch` after each epoch; evaluation never counts as training."""

    def __init__(self, options: argparse.Namespace, targets: np.ndarray) -> None:
        self.options, self.targets = options, targets
        self.epochs, self.trained, self.preparation = 0, 0.0, 0.0
        self.reason = "epochs"

    def begin(self) -> None:
        """The fit starts now."""
        self.started = self.mark = time.perf_counter()

    def prepared(self) -> None:
        """What was done since `begin` was preparation; the first epoch starts now."""
        self.preparation = self._lap()

    def epoch(self, loss: float | None, lists: Callable[[], np.ndarray]) -> bool:
        """Takes the time of an epoch, then that of `lists` (item codes [cases, 10], best first). True: time to stop."""
        seconds = self._lap()
        self.trained += seconds
        self.epochs += 1
        best = lists()
        evaluation = self._lap()
        found = best == self.targets[:, None]
        recall, ndcg = float(found.any(1).mean()), float((found / np.log2(np.arange(CUTOFF) + 2)).sum(1).mean())
        wall = time.perf_counter() - self.started
        emit(
            "epoch",
            epoch=self.epochs,
            train_seconds=seconds,
            seconds_so_far=self.preparation + self.trained,
            wall_seconds=wall,
            evaluate_seconds=evaluation,
            loss=loss,
            **{"recall@10": recall, "ndcg@10": ndcg},
        )
        if recall >= self.options.target:
            self.reason = "target"
        elif wall >= self.options.limit:
            self.reason = "limit"
        else:
            return False
        return True

    def end(self) -> None:
        """The last line."""
        emit("end", reason=self.reason, epochs=self.epochs, preparation_seconds=self.preparation, peak_memory_mb=peak_memory_mb())

    def _lap(self) -> float:
        now = time.perf_counter()
        self.mark, last = now, self.mark
        return now - last


def emit(event: str, **facts: Any) -> None:
    """One line."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def peak_memory_mb() -> float:
    """Largest resident size of this process. From /proc: the `ru_maxrss` of a child starts at its parent's size."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
