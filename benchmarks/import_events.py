"""Import of a large CSV log: Tongtu against pandas, each in a process of its own, one after the other.

    python benchmarks/import_events.py --events 25000000

Both end with the same thing in memory: for every user the codes of their items in time order. pandas runs two ways, as most
people write it (sort, then group into lists) and as well as it can (factorised ids, numbers sorted, split at user boundaries);
the ratio is given to both. Ours also checks every row, drops exact duplicates, and, in a run of its own, writes the data set folder.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WAYS = ("tongtu", "tongtu and save", "pandas plain", "pandas tuned")


def generate(path: Path, events: int, users: int = 200_000, items: int = 50_000, seed: int = 0) -> None:
    """A log in the order in which it happened per file part: skewed users and items, ids as text, seconds over a year."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    part = 1_000_000
    with path.open("wb") as file:
        for start in range(0, events, part):
            n = min(part, events - start)
            frame = pl.DataFrame(
                {
                    "user": (users * rng.random(n) ** 1.5).astype(np.int64),
                    "item": (items * rng.random(n) ** 3).astype(np.int64),
                    "timestamp": 1_600_000_000 + rng.integers(0, 31_536_000, n),
                }
            )
            frame = frame.select(pl.format("user-{}", "user").alias("user"), pl.format("item-{}", "item").alias("item"), "timestamp")
            frame.write_csv(file, include_header=start == 0)


def run_tongtu(path: Path, folder: Path | None) -> dict[str, Any]:
    from tongtu.data.folder import save_dataset
    from tongtu.data.importer import Columns, import_log

    data, report = import_log(path, Columns("user", "item", time="timestamp"), quiet=True)
    if folder is not None:
        save_dataset(data, folder)
    return {"users": len(data.users), "items": len(data.items), "events": data.n_events, "dropped": report.dropped}


def run_pandas_plain(path: Path) -> dict[str, Any]:
    import pandas as pd

    frame = pd.read_csv(path)
    frame = frame.sort_values(["user", "timestamp"], kind="stable")
    sequences = frame.groupby("user", sort=False)["item"].agg(list)
    return {"users": len(sequences), "items": frame["item"].nunique(), "events": len(frame)}


def run_pandas_tuned(path: Path) -> dict[str, Any]:
    import numpy as np
    import pandas as pd

    frame = pd.read_csv(path)
    user, users = pd.factorize(frame["user"])
    item, items = pd.factorize(frame["item"])
    frame = pd.DataFrame({"user": user, "item": item, "timestamp": frame["timestamp"]}).sort_values(["user", "timestamp"], kind="stable")
    sequences = np.split(frame["item"].to_numpy(), np.flatnonzero(np.diff(frame["user"].to_numpy())) + 1)
    return {"users": len(sequences), "items": len(items), "events": len(frame), "distinct": len(users)}


def measure(way: str, path: Path) -> dict[str, Any]:
    """Wall seconds and peak memory of one way in a new process, its imports and start included."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, "--way", way, "--file", str(path)], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    return {"way": way, "seconds": round(seconds, 2), **json.loads(done.stdout.splitlines()[-1])}


def one(way: str, path: Path) -> None:
    start, processor = time.perf_counter(), time.process_time()
    if way.startswith("tongtu"):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            facts = run_tongtu(path, Path(folder) / "data" if way == "tongtu and save" else None)
    else:
        facts = run_pandas_plain(path) if way == "pandas plain" else run_pandas_tuned(path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    work = {"work_seconds": round(time.perf_counter() - start, 2), "cpu_seconds": round(time.process_time() - processor, 2)}
    print(json.dumps({**work, "peak_gb": round(peak / 1e9, 2), **facts}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=25_000_000)
    parser.add_argument("--folder", type=Path, help="where the file is made; a temporary folder if not given")
    parser.add_argument("--rounds", type=int, default=1, help="the best of so many is kept")
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--file", type=Path)
    given = parser.parse_args()
    if given.way:
        one(given.way, given.file)
        return
    import _record

    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "events.csv"
        generate(path, given.events)
        size = path.stat().st_size
        rows = [min((measure(way, path) for _ in range(given.rounds)), key=lambda row: row["seconds"]) for way in WAYS]
    assert len({(row["users"], row["items"]) for row in rows}) == 1, rows
    ours = {row["way"]: row["seconds"] for row in rows}
    ratios = {f"{way} / tongtu": round(ours[way] / ours["tongtu"], 2) for way in WAYS if way.startswith("pandas")}
    result = {"events": given.events, "file_gb": round(size / 1e9, 3), "rounds": given.rounds, "ways": rows, "ratios": ratios}
    for row in rows:
        print(f"{row['way']:16} {row['seconds']:8.2f} s  {row['cpu_seconds']:8.2f} s processor  {row['peak_gb']:6.2f} GB")
    print(ratios)
    print(_record.write("import_events", result, ("numpy", "polars", "pyarrow", "pandas")))


if __name__ == "__main__":
    main()
