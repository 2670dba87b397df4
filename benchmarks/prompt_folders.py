"""Claim: a thousand prompt folders on one base take a small part of the disk, memory and time of a thousand fine-tuned copies of it.

    python benchmarks/prompt_folders.py data/ml-1m-text data/amazon2014-beauty --folders 1000 --threads 1

For each data set: a SASRec is the base; some light PPR folders are really fitted on it, each on users of its own, and as many copies of the base are
fine-tuned on them. All others are made from these by noise on their weights, which no number here depends on: bytes and time are those of any weights.
Quality is not the claim (one epoch on a part of the users).
A copy is a plain SASRec folder, the leanest there is. Each way is measured in a process of its own: seconds to open, resident memory beside that of
the empty process, and seconds for a batch of requests of as many owners, all in one pass for prompts, one pass each for copies. Where so many
copies do not fit into half of what is free, fewer are measured, and memory, disk and opening are extrapolated in proportion, which is then said.
Writes `results/prompt_folders.json`.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _data import read
from _record import write

from tongtu.core import FitOptions, RequestBatch, TopK
from tongtu.data.dataset import Dataset
from tongtu.hub import open_model
from tongtu.systems import make
from tongtu.systems.pretrained.pool import PromptPool

WAYS = ("prompts", "copies")
QUIET = FitOptions(quiet=True, device="cpu")
ONCE = {"tokens": 2_048, "learning_rate": 2e-3, "epochs": 1}
BODY = {"blocks": 1, "loss": {"temperature": 0.1}, "training": ONCE}
NOISE = 0.05
SHOWN = 9  # events of history, as new users have


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--folders", type=int, default=1_000)
    parser.add_argument("--fitted", type=int, default=4)
    parser.add_argument("--users", type=int, default=2_000, help="users that the base is fitted on")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.way:
        print(json.dumps(measured(options)))
        return
    results = {path.name: compared(path, options) for path in options.data}
    claim = (__doc__ or "").split("\n", 1)[0]
    facts = {name: getattr(options, name) for name in ("folders", "fitted", "users", "batch", "repeats", "threads")}
    write("prompt_folders", {"claim": claim, **facts, "noise": NOISE, "data": results})
    print("| data, way | measured | disk, MB | memory, MB | to open, s | batch, ms |\n|---|---|---|---|---|---|")
    for name, result in results.items():
        for way in WAYS:
            row = result[way]
            figures = (f"{row[key]:,.1f}" for key in ("disk, MB", "memory, MB", "to open, s", "batch, ms"))
            print(f"| {name}, {options.folders} {way} | {row['measured']} | {' | '.join(figures)} |")


def compared(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Both ways on one data set, and how many times less prompts take."""
    with tempfile.TemporaryDirectory() as work:
        facts = made(read(path), Path(work), options)
        rows = {way: alone(way, path, Path(work), options) for way in WAYS}
    for way, row in rows.items():
        times = options.folders / row["measured"]
        for key in ("disk, MB", "to open, s"):
            row[key] *= times
        row["memory, MB"] = row.pop("base, MB") + times * row.pop("others, MB")
        row["extrapolated"] = times > 1
        assert way == "copies" or times == 1
    keys = ("disk, MB", "memory, MB", "to open, s", "batch, ms")
    return {**facts, **rows, "ratios": {key: rows["copies"][key] / rows["prompts"][key] for key in keys}}


