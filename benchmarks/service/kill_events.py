"""Promise 8: 10,000 events acknowledged over HTTP survive kill -9 of the service, none is there twice; on SQLite and on PostgreSQL.

    python benchmarks/service/kill_events.py

Clients send events under keys of their own, one by one and in batches, and send again under the same key what was not acknowledged. Some times the front
and its workers are killed together and started again. At the end the store must hold each key exactly once.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from _models import random_sasrec
from _postgres import Postgres, found
from _server import Kept, Server, start, tell, workplace

from tongtu.client import Client
from tongtu.client.answers import Event
from tongtu.client.problems import ServiceError
from tongtu.serve.store import Store

BATCH = 20


class Senders:
    """Threads that send until every event is acknowledged; `port` may change under them."""

    def __init__(self, events: int, threads: int) -> None:
        self.left = [Event(f"user-{n % 97}", f"{n % 50 + 1}", 1_700_000_000 + n, key=f"event-{n}") for n in range(events)]
        self.acknowledged: set[str] = set()
        self.again = 0
        self.url = ""
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=(number,), daemon=True) for number in range(threads)]

    def begin(self) -> None:
        for one in self._threads:
            one.start()

    def join(self) -> None:
        for one in self._threads:
            one.join()

    def _send(self, number: int) -> None:
        while True:
            with self._lock:
                size = 1 if number % 2 else BATCH
                some, self.left = self.left[:size], self.left[size:]
            if not some:
                return
            while not self._acknowledged(some):
                self.again += 1
                time.sleep(0.05)
            with self._lock:
                self.acknowledged.update(one.key for one in some)

    def _acknowledged(self, some: list[Event]) -> bool:
        try:
            with Client(self.url, deadline=1.0) as shop:
                shop.add_events(some)
            return True
        except ServiceError:
            return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args()
    facts: dict[str, Any] = {}
    with workplace() as folder:
        model = random_sasrec(folder / "shop", 100, 8)
        facts["SQLite"] = drill(model, f"sqlite:///{folder / 'store.db'}", options)
        if found():
            with Postgres(folder / "postgres") as database:
                facts["PostgreSQL"] = drill(model, database.url, options)
        else:
            print("left out: PostgreSQL, whose programs are not on this machine")
    kept = [
        Kept(
            f"{name}: {options.events:,} acknowledged events survive {one['kills']} kills, none twice",
            f"{one['acknowledged']:,} acknowledged, {one['missing']} missing, {one['twice']} twice, {one['tries again']} tries again",
            one["acknowledged"] == options.events and not one["missing"] and not one["twice"] and one["kills"] > 0,
        )
        for name, one in facts.items()
    ]
    tell("kill_events", __doc__ or "", kept, facts)


def drill(model: Path, store: str, options: argparse.Namespace) -> dict[str, Any]:
    senders, draw = Senders(options.events, options.threads), random.Random(0)
    server: Server = start([model], store, "--workers", "1", core=False)
    senders.url = server.url
    senders.begin()
    kills = 0
    for number in range(options.kills):
        until = options.events * (number + draw.uniform(0.2, 0.8)) / options.kills
        while len(senders.acknowledged) < until and senders.left:
            time.sleep(0.005)
        if not senders.left:
            break
        server.kill()
        kills += 1
        server = start([model], store, "--workers", "1", core=False)
        senders.url = server.url
    senders.join()
    server.kill()  # and once more after the last acknowledgement
    kills += 1
    counted = Counter(keys(store))
    missing = [key for key in senders.acknowledged if key not in counted]
    twice = [key for key, times in counted.items() if times > 1]
    return {"acknowledged": len(senders.acknowledged), "missing": len(missing), "twice": len(twice), "kills": kills, "tries again": senders.again}


def keys(store: str) -> list[str]:
    """The keys of all events in a store."""
    found: list[str] = []
    last = 0
    with Store.open(store, create=False) as opened:
        while page := opened.events(last, 5_000):
            found += [str(one.event.key) for one in page]
            last = page[-1].seq
    return found


if __name__ == "__main__":
    main()
