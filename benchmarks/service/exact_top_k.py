"""Claim: the service finds the best 20 of 100,000 items exactly, for one request or a few, at least as fast as plain torch or faiss.

    python benchmarks/service/exact_top_k.py

Vectors of 64 numbers and one thread. Ours is the whole way of a worker from requests to lists (`tongtu.serve.engine.index.VectorIndex`: users' vectors
from those it keeps, products, seen items left out, selection); the peers get vectors and leave nothing out: `torch.topk` of a matrix product, and
`faiss.IndexFlatIP`. They take turns; the median is told. Lists must agree but for what was seen. Writes `results/service_exact_top_k.json`.
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
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from _record import write
from _vectors import Given

from tongtu.core import PAD, Request
from tongtu.serve.engine.index import VectorIndex

PACKAGES = ("faiss-cpu", "numpy", "torch")
BATCHES = (1, 4, 16)


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--k", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((options.items + 1, options.width), np.float32)
    vectors[PAD] = 0
    queries = draw.standard_normal((64, options.width), np.float32)
    index: Any = VectorIndex(Given(vectors, queries), vectors)
    flat = faiss.IndexFlatIP(options.width)
    flat.add(vectors[1:])
    tensor, asked = torch.from_numpy(vectors), torch.from_numpy(queries)
    results = []
    for size in BATCHES:
        users = [draw.choice(np.arange(1, 64), size, replace=False) for _ in range(options.rounds)]
        seen = [[draw.integers(1, options.items + 1, 50).astype(np.int32) for _ in range(size)] for _ in users]
        ours, plain, other = [], [], []
        for rows, histories in zip(users, seen, strict=True):
            requests = [Request(user=int(row), history=history) for row, history in zip(rows, histories, strict=True)]
            ours.append(timed(lambda requests=requests: index.recommend(requests, options.k)))
            plain.append(timed(lambda rows=rows: torch.topk(asked[rows] @ tensor.T, options.k)))
            other.append(timed(lambda rows=rows: flat.search(queries[rows], options.k)))
            check(index.recommend(requests, options.k).items, flat.search(queries[rows], 4 * options.k)[1] + 1, histories)
        row = {"requests": size, **{f"{way}_ms": round(median(taken), 3) for way, taken in (("ours", ours), ("torch", plain), ("faiss", other))}}
        row["times_faster_than_torch"] = round(row["torch_ms"] / row["ours_ms"], 2)
        row["times_faster_than_faiss"] = round(row["faiss_ms"] / row["ours_ms"], 2)
        print(row, flush=True)
        results.append(row)
    print(write("service_exact_top_k", {"items": options.items, "width": options.width, "k": options.k, "threads": 1, "results": results}, PACKAGES))


def check(ours: Any, best: Any, histories: Any) -> None:
    """The lists are the peer's without what was seen."""
    for listed, peer, seen in zip(ours, best, histories, strict=True):
        expected = peer[~np.isin(peer, seen)][: len(listed)]
        assert len(set(listed.tolist()) & set(expected.tolist())) >= len(listed) - 1, "the lists differ by more than a tie"


if __name__ == "__main__":
    main()