def alone(way: str, path: Path, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One way in a process of its own, so that its memory is its own."""
    kept = [f"--{name}={getattr(options, name)}" for name in ("batch", "repeats", "threads")]
    command = [sys.executable, sys.argv[0], str(path), *kept, "--way", way, "--work", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return row


def made(data: Dataset, work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The base, all prompt folders, and as many copies as fit."""
    data = data.keep_events(data.event_user <= options.users)
    make("sasrec", BODY).fit(data, QUIET).save_pretrained(work / "base")
    draw = torch.Generator().manual_seed(0)
    prompts: list[Any] = []
    tuned: list[Any] = []
    for number in range(options.fitted):
        own = data.keep_events(data.event_user % options.fitted == number)
        settings = {"base": str(work / "base"), "training": ONCE}
        prompts.append(make("ppr", settings).fit(own, QUIET))
        tuned.append(make("finetuning", settings | {"way": "all"}).fit(own, QUIET))
    for number in range(options.folders):
        noisy(prompts, number, draw, lambda system: system.net.generator).save_pretrained(work / "prompts" / f"owner-{number}")
    most = options.folders
    for number in range(options.folders):
        if number == options.fitted:
            most = fitting(work / "copies", number)
        if number < max(most, options.fitted):
            system = noisy(tuned, number, draw, lambda system: system.net.base)
            plain = copy.copy(system.base.system)
            plain.net = system.net.base
            plain.save_pretrained(work / "copies" / f"owner-{number}")
    return {"users": len(data.users), "items": len(data.items), "attributes": [field.name for field in prompts[0].reader.fields]}


def noisy(fitted: Sequence[Any], number: int, draw: torch.Generator, part: Callable[[Any], torch.nn.Module]) -> Any:
    """A fitted system as it is, or one like it with noise on a part of its weights."""
    system = fitted[number % len(fitted)]
    if number < len(fitted):
        return system
    other = copy.copy(system)
    other.net = copy.deepcopy(system.net)
    with torch.no_grad():
        for weight in part(other).parameters():
            weight.mul_(1 + NOISE * torch.randn(weight.shape, generator=draw))
    return other


def fitting(folder: Path, count: int) -> int:
    """How many copies like those that are there fit into half of the disk and of the memory that are free; one takes some three times its files."""
    each = bytes_in(folder) / count
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    memory = 1_024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return int(min(shutil.disk_usage(folder).free, memory / 3) / 2 / each)


def bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """What one way takes."""
    data, folder = read(options.data[0]), options.work / options.way
    names = sorted(path.name for path in folder.iterdir())
    empty, started = resident(), time.perf_counter()
    if options.way == "prompts":
        pool = PromptPool.within(folder)
        pool.opened(names[0])
        base, first = resident(), time.perf_counter()
        for name in names:
            pool.opened(name)
        weights = pool.memory()
        answer = pool.recommend
    else:
        base, first, opened = empty, started, {name: open_model(folder / name) for name in names}
        weights = {"copies": sum(4 * weight.numel() for one in opened.values() for weight in one.net.parameters())}  # type: ignore[attr-defined]

        def answer(requests: RequestBatch, owners: Sequence[str], k: int) -> TopK:  # type: ignore[misc]
            found = [opened[owner].recommend(requests[row : row + 1], k) for row, owner in enumerate(owners)]
            return TopK(np.concatenate([one.items for one in found]), np.concatenate([one.scores for one in found]))

    took, full = time.perf_counter() - started, resident()
    seconds, checked = timed(answer, data, names, options)
    facts = {"measured": len(names), "disk, MB": bytes_in(folder) / 1e6, "base, MB": (base - empty) / 1e6, "others, MB": (full - base) / 1e6}
    if options.way == "prompts":
        facts |= {"to open the first, s": first - started, "largest difference": largest_difference(folder, *checked)}
        facts["disk, MB"] += bytes_in(options.work / "base") / 1e6
    batches = {"batch, ms": 1e3 * float(np.median(seconds)), "batch, ms, from to": [1e3 * min(seconds), 1e3 * max(seconds)]}
    return {**facts, "weights, bytes": weights, "to open, s": took, **batches}


Checked = tuple[RequestBatch, list[str], TopK]


def timed(answer: Callable[..., TopK], data: Dataset, names: list[str], options: argparse.Namespace) -> tuple[list[float], Checked]:
    """Seconds of each batch of requests, whose owners are drawn anew; and the last one's answers."""
    draw, seconds = np.random.default_rng(0), []
    for _ in range(options.repeats + 2):  # two to warm up
        users = draw.choice(np.flatnonzero(data.lengths > 0), options.batch) + 1
        stop = data.offset[users - 1] + np.minimum(data.lengths[users - 1], draw.integers(0, SHOWN + 1, options.batch))
        requests = data.requests(users.astype(np.int32), stop=stop)
        owners = [names[number] for number in draw.choice(len(names), options.batch, replace=len(names) < options.batch)]
        started = time.perf_counter()
        best = answer(requests, owners, 10)
        seconds.append(time.perf_counter() - started)
    return seconds[2:], (requests, owners, best)


def largest_difference(folder: Path, requests: RequestBatch, owners: list[str], best: TopK) -> float:
    """Between the scores that the pool gave and those of each folder alone."""
    alone = np.concatenate([open_model(folder / owner).recommend(requests[row : row + 1], 10).scores for row, owner in enumerate(owners)])
    return float(np.abs(np.where(np.isfinite(alone), alone - best.scores, 0)).max())


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
