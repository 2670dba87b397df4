"""Claim: keeping the frozen layers' states makes an epoch of PLM-NR shorter and changes nothing else.

    python benchmarks/frozen_layers.py data/beauty-text --language-model minilm

The same training twice in one run, from the same seed: the states of the frozen layers read back from disk, and all layers run in
every step as it is usually done; the same last layers learn in both. Epochs of the two take turns, so that a machine that gets
busy slows both down. Computing the states once is told apart from the epochs. The losses must agree within 1e-4. Both encode each
item of a batch once. A layer that learns costs three times what a frozen one does (forward, and both halves of backward), so F frozen
and L learning layers can at best gain (F + 3 L) / 3 L: 1.67 for the last two of MiniLM's six, 2.67 for the last one. Writes
`results/frozen_layers.json`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _data import read
from _record import write

from tongtu.config import build
from tongtu.data.dataset import Dataset
from tongtu.data.splits import leave_one_out
from tongtu.nn.clicks import ClickedAmongShown
from tongtu.systems.encoded._clicks import training_clicks
from tongtu.systems.encoded.plmnr import PLMNRConfig, PLMNRNet
from tongtu.train.batches import token_batches

WAYS = {"kept": "fp32", "run each time": "none"}
WITHIN = 1e-4


class Run:
    """One way of training, an epoch at a time."""

    def __init__(self, data: Dataset, config: PLMNRConfig, seed: int) -> None:
        torch.manual_seed(seed)
        self.config, self.seed, self.epoch = config, seed, 0
        self.net = PLMNRNet(config, data.users.size).train()
        started = time.perf_counter()
        self.net.texts = self.net.text.tower.read(data.item_text.to_list(), quiet=True)
        self.reading = time.perf_counter() - started
        self.clicks, _ = training_clicks(data, config, seed)
        parts: dict[float, list[torch.nn.Parameter]] = {}
        for name, parameter in self.net.named_parameters():
            if parameter.requires_grad:
                parts.setdefault(config.language_rate if name.startswith("text.tower.") else 1.0, []).append(parameter)
        rate = config.training.learning_rate
        self.optimizer = torch.optim.AdamW([{"params": some, "lr": rate * factor} for factor, some in parts.items()], weight_decay=0.0)
        self.objective = ClickedAmongShown(config.negatives)

    def one_epoch(self) -> tuple[float, float]:
        """Seconds, and the mean loss."""
        torch.manual_seed(self.seed + self.epoch)  # dropout alike in both ways
        started, total = time.perf_counter(), 0.0
        for number, rows in enumerate(token_batches(self.clicks.length, self.config.training.tokens, self.seed, self.epoch)):
            draw = torch.Generator().manual_seed(10_000 * self.epoch + number)
            batch = self.objective.mark(self.clicks.batch(rows), draw)
            loss = self.objective.loss(self.net, batch, draw)
            (loss / len(rows)).backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            total += float(loss.detach())
        self.epoch += 1
        return time.perf_counter() - started, total / len(self.clicks)


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    data = leave_one_out(read(options.log)).train
    if options.users < len(data.users):
        kept = np.random.default_rng(0).permutation(len(data.users))[: options.users] + 1
        data = data.keep_events(np.isin(data.event_user, kept))
    runs, curves = {}, {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as cache, cached_in(cache):
        for way, frozen in WAYS.items():
            runs[way] = Run(data, config_of(options, frozen), options.seed)
        size = sum(file.stat().st_size for file in Path(cache).rglob("*.npy"))
        for _ in range(options.epochs):
            for way, run in runs.items():
                curves[way].append(run.one_epoch())
                print(f"{way}: epoch {run.epoch}, {curves[way][-1][0]:.1f} s, loss {curves[way][-1][1]:.6f}", flush=True)
    seconds = {way: median(s for s, _ in rows) for way, rows in curves.items()}
    apart = max(abs(one - other) for (_, one), (_, other) in zip(*curves.values(), strict=True))
    run = runs["kept"]
    result: dict[str, Any] = {
        "data": {"name": data.name, "users": options.users, "clicks": len(run.clicks), "items": len(data.items)},
        "settings": {name: getattr(options, name) for name in ("language_model", "layers", "tokens", "batch", "epochs", "threads", "seed")},
        "tokens_of_texts": int(run.net.texts.length.sum()),
        "seconds_per_epoch": seconds,
        "times_shorter": seconds["run each time"] / seconds["kept"],
        "seconds_to_compute_states_once": run.reading,
        "states_mb": size / 1e6,
        "epochs": {way: [{"seconds": s, "loss": loss} for s, loss in rows] for way, rows in curves.items()},
        "largest_difference_of_losses": apart,
    }
    path = write("frozen_layers", result, ("numpy", "torch", "transformers"))
    print(f"{seconds['kept']:.1f} s an epoch against {seconds['run each time']:.1f}: {result['times_shorter']:.2f} times shorter")
    print(f"states computed once in {run.reading:.1f} s ({size / 1e6:,.0f} MB); losses differ by at most {apart:.1e}; {path}")
    if apart > WITHIN:
        raise SystemExit(f"the losses differ by more than {WITHIN:g}: the two ways do not compute the same")


def config_of(options: argparse.Namespace, frozen: str) -> PLMNRConfig:
    values = {"language_model": options.language_model, "layers": options.layers, "tokens": options.tokens, "frozen": frozen, "newest": 1, "max_length": 10}
    return build(PLMNRConfig, {**values, "training": {"tokens": options.batch, "learning_rate": 1e-3}})


class cached_in:
    """States of this run alone: what an earlier one computed would make the first reading too fast."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        self.before = os.environ.get("TONGTU_CACHE")
        os.environ["TONGTU_CACHE"] = self.folder

    def __exit__(self, *_: object) -> None:
        if self.before is None:
            del os.environ["TONGTU_CACHE"]
        else:
            os.environ["TONGTU_CACHE"] = self.before


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--language-model", default="minilm")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=2048, help="items read in a batch, padding included")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
