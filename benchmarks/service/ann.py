"""Claim: of 1,000,000 items the approximate index finds 98 % of the best 20, at least ten times faster than exact search.

    python benchmarks/service/ann.py

One thread. Item vectors of 64 numbers lie around centres that lie around fewer centres themselves, with lengths that vary, as those of trained models do;
users are means of a few items of one or two centres, with noise. The index (`tongtu.serve.engine.approximate`) chooses by itself how much to search,
by other users than those it is measured by. Exact search is that of the service, and `faiss.IndexFlatIP` beside it. Single requests, taking turns,
medians. Writes `results/service_ann.json`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # read when libraries are imported

import faiss
import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))

from _record import write
from _vectors import Given

from tongtu.core import PAD, Request
from tongtu.serve.engine.approximate import Approximate
from tongtu.serve.engine.index import VectorIndex

PACKAGES = ("faiss-cpu", "numpy")


def world(items: int, width: int, users: int, draw: np.random.Generator) -> tuple[Any, Any]:
    """Item vectors float32[items + 1, width] and users' vectors float32[users, width]."""
    groups, kinds = max(items // 20_000, 4), max(items // 500, 8)
    group = draw.standard_normal((groups, width), np.float32)
    kind = group[draw.integers(0, groups, kinds)] + 0.7 * draw.standard_normal((kinds, width), np.float32)
    of = draw.integers(0, kinds, items + 1)
    vectors = kind[of] + 0.6 * draw.standard_normal((items + 1, width), np.float32)
    vectors *= draw.uniform(0.7, 1.3, (items + 1, 1)).astype(np.float32)
    vectors[PAD] = 0
    likes = kind[draw.integers(0, kinds, (users, 2))].mean(axis=1)
    return vectors, (likes + 0.5 * draw.standard_normal((users, width), np.float32)).astype(np.float32)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = work()
    return (time.perf_counter() - started) * 1000, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--k", type=int, default=20)
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    vectors, queries = world(options.items, options.width, options.users + 257, np.random.default_rng(0))
    started = time.perf_counter()
    approximate = Approximate.of(vectors, queries[options.users + 1 :])
    seconds = time.perf_counter() - started
    if approximate is None:
        raise SystemExit("no index finds enough of the best items")
    system = Given(vectors, queries)
    exact: Any = VectorIndex(system, vectors)
    quick: Any = VectorIndex(system, vectors, approximate)
    flat = faiss.IndexFlatIP(options.width)
    flat.add(vectors[1:])
    taken: dict[str, list[float]] = {"exact": [], "approximate": [], "faiss_flat": []}
    recalls = []
    for user in range(1, options.users + 1):
        request = [Request(user=user)]
        for way, work in (
            ("exact", lambda request=request: exact.recommend(request, options.k)),
            ("approximate", lambda request=request: quick.recommend(request, options.k)),
            ("faiss_flat", lambda user=user: flat.search(queries[user : user + 1], options.k)),
        ):
            ms, found = timed(work)
            taken[way].append(ms)
            if way == "exact":
                best = found.items[0]
            elif way == "approximate":
                recalls.append(float(np.isin(best, found.items[0]).mean()))
    searched, lists = approximate.lists
    middle = {way: median(ms) for way, ms in taken.items()}
    result = {
        "items": options.items,
        "width": options.width,
        "threads": 1,
        "users": options.users,
        f"recall@{options.k}": round(float(np.mean(recalls)), 4),
        **{f"{way}_ms": round(ms, 3) for way, ms in middle.items()},
        "times_faster": round(middle["exact"] / middle["approximate"], 1),
        "times_faster_than_faiss_flat": round(middle["faiss_flat"] / middle["approximate"], 1),
        "lists": lists,
        "searched": searched,
        "build_seconds": round(seconds, 1),
    }
    print(result)
    print(write("service_ann", result, PACKAGES))


if __name__ == "__main__":
    main()
