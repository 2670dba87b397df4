"""Top ten of 100,000 items through HTTP at 400 requests a second on one core: p50 at most 5 ms, p99 at most 20 ms.

    python benchmarks/service/load.py

A SASRec of width 64 answers histories of 1 to 50 items; front and worker share one core, whoever asks has the other. Measured twice: with open-loop load of our
own (`_load.py`: latencies from the moment a request was due, every request another history), and with autocannon (through npx, one request again and
again, its correction for omitted requests on). Then the rate is raised until the service falls behind. Beside it, in the same run,
stands a plain FastAPI handler with the same weights (`plain_handler.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _models import random_sasrec
from _questions import questions
from _server import Kept, Server, capacity, cores, free_port, load, start, summary, tell, workplace

AUTOCANNON = "autocannon@9.0.0"
P50, P99 = 5.0, 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=400)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--ramp", type=float, default=8, help="seconds of each step of the search for the highest rate; 0 leaves it out")
    parser.add_argument("--no-autocannon", action="store_true", help="where npx cannot get it")
    options = parser.parse_args()
    asked = questions(options.items)
    with workplace() as folder:
        model = random_sasrec(folder / "shop", options.items)
        store = f"sqlite:///{folder / 'store.db'}"
        with start([model], store, "--workers", "1", "--set", "log_requests=false") as server:
            ours = measured(server, asked, options)
        with plain(model) as server:
            theirs = measured(server, asked, options)
    mine = ours["own load"]
    kept = [
        Kept(f"p50 at {options.rate:g}/s at most {P50:g} ms", f"{mine['p50']:.1f} ms", mine["p50"] <= P50),
        Kept(f"p99 at {options.rate:g}/s at most {P99:g} ms", f"{mine['p99']:.1f} ms", mine["p99"] <= P99),
        Kept("every answer is 200", json.dumps(mine["statuses"]), set(mine["statuses"]) == {"200"}),
    ]
    show({"tongtu serve": ours, "plain handler": theirs})
    tell("load", __doc__ or "", kept, {"items": options.items, "rate": options.rate, "tongtu serve": ours, "plain handler": theirs})


def measured(server: Server, asked: list[tuple[str, str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    load(server.port, 50, 3, asked)  # caches, lazy imports
    found: dict[str, Any] = {"own load": summary(load(server.port, options.rate, options.seconds, asked))}
    if not options.no_autocannon and shutil.which("npx"):
        found["autocannon"] = autocannon(server.port, asked[0], options)
    if options.ramp:
        found["highest rate"] = capacity(server.port, asked, options.ramp, first=100)
    found["memory MiB"] = server.memory_mb()
    return found


def autocannon(port: int, request: tuple[str, str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Latencies in milliseconds as autocannon tells them."""
    method, path, body = request
    command = [*cores(0), "npx", "--yes", AUTOCANNON, "--json", "--connections", "32", "--overallRate", f"{options.rate:.0f}"]
    command += ["--duration", f"{options.seconds:.0f}", "--method", method, "--headers", "content-type=application/json", "--body", json.dumps(body), f"http://127.0.0.1:{port}{path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip()[-200:]}
    found = json.loads(done.stdout)
    latency = found["latency"]
    return {"p50": latency["p50"], "p99": latency["p99"], "a second": found["requests"]["average"], "not 200": found["non2xx"] + found["errors"]}


def plain(model: Path) -> Server:
    """The plain handler, started as the service is."""
    port, log = free_port(), Path(tempfile.mkstemp(prefix="tongtu-plain-", suffix=".log")[1])
    command = [*cores(1), sys.executable, str(Path(__file__).with_name("plain_handler.py")), str(model), "--port", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"})
    server = Server(process, port, log, time.monotonic())
    server.wait_ready()
    return server


def show(found: dict[str, dict[str, Any]]) -> None:
    names = ("", "p50 ms", "p99 ms", "autocannon p50", "autocannon p99", "highest rate", "memory MiB")
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for name, one in found.items():
        cannon = one.get("autocannon", {})
        mine = one["own load"]
        cells = [name, f"{mine['p50']:.1f}", f"{mine['p99']:.1f}", str(cannon.get("p50", "-")), str(cannon.get("p99", "-"))]
        print(f"| {' | '.join([*cells, format(one.get('highest rate', float('nan')), '.0f'), format(one['memory MiB'], '.0f')])} |")
    print()


if __name__ == "__main__":
    main()
