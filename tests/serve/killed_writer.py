"""Kills a process that writes events, again and again, and looks at what is left."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

from tongtu.serve.store import Store

WRITER = Path(__file__).with_name("event_writer.py")
Batch = tuple[tuple[str, str, int, str], ...]


def plan(events: int, rng: random.Random) -> list[Batch]:
    """Events alone and in batches of up to 50, half of them each."""
    batches: list[Batch] = []
    made = 0
    while made < events:
        size = min(rng.choice([1] * 26 + [50]), events - made)
        batches.append(tuple((f"user {n % 97}", f"item {n % 31}", n, f"key {n}") for n in range(made, made + size)))
        made += size
    return batches


def check_kills(url: str, events: int, kills: int, seed: int) -> None:
    """Have `events` events written by a process that is killed `kills` times; what was not acknowledged is sent again.

    After each kill every acknowledged event must be there, and of each batch all or nothing; in the end each event once.
    """
    rng = random.Random(seed)
    batches = plan(events, rng)
    acknowledged: set[str] = set()
    for left in range(kills, -1, -1):
        waiting = [batch for batch in batches if batch[0][3] not in acknowledged]
        assert waiting, "everything was acknowledged before the last kill"
        # Killed after some of what waits, so that enough is left for the kills to come.
        stop_after = rng.randint(1, max(1, len(waiting) // (left + 1))) if left else None
        acknowledged |= _one_life(url, waiting, stop_after, rng)
        with Store.open(url, create=False) as store:
            there = Counter(str(stored.event.key) for stored in store.events(limit=2 * events))
            assert acknowledged <= there.keys(), f"lost: {sorted(acknowledged - there.keys())[:5]}"
            assert set(there.values()) <= {1}
            assert store.counts().events == len(there)
            for batch in batches:
                assert len({key in there for *_, key in batch}) == 1, "half a batch was written"
    assert len(acknowledged) == events == len(there)


def _one_life(url: str, batches: list[Batch], stop_after: int | None, rng: random.Random) -> set[str]:
    """The keys that were acknowledged until the process ended by itself, or was killed after `stop_after` lines."""
    process = subprocess.Popen([sys.executable, WRITER, url, "24"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout

    def send() -> None:
        try:
            with process.stdin:  # type: ignore[union-attr]
                process.stdin.writelines(json.dumps(batch) + "\n" for batch in batches)  # type: ignore[union-attr]
        except BrokenPipeError:
            pass

    sender = threading.Thread(target=send)
    sender.start()
    said: set[str] = set()
    with process.stdout:
        for place, line in enumerate(process.stdout, 1):
            # What a killed process had begun to say was not said.
            if line.endswith("\n"):
                said.update(json.loads(line))
            if place == stop_after:
                killer = threading.Timer(rng.random() / 50, process.kill)
                killer.start()
    sender.join()
    code = process.wait(60)
    assert code == (0 if stop_after is None else -9)
    return said
