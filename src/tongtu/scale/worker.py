"""One step of a comparison in a process of its own: what it uses is what it needed, and if it dies it dies alone.

Run as `python -m tongtu.scale.worker`, it reads a task as JSON from standard input and ends with the outcome as the last
line of standard output.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import tongtu.systems
from tongtu.evaluation.runs import Outcome, Task, execute

_STATUS = Path("/proc/self/status")


def isolated(task: Task) -> Outcome:
    """Do one step in a new process; progress and warnings still appear on standard error."""
    started = time.perf_counter()
    order = json.dumps(dataclasses.asdict(task))
    done = subprocess.run([sys.executable, "-m", "tongtu.scale.worker"], input=order, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        found = json.loads(done.stdout.splitlines()[-1])
        return Outcome(**{**found, "task": task})
    if done.returncode < 0:
        reason = f"its process was ended by {signal.Signals(-done.returncode).name}: if nobody stopped it, memory ran out; use smaller settings"
    else:
        reason = f"its process ended with code {done.returncode}; the reason stands above"
    return Outcome(task, time.perf_counter() - started, error=reason)


def peak_memory_mb() -> float:
    """The largest resident memory of this process since it started, in MiB."""
    if _STATUS.exists():  # getrusage would also count what the parent process used before it started this one
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def end_with_parent(parent: int, every: float = 1.0) -> None:
    """End this process when the one that started it is gone: a comparison that was killed must not go on working unseen."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def main() -> None:
    """Do the step that standard input asks for."""
    end_with_parent(os.getppid())
    task = Task(**json.load(sys.stdin))
    outcome = execute(task, tongtu.systems, peak_memory_mb, quiet=False)
    print(json.dumps(dataclasses.asdict(outcome)), flush=True)


if __name__ == "__main__":
    main()
