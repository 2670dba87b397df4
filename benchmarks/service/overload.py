"""Promise 1: at ten times what it can do, every answer is 200, 429 or 503 with Retry-After, and those that are accepted are hardly slower.

    python benchmarks/service/overload.py

Two kinds of questions: light ones, recommendations, where the front has to turn away thousands a second; and heavy ones, reasons for ten
items, where the workers are what is short. First the service idles at a twentieth of its capacity, then it gets ten times the capacity.
Latencies count from when a request is sent: at ten times the capacity it is whoever asks that runs out of connections.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from _models import random_sasrec
from _questions import heavy_questions, questions
from _server import Kept, Server, begin_load, capacity, load, start, summary, tell, turns, workplace

ALLOWED = {200, 429, 503}
TIMES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--ramp", type=float, default=6)
    options = parser.parse_args()
    kinds = {"light": questions(options.items), "heavy": heavy_questions(options.items)}
    kept: list[Kept] = []
    facts: dict[str, Any] = {}
    with workplace() as folder:
        model = random_sasrec(folder / "shop", options.items)
        for name, asked in kinds.items():
            with start([model], f"sqlite:///{folder / f'{name}.db'}", "--workers", "1", "--set", "log_requests=false") as server:
                facts[name] = found = drill(server, asked, 100 if name == "light" else 2, options)
            kept += judged(name, found)
    tell("overload", __doc__ or "", kept, facts)


def drill(server: Server, asked: list[tuple[str, str, Any]], first: float, options: argparse.Namespace) -> dict[str, Any]:
    able = capacity(server.port, asked, options.ramp, first)
    load(server.port, TIMES * able, options.ramp, asked, connections=256)  # what memory a first rush takes it keeps
    idle = summary(load(server.port, able / 20, max(options.seconds, 200 / able), asked), since_sent=True)
    memory = [server.memory_mb()]
    rush = begin_load(server.port, TIMES * able, options.seconds, asked, connections=256)
    memory += [server.memory_mb() for _ in turns(options.seconds, options.seconds / 10)]
    rows = rush.rows()
    sent_away = [row for row in rows if row[2] in (429, 503)]
    found = {"capacity": able, "offered": TIMES * able, "idle": idle, "rush": summary(rows, since_sent=True), "memory MiB": memory}
    return found | {"without Retry-After": sum(row[3] is None for row in sent_away), "after": server.process.poll() is None}


def judged(name: str, found: dict[str, Any]) -> list[Kept]:
    rush, idle, memory = found["rush"], found["idle"], found["memory MiB"]
    growth = max(memory) / memory[0] - 1
    told = f"{name}, {found['offered']:,.0f}/s offered, {rush['good a second']:,.0f}/s answered"
    return [
        Kept(f"{told}: only 200, 429, 503", json.dumps(rush["statuses"]), {int(one) for one in rush["statuses"]} <= ALLOWED),
        Kept(f"{name}: 429 and 503 say when to come back", f"{found['without Retry-After']} without Retry-After", not found["without Retry-After"]),
        Kept(f"{name}: p99 of accepted at most 3 times that of idle", f"{rush['p99']:.1f} against {idle['p99']:.1f} ms", rush["p99"] <= 3 * idle["p99"]),
        Kept(f"{name}: memory grows under 10 %", f"{growth:+.1%} of {memory[0]:.0f} MiB", growth < 0.1 and found["after"]),
    ]


if __name__ == "__main__":
    main()
