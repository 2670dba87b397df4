"""A process that stores what it is told and says what is stored: each line of standard input is a list of events, each of output a list of keys.

Usage: python event_writer.py URL THREADS
"""

from __future__ import annotations

import json
import sys
import threading

from tongtu.serve.store import Event, Store


def main(url: str, threads: int) -> None:
    store, one_at_a_time = Store.open(url), threading.Lock()

    def work() -> None:
        while True:
            with one_at_a_time:
                line = sys.stdin.readline()
            if not line:
                return
            events = [Event(user, item, when, key) for user, item, when, key in json.loads(line)]
            store.add_events(events)
            with one_at_a_time:
                print(json.dumps([event.key for event in events]), flush=True)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
