"""Promise 3: after SIGTERM under load the service says at once that it is not ready, drops no request that it accepted, and ends with 0 within 20 s.

    python benchmarks/service/drain.py

The load behaves as a balancer does: it asks for readiness ten times a second and sends nothing more once that is over. In a last round it goes on sending; then
the system may have taken connections that the service never saw, and how many were reset is told, not judged.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from typing import Any

from _load import BROKEN, LATE
from _models import random_sasrec
from _questions import questions
from _server import Kept, begin_load, start, status_of, summary, tell, workplace

LIMIT, AT_ONCE = 20.0, 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--before", type=float, default=3, help="seconds of load before the signal")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-blind", dest="blind", action="store_false", help="leave the last round out")
    options = parser.parse_args()
    rounds = []
    with workplace() as folder:
        model = random_sasrec(folder / "shop", options.items)
        for _ in range(options.rounds):
            rounds.append(stopped_under_load(model, f"sqlite:///{folder / 'store.db'}", options))
        blind = stopped_under_load(model, f"sqlite:///{folder / 'store.db'}", options, heed_ready=False) if options.blind else None
    lost = sum(one["lost"] for one in rounds)
    answered = sum(one["answered"] for one in rounds)
    said = max(one["not ready after"] for one in rounds)
    slowest = max(one["seconds"] for one in rounds)
    kept = [
        Kept(f"not ready within {AT_ONCE} s of the signal", f"{1000 * said:.0f} ms", said <= AT_ONCE),
        Kept("no accepted request is dropped", f"{lost} lost, {answered:,} answered in {options.rounds} stops at {options.rate:g}/s", lost == 0),
        Kept("exit 0", str([one["status"] for one in rounds]), all(one["status"] == 0 for one in rounds)),
        Kept(f"ended within {LIMIT:.0f} s", f"{slowest:.1f} s", slowest <= LIMIT),
    ]
    tell("drain", __doc__ or "", kept, {"rate": options.rate, "rounds": rounds, "without a balancer": blind})


def stopped_under_load(model: Any, store: str, options: argparse.Namespace, heed_ready: bool = True) -> dict[str, Any]:
    with start([model], store, "--workers", "1") as server:
        load = begin_load(server.port, options.rate, options.before + 4, questions(options.items), heed_ready=heed_ready)
        time.sleep(options.before + 1)  # the load's own start takes a moment
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        while status_of(f"{server.url}/health/ready", 1) == 200:
            time.sleep(0.005)
        not_ready = time.monotonic() - began
        status = server.process.wait(60)
        seconds = time.monotonic() - began
        rows = load.rows()
    lost = [row for row in rows if row[2] in (BROKEN, LATE) or (row[2] >= 500 and row[2] != 503)]
    answered = sum(row[2] == 200 for row in rows)
    who, answers = "heeding" if heed_ready else "not heeding", json.dumps(summary(rows)["statuses"])
    print(f"{who} readiness: not ready after {1000 * not_ready:.0f} ms, ended after {seconds:.1f} s: {answers}", flush=True)
    return {"not ready after": not_ready, "seconds": seconds, "status": status, "lost": len(lost), "answered": answered, "statuses": summary(rows)["statuses"]}


if __name__ == "__main__":
    main()
