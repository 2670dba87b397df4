"""What the drills of the service share: starting and stopping it, what it holds of memory and descriptors, load, and how promises are told.

Where the machine has two cores and `taskset`, the service gets the last core and whoever asks the first, so that the figures are those of one core.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))

from _record import write

PACKAGES = ("fastapi", "httptools", "numpy", "sqlalchemy", "torch", "uvicorn", "uvloop")
_TREE = 600.0  # seconds that a start may take on a slow machine

Row = list[Any]
"""Second it was due, milliseconds, status, Retry-After, version, first item, milliseconds since it was sent; see `_load`."""


def cores(which: int) -> list[str]:
    """The beginning of a command that runs on one core: 0 for whoever asks, 1 for the service. Nothing where that is not possible."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(allowed) < 2 or shutil.which("taskset") is None:
        return []
    return ["taskset", "-c", str(allowed[0] if which == 0 else allowed[-1])]


@dataclass
class Server:
    """A running service."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    started: float
    ready_seconds: float = float("nan")
    not_ready_seen: list[tuple[float, int]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGTERM)
        self.log.unlink(missing_ok=True)

    def wait_ready(self, patience: float = _TREE) -> float:
        """Seconds from the start until it is ready; what /health/ready said before is kept in `not_ready_seen`."""
        while time.monotonic() - self.started < patience:
            if self.process.poll() is not None:
                raise SystemExit(f"the service ended while it started:\n{self.log.read_text(errors='replace')[-2000:]}")
            status = status_of(f"{self.url}/health/ready")
            if status == 200:
                self.ready_seconds = time.monotonic() - self.started
                return self.ready_seconds
            self.not_ready_seen.append((time.monotonic() - self.started, status))
            time.sleep(0.02)
        raise SystemExit(f"the service was not ready within {patience:.0f} s:\n{self.log.read_text(errors='replace')[-2000:]}")

    def stop(self, sign: int = signal.SIGTERM, patience: float = 60.0) -> tuple[int, float]:
        """Exit status, and seconds until it had ended."""
        began = time.monotonic()
        self.process.send_signal(sign)
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise SystemExit(f"the service did not end within {patience:.0f} s") from None
        return status, time.monotonic() - began

    def kill(self) -> None:
        """kill -9 for the front and all its workers at once, as when the machine dies."""
        for pid in self.tree():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.log.unlink(missing_ok=True)

    def tree(self) -> list[int]:
        """The process ids of the front and everything below it."""
        found, at = [self.process.pid], 0
        while at < len(found):
            for file in Path(f"/proc/{found[at]}/task").glob("*/children"):
                try:
                    found += [int(child) for child in file.read_text().split()]
                except OSError:
                    continue
            at += 1
        return found

    def memory_mb(self) -> float:
        """Proportional memory of the whole tree, in MiB: what workers share counts once."""
        total = 0
        for pid in self.tree():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            except (OSError, StopIteration):
                continue
        return total / 1024

    def descriptors(self) -> int:
        """Open file descriptors of the whole tree."""
        total = 0
        for pid in self.tree():
            with suppress(OSError):
                total += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        return total

    def metric(self, name: str) -> float:
        """A figure of /metrics, 0 where it is not there."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"tongtu_{name} ")), 0.0)


