"""How many events a second many clients get onto the disk, one event a call, each acknowledged when it is there.

    python benchmarks/service/event_rate.py [--store postgresql+psycopg://USER@HOST/NAME]

Threads call `Store.add_events`; without `--store` a new SQLite file is written. Beside it one client alone, which waits for the disk for each
event: the difference is what group commit gives. Writes `results/service_event_rate.json`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from _record import write

from tongtu.serve.store.records import Event
from tongtu.serve.store.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="of an address of your own; its events are added to")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Store.open(options.store or f"sqlite:///{folder}/store.db") as store:
        rates = {clients: rate(store, clients, options.seconds) for clients in (1, options.clients)}
    print("| clients | events a second |\n|---|---|")
    print("\n".join(f"| {clients} | {found:,.0f} |" for clients, found in rates.items()))
    database = "postgresql" if options.store else "sqlite"
    write("service_event_rate", {"database": database, "seconds": options.seconds, "events a second": rates}, ("sqlalchemy",))


def rate(store: Store, clients: int, seconds: float) -> float:
    """Events a second that so many clients get acknowledged."""
    began = time.monotonic()

    def write_on(client: int) -> int:
        done = 0
        while time.monotonic() - began < seconds:
            done += sum(store.add_events([Event(f"user-{client}", f"item-{done % 1000}", int(time.time()))]))
        return done

    with ThreadPoolExecutor(clients) as pool:
        written = sum(pool.map(write_on, range(clients)))
    return written / (time.monotonic() - began)


if __name__ == "__main__":
    main()
