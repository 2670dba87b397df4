"""Promise 14, second half: the service is ready within 5 s where no language model is to be loaded.

    python benchmarks/service/ready.py

Starts with a catalogue of 100,000 items and workers on all cores, an empty store the first time; every start is from nothing, with the files in the
system's cache after the first.
"""

from __future__ import annotations

import argparse

from _models import random_sasrec
from _server import Kept, start, tell, workplace

LIMIT = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    seconds = []
    with workplace() as folder:
        model = random_sasrec(folder / "shop", options.items)
        for _ in range(options.starts):
            with start([model], f"sqlite:///{folder / 'store.db'}", core=False) as server:
                seconds.append(server.ready_seconds)
    worst = max(seconds)
    kept = [Kept(f"ready within {LIMIT:.0f} s ({options.items:,} items)", f"{min(seconds):.1f} to {worst:.1f} s in {len(seconds)} starts", worst <= LIMIT)]
    tell("ready", __doc__ or "", kept, {"items": options.items, "seconds": seconds})


if __name__ == "__main__":
    main()
