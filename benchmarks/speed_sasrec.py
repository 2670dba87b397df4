"""Claim: our SASRec reaches the same accuracy many times sooner than RecTools' SASRec of the same size.

    python benchmarks/speed_sasrec.py LOG --peer-python rectools-env/bin/python

LOG is Amazon 2014 Beauty: a data set folder, or a Parquet or CSV file with user_id, item_id and position. Both sides learn the
same events, look for the same validation items among all items the user has not seen, and run one after the other, each in a
process of its own. RecTools gets its best setting: for each of its variants, three batch sizes with each number of threads are
timed on a part of an epoch, then the best with bfloat16 (where the processor computes in it) and with a loading process; that
setting runs until the target or the time limit. A variant named by `--trial-only` is timed and not run. Run it on
an idle machine. `peers/rectools_sasrec.py` says how to make RecTools' environment.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import torch
from _data import command, read
from _record import environment, write

from tongtu.data.dataset import Dataset
from tongtu.nn.softmax import low_precision

PEERS = Path(__file__).parent / "peers"
SIZE = {"width": 64, "blocks": 1, "heads": 1, "length": 50, "dropout": 0.2}
VARIANTS = {
    "softmax": ["--model", "sasrec", "--loss", "softmax"],
    "sampled": ["--model", "sasrec", "--loss", "sampled_softmax", "--negatives", "256"],
    "flat": ["--model", "flat"],
}
OURS = {
    "": [],
    "logits in 32 bits": ["loss.precision=fp32"],
    "the peer's block": ["block=sasrec", "inner=1"],
}

# Our own addition to the model (docs/decisions/004): it reaches the target in fewer epochs, and its preparation is counted.
NEIGHBOURS = ["positions=relative", "start=cooccurrence", "neighbours.share=0.4", "dropout=0.3"]


@dataclass
class Run:
    """One process: what it was asked and the lines it printed."""

    name: str
    threads: int
    arguments: list[str]
    start: dict[str, Any] = field(default_factory=dict)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    trial: float = math.nan
    end: dict[str, Any] = field(default_factory=dict)

    @property
    def epoch_seconds(self) -> float:
        """Median over the epochs; the first, which warms up, counts only where it is alone."""
        return statistics.median(e["train_seconds"] for e in self.epochs[1:] or self.epochs)

    @property
    def evaluate_seconds(self) -> float:
        return statistics.median(e["evaluate_seconds"] for e in self.epochs)

    @property
    def best(self) -> float:
        return max(e["recall@10"] for e in self.epochs)

    def seconds_to(self, target: float) -> float:
        """Preparation and training, without evaluation, up to the first epoch that reaches the target; infinite if none does."""
        return next((e["seconds_so_far"] for e in self.epochs if e["recall@10"] >= target), math.inf)

    def facts(self) -> dict[str, Any]:
        """What is recorded."""
        trial = {} if math.isnan(self.trial) else {"epoch_seconds": self.trial}
        ran = {"versions": self.start.get("versions"), "settings": self.start.get("settings"), "epochs": self.epochs, "end": self.end}
        return {"name": self.name, "threads": self.threads, "arguments": self.arguments, **(trial or ran)}


@dataclass(frozen=True)
class Bench:
    """Starts the processes."""

    options: argparse.Namespace
    log: Path

    def run(self, name: str, python: Path, script: str, threads: int, arguments: Sequence[str]) -> Run:
        """One process from start to end; a line on the screen for each line of its output that says something."""
        size = [text for key, value in SIZE.items() for text in (f"--{key}", str(value))]
        run = Run(name, threads, list(arguments))
        command = [str(python), str(PEERS / script), str(self.log), *size, "--threads", str(threads), *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        print(f"{name}, {threads} thread(s): {' '.join(arguments)}", flush=True)
        with tempfile.TemporaryFile("w+") as complaints:
            for line in _lines(command, environment, complaints):
                self._take(run, line)
        return run

    def trial(self, variant: str, threads: int, arguments: Sequence[str]) -> Run:
        """Seconds of an epoch of the peer, from a part of one."""
        asked = [*VARIANTS[variant], "--trial", str(self.options.trial), *arguments]
        return self.run(f"RecTools {variant}", self.options.peer_python, "rectools_sasrec.py", threads, asked)

    def ours(self, name: str, settings: Sequence[str], threads: int, arguments: Sequence[str]) -> Run:
        """Our SASRec."""
        sets = [text for setting in [*self.options.set, *settings] for text in ("--set", setting)]
        return self.run(f"Tongtu{name and ', '}{name}", Path(sys.executable), "tongtu_sasrec.py", threads, [*sets, *arguments])

    @staticmethod
    def _take(run: Run, line: dict[str, Any]) -> None:
        match line.pop("event"):
            case "start":
                run.start = line
            case "trial":
                run.trial = line["epoch_seconds"]
                print(f"    {run.trial:.1f} s an epoch", flush=True)
            case "epoch":
                run.epochs.append(line)
                recall, seconds = line["recall@10"], line["train_seconds"]
                print(f"    epoch {line['epoch']}: {seconds:.1f} s, R@10 {recall:.4f}, evaluation {line['evaluate_seconds']:.2f} s", flush=True)
            case "end":
                run.end = line


def main() -> None:
    options = parse()
    machine = environment()  # now, before the load is our own
    with tempfile.TemporaryDirectory() as folder:
        data = read(options.data)
        bench = Bench(options, write_log(data, Path(folder) / "log.csv"))
        goal = ["--target", str(options.target), "--limit", str(options.limit)]
        short = [bench.ours(name, sets, threads, ["--epochs", "3"]) for name, sets in OURS.items() for threads in options.threads]
        fastest = min((run for run in short if run.name == "Tongtu"), key=lambda run: run.epoch_seconds)
        ours = bench.ours("", [], fastest.threads, goal)
        helped = bench.ours("neighbour targets", NEIGHBOURS, fastest.threads, goal)
        trials: list[Run] = []
        peers: list[Run] = []
        for variant in options.trial_only:
            trials += choose(bench, variant)[0]
        for variant in options.variants:
            tried, threads, best = choose(bench, variant)
            trials += tried
            peers.append(bench.run(f"RecTools {variant}", options.peer_python, "rectools_sasrec.py", threads, [*VARIANTS[variant], *best, *goal]))
            ratios = compare(ours, peers, options.target) | {"to_target_with_neighbours": compare(helped, peers, options.target)["to_target"]}
            result = {
                "command": command(),
                "environment": machine,
                "claim": (__doc__ or "").splitlines()[0].removeprefix("Claim: "),
                "data": {"name": data.name} | {key: ours.start[key] for key in ("users", "items", "train_events", "cases")},
                "target": {"recall@10": options.target, "limit_seconds": options.limit},
                "ratios": ratios,
                "ours": ours.facts(),
                "ours_with_neighbours": helped.facts(),
                "ours_short": [run.facts() for run in short],
                "peer_trials": [run.facts() for run in trials],
                "peers": [run.facts() for run in peers],
            }
            written = write(options.record, result)  # after each variant: an hour's work should not wait for the next one
            print(f"{table([ours, helped], short, peers, ratios, options)}\nwritten to {written}", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--target", type=float, default=0.09, help="R@10 on the validation items")
    parser.add_argument("--limit", type=float, default=2400, help="seconds given to each run")
    parser.add_argument("--trial", type=float, default=20, help="seconds given to each setting of the peer that is tried")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="of the peer")
    parser.add_argument("--trial-only", nargs="+", choices=VARIANTS, default=[], help="variants of the peer whose epoch is timed, and which are not run")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 128, 256], help="of the peer")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="tried on both sides")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of ours")
    parser.add_argument("--record", default="speed_sasrec", help="name of the result file")
    return parser.parse_args()


def write_log(data: Dataset, path: Path) -> Path:
    """The log as the CSV file that both sides read."""
    user, item = data.users.ids.gather(data.event_user - 1), data.items.ids.gather(data.item - 1)
    pl.DataFrame({"user_id": user, "item_id": item, "position": range(data.n_events)}).write_csv(path)
    return path


def choose(bench: Bench, variant: str) -> tuple[list[Run], int, list[str]]:
    """The trials of a variant of the peer, and the threads and arguments of the fastest."""
    tried = [bench.trial(variant, threads, ["--batch-size", str(size)]) for size in bench.options.batch_sizes for threads in bench.options.threads]
    best = min(tried, key=lambda run: run.trial)
    quick = low_precision(torch.device("cpu")) == torch.bfloat16  # elsewhere bfloat16 is emulated, slowly
    for more in ([["--precision", "bf16-mixed"]] if quick and variant != "flat" else []) + [["--workers", "1"]]:
        chosen = best.arguments[best.arguments.index("--batch-size") :]
        tried.append(bench.trial(variant, best.threads, [*chosen, *more]))
        best = min(best, tried[-1], key=lambda run: run.trial)
    return tried, best.threads, best.arguments[best.arguments.index("--batch-size") :]


def compare(ours: Run, peers: Sequence[Run], target: float) -> dict[str, Any]:
    """The best of the peer's figures, each from whichever variant is best at it, over ours."""
    reached = min(run.seconds_to(target) for run in peers)
    spent = min(run.epochs[-1]["seconds_so_far"] for run in peers)
    return {
        "epoch": min(run.epoch_seconds for run in peers) / ours.epoch_seconds,
        "to_target": (reached if math.isfinite(reached) else spent) / ours.seconds_to(target),
        "to_target_is_lower_bound": not math.isfinite(reached),
        "evaluation": min(run.evaluate_seconds for run in peers) / ours.evaluate_seconds,
        "peak_memory": min(run.end["peak_memory_mb"] for run in peers) / ours.end["peak_memory_mb"],
    }


