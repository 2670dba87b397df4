"""Promise 5: /health/live answers within 50 ms while all workers are busy; /health/ready is false while warming, draining, or without the store.

    python benchmarks/service/health.py

The store is taken away by stopping its PostgreSQL server; where there is none on the machine, that part is left out and told.
"""

from __future__ import annotations

import argparse
import signal
import time
import urllib.request
from typing import Any

from _models import random_sasrec
from _postgres import Postgres, found
from _questions import heavy_questions
from _server import Kept, Server, begin_load, start, status_of, tell, turns, workplace

LIMIT = 50.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    kept: list[Kept] = []
    facts: dict[str, Any] = {}
    with workplace() as folder:
        model = random_sasrec(folder / "shop", options.items, width=256, blocks=2)
        with start([model], f"sqlite:///{folder / 'store.db'}", "--workers", "1") as server:
            warming = {status for _, status in server.not_ready_seen}
            facts["live"] = live = while_busy(server, options)
            facts["draining"] = draining = after_the_signal(server)
        if found():
            facts["store"] = without_store(model, folder)
    worst, busy = live["max"], live["busy"]
    told = f"p50 {live['p50']:.1f}, max {worst:.1f} ms, busy {busy:.0%}"
    kept += [
        Kept(f"/health/live under {LIMIT:.0f} ms while all workers are busy", told, worst < LIMIT and busy > 0.5),
        Kept("not ready while warming", f"statuses {sorted(warming)}", warming <= {0, 503} and 503 in warming),
        Kept("not ready while draining", f"status {draining}", draining == 503),
    ]
    if "store" in facts:
        gone, back = facts["store"]["gone"], facts["store"]["back"]
        kept.append(Kept("not ready without the store, ready again with it", f"status {gone}, then {back}", gone == 503 and back == 200))
    else:
        print("left out: the store's part, which needs PostgreSQL's programs")
    tell("health", __doc__ or "", kept, facts)


def while_busy(server: Server, options: argparse.Namespace) -> dict[str, float]:
    load = begin_load(server.port, 50, options.seconds + 2, heavy_questions(options.items), connections=64)
    time.sleep(2)
    took, busy = [], []
    for number, _ in enumerate(turns(options.seconds - 1, 0.05)):
        began = time.perf_counter()
        with urllib.request.urlopen(f"{server.url}/health/live", timeout=10) as answer:
            answer.read()
        took.append(1000 * (time.perf_counter() - began))
        if number % 20 == 0:
            busy.append(server.metric("ranking_working") >= 1)
    load.rows()
    ordered = sorted(took)
    return {"p50": ordered[len(ordered) // 2], "max": ordered[-1], "busy": sum(busy) / len(busy), "asked": len(took)}


def after_the_signal(server: Server) -> int:
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    status = status_of(f"{server.url}/health/ready")
    server.process.wait(60)
    return status


def without_store(model: Any, folder: Any) -> dict[str, int]:
    with Postgres(folder / "postgres") as database, start([model], database.url, "--workers", "1") as server:
        database.stop()
        gone = status_within(server, 503)
        database.start()
        return {"gone": gone, "back": status_within(server, 200)}


def status_within(server: Server, wanted: int, seconds: float = 15.0) -> int:
    status = 0
    for _ in turns(seconds, 0.2):
        status = status_of(f"{server.url}/health/ready")
        if status == wanted:
            break
    return status


if __name__ == "__main__":
    main()
