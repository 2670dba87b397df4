"""Where the time of one epoch of our SASRec goes: by part of the model, and by operator.

    python benchmarks/profile_sasrec.py LOG [--threads 2] [--set key=value ...]

One epoch of the real training loop warms up, one is timed, and one runs under torch's profiler, which makes it slower.
Each moment of it belongs to the innermost part that is at work; the backward pass of an operator belongs to the part that ran it
forward. The gradient of the full softmax is worked out in the forward pass (see `tongtu.nn.softmax`), so it counts there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _data import command, read
from _record import environment, write
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from tongtu.config import merge, parse_settings
from tongtu.core import FitOptions
from tongtu.data.splits import leave_one_out
from tongtu.nn.batch import Batch, Sequences
from tongtu.nn.losses import make_loss
from tongtu.nn.objectives import NextItem
from tongtu.nn.sequence import ItemSequenceNet, SequenceModel
from tongtu.nn.transformer import Attention, FeedForward, SwiGLU
from tongtu.systems import make
from tongtu.train.batches import training_sequences
from tongtu.train.loop import train

SIZE = {"width": 64, "blocks": 1, "heads": 1, "max_length": 50, "dropout": 0.2, "training": {"epochs": 1}}
PART = "part: "
LOOP, DATA, LOSS, BODY, OPTIMISER = "training loop", "data", "logits and loss", "body, the rest", "optimiser"
MODULES: dict[type[torch.nn.Module], str] = {
    torch.nn.Embedding: "embedding",
    torch.nn.LayerNorm: "layer norm",
    Attention: "attention",
    FeedForward: "feed-forward",
    SwiGLU: "feed-forward",
}
BACKWARD = "autograd::engine::evaluate_function: "


class LabelledObjective(NextItem):
    """`NextItem` whose parts are marked in the profile."""

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        with record_function(PART + DATA):
            return super().mark(batch, draw)

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> torch.Tensor:
        with record_function(PART + LOSS):
            return super().loss(net, batch, draw)


class LabelledSequences(Sequences):
    """`Sequences` whose batches are marked in the profile."""

    def batch(self, rows: np.ndarray) -> Batch:
        with record_function(PART + DATA):
            return super().batch(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of SASRec")
    parser.add_argument("--record", default="profile_sasrec", help="name of the result file")
    options = parser.parse_args()
    machine = environment()  # now, before the load is our own
    torch.set_num_threads(options.threads)
    settings = merge(SIZE, parse_settings(options.set))
    epoch = labelled_epoch(options.data, settings)
    epoch()
    started = time.perf_counter()
    epoch()
    seconds = time.perf_counter() - started
    with profile(activities=[ProfilerActivity.CPU]) as profiler, record_function(PART + LOOP):
        epoch()
    parts, operators = shares(profiler.events())
    print(table("part", parts), table("operator", dict(list(operators.items())[:20])), f"an epoch without the profiler: {seconds:.2f} s", sep="\n\n")
    result = {
        "command": command(),
        "environment": machine,
        "claim": "Where the time of one epoch of our SASRec goes: shares of the profiled epoch; the seconds are of one without the profiler",
        "threads": options.threads,
        "settings": settings,
        "epoch_seconds": seconds,
        "parts": parts,
        "operators": operators,
    }
    print(f"\nwritten to {write(options.record, result)}")


def labelled_epoch(data: Path, settings: dict[str, Any]) -> Callable[[], object]:
    """What trains one epoch, its parts marked."""
    events = leave_one_out(read(data)).train
    config = make("sasrec", settings).config
    torch.manual_seed(0)
    net = ItemSequenceNet(config, events.items.size)
    for module in net.modules():
        if type(module) in MODULES:
            _label(module, PART + MODULES[type(module)])
    net.hidden = _labelled(net.hidden, PART + BODY)  # type: ignore[method-assign]
    found = training_sequences(events, config.max_length + 1, config.windows)
    sequences = LabelledSequences(found.item, found.stop, found.length)
    objective = LabelledObjective(make_loss(config.loss, events.item_counts))
    return lambda: train(net, objective, sequences, config.training, FitOptions(quiet=True, device="cpu"))


def shares(events: list[FunctionEvent]) -> tuple[dict[str, float], dict[str, float]]:
    """The share of each part and of each operator in the time of all events, the largest first."""
    makers: dict[int, FunctionEvent] = {}
    for event in sorted((e for e in events if e.sequence_nr >= 0 and not _backward(e)), key=lambda e: e.time_range.start):
        makers[event.sequence_nr] = event  # the last one with a number is the operator that made the node of the backward pass
    parts: dict[str, float] = defaultdict(float)
    operators: dict[str, float] = defaultdict(float)
    for event in events:
        parts[_part(event, makers)] += event.self_cpu_time_total
        name = f"Python: {event.name.removeprefix(PART)}" if event.name.startswith(PART) else event.name.removeprefix(BACKWARD)
        operators[name] += event.self_cpu_time_total
    total = sum(parts.values())
    return tuple({name: value / total for name, value in sorted(group.items(), key=lambda x: -x[1])} for group in (parts, operators))  # type: ignore[return-value]


def table(title: str, share: dict[str, float]) -> str:
    """A Markdown table."""
    return "\n".join([f"| {title} | share |", "|---|---|", *(f"| {name} | {value:.1%} |" for name, value in share.items())])


def _part(event: FunctionEvent, makers: dict[int, FunctionEvent]) -> str:
    """The part an event belongs to: the innermost one around it, or that of the operator it is the backward pass of."""
    above: FunctionEvent | None = event
    while above is not None:
        if above.name.startswith(PART):
            return above.name.removeprefix(PART)
        if above.name.startswith("Optimizer."):
            return OPTIMISER
        if above.name.startswith(BACKWARD) and above.sequence_nr in makers:
            return _part(makers[above.sequence_nr], {})
        above = above.cpu_parent
    return LOOP


def _backward(event: FunctionEvent) -> bool:
    above: FunctionEvent | None = event
    while above is not None and not above.name.startswith(BACKWARD):
        above = above.cpu_parent
    return above is not None


def _labelled(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        with record_function(name):
            return function(*args)

    return call


def _label(module: torch.nn.Module, name: str) -> None:
    module.forward = _labelled(module.forward, name)  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