def table(ours: Sequence[Run], ours_short: Sequence[Run], peers: Sequence[Run], ratios: dict[str, Any], options: argparse.Namespace) -> str:
    """A Markdown table of all runs and the ratios."""
    lines = [
        f"| run | threads | s an epoch | s to R@10 = {options.target} | best R@10 | s to evaluate | peak MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in [*peers, *ours, *ours_short]:
        seconds = run.seconds_to(options.target)
        full = run not in ours_short
        reached = "" if not full else f"{seconds:.0f}" if math.isfinite(seconds) else f"not within {run.epochs[-1]['seconds_so_far']:.0f}"
        best = f"{run.best:.4f}" if full else ""
        name = run.name if full else f"{run.name} ({len(run.epochs)} epochs)"
        cells = [name, run.threads, f"{run.epoch_seconds:.1f}", reached, best, f"{run.evaluate_seconds:.2f}", f"{run.end['peak_memory_mb']:.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    times = {key: f"{ratios[key]:.1f} x" for key in ("epoch", "to_target", "evaluation", "peak_memory")}
    bound = "at least " if ratios["to_target_is_lower_bound"] else ""
    lines.append(f"| best RecTools / ours | | {times['epoch']} | {bound}{times['to_target']} | | {times['evaluation']} | {times['peak_memory']} |")
    lines.append(f"| best RecTools / ours with neighbour targets | | | {bound}{ratios['to_target_with_neighbours']:.1f} x | | | |")
    return "\n".join(lines)


def _lines(command: Sequence[str], environment: dict[str, str], complaints: Any) -> Iterator[dict[str, Any]]:
    """The JSON lines of a process as they come; other lines are left out."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=complaints, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
    if process.returncode:
        complaints.seek(0)
        raise SystemExit(f"{' '.join(command)} failed:\n{complaints.read()[-3000:]}")


if __name__ == "__main__":
    main()