def start(models: Sequence[str | Path], store: str, *more: str, ready: bool = True, core: bool = True) -> Server:
    """Start `tongtu serve`.

    Args:
        models: Folders, "name=folder" or the folder.
        store: URL of the event store.
        more: Further arguments.
        ready: Whether to wait until it is.
        core: Whether it gets one core alone.
    """
    port = free_port()
    log = Path(tempfile.mkstemp(prefix="tongtu-serve-", suffix=".log")[1])
    command = [*(cores(1) if core else []), sys.executable, "-m", "tongtu", "serve", *map(str, models), "--port", str(port), "--store", store, *more]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    server = Server(process, port, log, time.monotonic())
    if ready:
        try:
            server.wait_ready()
        except BaseException:
            server.kill()
            raise
    return server


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def status_of(url: str, timeout: float = 5.0) -> int:
    """The status of a GET, 0 where there is no answer."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@dataclass
class Load:
    """Load that is under way."""

    process: subprocess.Popen[bytes]
    requests: Path

    def rows(self) -> list[Row]:
        """Every answer, once all are there."""
        out, _ = self.process.communicate()
        self.requests.unlink(missing_ok=True)
        if self.process.returncode:
            raise SystemExit("the load generator failed")
        return sorted(json.loads(out))


def begin_load(
    port: int,
    rate: float,
    seconds: float,
    requests: Sequence[tuple[str, str, Any]],
    connections: int = 32,
    patience: float = 10.0,
    heed_ready: bool = False,
) -> Load:
    """Start open-loop load of `rate` requests a second, until the service is not ready if that is heeded."""
    file = Path(tempfile.mkstemp(prefix="tongtu-load-", suffix=".json")[1])
    file.write_text(json.dumps([list(one) for one in requests]))
    command = [*cores(0), sys.executable, str(Path(__file__).with_name("_load.py")), "--port", str(port), "--rate", str(rate), "--seconds", str(seconds)]
    command += ["--requests", str(file), "--connections", str(connections), "--patience", str(patience)]
    if heed_ready:
        command.append("--heed-ready")
    return Load(subprocess.Popen(command, stdout=subprocess.PIPE), file)


def load(port: int, rate: float, seconds: float, requests: Sequence[tuple[str, str, Any]], connections: int = 32, patience: float = 10.0) -> list[Row]:
    """Every answer to open-loop load of `rate` requests a second."""
    return begin_load(port, rate, seconds, requests, connections, patience).rows()


def summary(rows: Sequence[Row], since_sent: bool = False) -> dict[str, Any]:
    """Answers by status, and the latencies of the good ones (200, 201) in milliseconds, from when they were due or, if so wanted, were sent."""
    statuses = Counter(row[2] for row in rows)
    good = np.array([row[6 if since_sent else 1] for row in rows if row[2] in (200, 201)])
    cuts = {name: float(np.percentile(good, at)) if len(good) else float("nan") for name, at in (("p50", 50), ("p90", 90), ("p99", 99), ("max", 100))}
    seconds = max((row[0] for row in rows), default=0.0) or 1.0
    return {"requests": len(rows), "statuses": {str(key): n for key, n in sorted(statuses.items())}, "good a second": len(good) / seconds, **cuts}


def capacity(port: int, requests: Sequence[tuple[str, str, Any]], seconds: float, first: float = 50.0, most: float = 5_000.0) -> float:
    """The most requests a second that are answered without falling behind: doubled or halved until it is between two rates, then that is halved four times.

    Falling behind: under 98 % answered well or, in the last fifth, a median latency above 100 ms and above five times that of single requests.
    """
    alone = summary(load(port, 2, max(seconds, 4), requests))["p50"]
    limit = max(100.0, 5 * alone)

    def holds(rate: float) -> bool:
        rows = load(port, rate, seconds, requests, connections=64)
        late = [row[1] for row in rows[int(0.8 * len(rows)) :]]
        time.sleep(0.5)
        return sum(row[2] in (200, 201) for row in rows) >= 0.98 * len(rows) and float(np.median(late)) <= limit

    low, high = 0.0, first
    while high <= most and holds(high):
        low, high = high, 2 * high
    while not low:
        if high < 1:
            raise SystemExit("the service falls behind at one request a second: the machine is too busy for this drill")
        low, high = (high / 2, high) if holds(high / 2) else (0.0, high / 2)
    for _ in range(4):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class Kept:
    """A promise, what was measured of it, and whether it is kept."""

    promise: str
    measured: str
    kept: bool


def tell(name: str, claim: str, promises: Sequence[Kept], facts: dict[str, Any]) -> None:
    """Print the table, write `results/service_NAME.json`, and end with 1 where a promise is not kept."""
    rows = [{"promise": one.promise, "measured": one.measured, "kept": bool(one.kept)} for one in promises]
    write(f"service_{name}", {"claim": claim.split("\n", 1)[0], "promises": rows, **facts}, PACKAGES)
    print("| promise | measured | kept |\n|---|---|---|")
    for one in promises:
        print(f"| {one.promise} | {one.measured} | {'yes' if one.kept else 'NO'} |")
    sys.stdout.flush()
    if not all(one.kept for one in promises):
        raise SystemExit(1)


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for models and stores that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="tongtu-service-") as folder:
        yield Path(folder)


def turns(seconds: float, every: float) -> Iterator[float]:
    """The seconds since now at which to look, until they are over."""
    began = time.monotonic()
    for number in itertools.count():
        wait = began + number * every - time.monotonic()
        if number * every > seconds:
            return
        time.sleep(max(0.0, wait))
        yield time.monotonic() - began
