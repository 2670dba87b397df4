"""Promise 2: who waits longer than the deadline gets 504 within 100 ms of it and the work is cancelled; a client that leaves cancels within 250 ms.

    python benchmarks/service/deadline.py

The questions are ones that no worker answers in time: reasons for ten items from a history of a thousand events, all of which a large model reads
again with each of the newest fifty left out. Cancelled means that no worker works any more and nothing waits, as /metrics tells.
"""

from __future__ import annotations

import argparse
import http.client
import json
import time
from typing import Any

from _models import random_sasrec
from _server import Kept, Server, start, status_of, tell, workplace

GRACE, LEAVING = 0.1, 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--deadline", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with workplace() as folder:
        model = random_sasrec(folder / "shop", options.items, width=512, length=1000, blocks=4)
        with start([model], f"sqlite:///{folder / 'store.db'}", "--workers", "1", "--set", f"deadline={options.deadline}") as server:
            late = [too_slow(server, options) for _ in range(options.rounds)]
            left = [client_leaves(server) for _ in range(options.rounds)]
            again = quick(server)
    answered = max(one["after the deadline"] for one in late)
    freed = max(one["free after"] for one in late)
    gone = max(one["free after"] for one in left)
    was_busy = all(one["was busy"] for one in left)
    kept = [
        Kept("the client gets 504", str(sorted({one["status"] for one in late})), {one["status"] for one in late} == {504}),
        Kept(f"within {1000 * GRACE:.0f} ms of the deadline of {options.deadline:g} s", f"at most {1000 * answered:+.0f} ms", -0.05 <= answered <= GRACE),
        Kept(f"the work is cancelled within {1000 * LEAVING:.0f} ms of it", f"at most {1000 * freed:.0f} ms", freed <= LEAVING),
        Kept(f"a client that leaves cancels within {1000 * LEAVING:.0f} ms", f"at most {1000 * gone:.0f} ms", gone <= LEAVING and was_busy),
        Kept("the next question is answered", f"status {again}", again == 200),
    ]
    tell("deadline", __doc__ or "", kept, {"late": late, "left": left})


def endless() -> str:
    history = [str(i) for i in range(1, 1001)]
    return json.dumps({"history": history, "items": [str(i) for i in range(2001, 2011)]})


def asking(server: Server, path: str, body: str) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", path, body, {"content-type": "application/json"})
    return connection


def too_slow(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    began = time.monotonic()
    connection = asking(server, "/v1/explain", endless())
    status = connection.getresponse().status
    answered = time.monotonic()
    free = until_free(server)
    connection.close()
    settle(server)
    return {"status": status, "after the deadline": answered - began - options.deadline, "free after": free}


def client_leaves(server: Server) -> dict[str, Any]:
    connection = asking(server, "/v1/explain", endless())
    time.sleep(0.5)
    busy = server.metric("in_hand") > 0
    connection.close()
    free = until_free(server)
    settle(server)
    return {"was busy": busy, "free after": free}


def until_free(server: Server, patience: float = 10.0) -> float:
    """Seconds until nobody works for anybody."""
    began = time.monotonic()
    while time.monotonic() - began < patience:
        if not server.metric("in_hand") and not server.metric("ranking_working") and not server.metric("ranking_waiting"):
            break
        time.sleep(0.01)
    return time.monotonic() - began


def settle(server: Server, patience: float = 60.0) -> None:
    """Wait until a worker that is replaced, which happens within a moment, is there again."""
    began = time.monotonic()
    time.sleep(0.5)
    while (server.metric("ranking_alive") < 1 or status_of(f"{server.url}/health/ready") != 200) and time.monotonic() - began < patience:
        time.sleep(0.1)


def quick(server: Server) -> int:
    connection = asking(server, "/v1/recommend", json.dumps({"history": ["1"], "k": 5}))
    return connection.getresponse().status


if __name__ == "__main__":
    main()
