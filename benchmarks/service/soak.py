"""Promise 14, first half: 30 minutes at 70 % load, memory grows under 1 MB a minute, and descriptors do not grow.

    python benchmarks/service/soak.py --minutes 30

Eight of ten requests are recommendations for users with stored histories, one stores an event, one looks a user up. The slope is of a straight line
through the samples after the first fifth, in which caches fill.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from _models import random_sasrec
from _server import Kept, Server, begin_load, capacity, start, summary, tell, turns, workplace

from tongtu.client import Client
from tongtu.client.answers import Event

SHARE, SLOPE = 0.7, 1.0
USERS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--ramp", type=float, default=10)
    options = parser.parse_args()
    with workplace() as folder:
        model = random_sasrec(folder / "shop", options.items)
        with start([model], f"sqlite:///{folder / 'store.db'}", "--workers", "1", "--set", "log_requests=false") as server:
            asked = prepared(server, options.items)
            able = capacity(server.port, asked, options.ramp, first=100)
            found = soaked(server, asked, SHARE * able, 60 * options.minutes) | {"capacity": able}
            alive = server.process.poll() is None
    rows, slope = found["answers"], found["MiB a minute"]
    failed = sum(n for status, n in rows["statuses"].items() if status not in ("200", "201"))
    first, last = found["samples"][len(found["samples"]) // 5], found["samples"][-1]
    told, well = f"{json.dumps(rows['statuses'])}, p99 {rows['p99']:.1f} ms", alive and rows["requests"] > 0 and not failed
    kept = [
        Kept(f"{options.minutes:g} minutes at {SHARE:.0%} of {able:.0f}/s", told, well),
        Kept(f"memory slope under {SLOPE:g} MB a minute", f"{slope:+.2f} ({first['MiB']:.0f} to {last['MiB']:.0f} MiB)", slope < SLOPE),
        Kept("no growth of descriptors", f"{first['descriptors']} to {last['descriptors']}", found["descriptors a minute"] < 0.5),
    ]
    tell("soak", __doc__ or "", kept, found)


def prepared(server: Server, items: int) -> list[tuple[str, str, Any]]:
    """Users with histories in the store, and the mix of requests."""
    draw = np.random.default_rng(0)
    with Client(server.url) as shop:
        for user in range(USERS):
            met = draw.integers(1, items + 1, int(draw.integers(1, 40)))
            shop.add_events([Event(f"user-{user}", str(int(item)), 1_700_000_000 + n) for n, item in enumerate(met)])
    asked: list[tuple[str, str, Any]] = []
    for number in range(1000):
        user, item = f"user-{draw.integers(USERS)}", str(int(draw.integers(1, items + 1)))
        kind = number % 10
        if kind == 8:
            asked.append(("POST", "/v1/events", {"user": user, "item": item}))
        elif kind == 9:
            asked.append(("GET", f"/v1/users/{user}", None))
        else:
            asked.append(("POST", "/v1/recommend", {"user": user, "k": 10}))
    return asked


def soaked(server: Server, asked: list[tuple[str, str, Any]], rate: float, seconds: float) -> dict[str, Any]:
    load = begin_load(server.port, rate, seconds, asked)
    samples = []
    for at in turns(seconds, max(1.0, min(10.0, seconds / 30))):
        samples.append({"minute": at / 60, "MiB": server.memory_mb(), "descriptors": server.descriptors()})
    rows = load.rows()
    later = samples[len(samples) // 5 :]
    minute = [one["minute"] for one in later]
    slope = float(np.polyfit(minute, [one["MiB"] for one in later], 1)[0])
    opened = float(np.polyfit(minute, [one["descriptors"] for one in later], 1)[0])
    return {"rate": rate, "answers": summary(rows), "MiB a minute": slope, "descriptors a minute": opened, "samples": samples}


if __name__ == "__main__":
    main()
