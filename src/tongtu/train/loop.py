"""The one training loop: for every recommender, and for language models tuned on behaviour.

It stands on accelerate, so the same code runs on a CPU, a GPU, or under torchrun. Everything random follows from
(seed, epoch, batch), except dropout, whose generator is kept in the checkpoint: a run that was killed and resumed is
bit-identical to an unbroken one on the CPU.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tongtu.config import plain
from tongtu.core import PAD, FitOptions
from tongtu.nn.batch import Batch, DrawnAnew, Examples
from tongtu.nn.sequence import Objective
from tongtu.progress import Bar, progress
from tongtu.train import checkpoint
from tongtu.train.batches import token_batches
from tongtu.train.checkpoint import Position, Weights
from tongtu.train.settings import Training

Measure = Callable[[], Mapping[str, float]]
MONITOR = "ndcg@10"


@dataclass(frozen=True)
class Trained:
    """What came of a run: the epoch whose weights were kept, and one row of figures an epoch."""

    epochs: int
    curves: list[dict[str, float]] = field(default_factory=list)


def train(
    net: nn.Module, objective: Objective, examples: Examples | DrawnAnew, training: Training, options: FitOptions, measure: Measure | None = None
) -> Trained:
    """Train `net` in place.

    Args:
        net: A `SequenceModel`; parameters that need no gradient stay as they are. Where it has `rate_factors`, a mapping from the
            beginnings of parameters' names to numbers, those parameters learn at so many times the learning rate.
        objective: What it learns.
        examples: What from; those that have a method `epoch` are asked for each epoch's own.
        training: How.
        options: Seed, checkpoint folder, device.
        measure: Validates the network as it stands; the best weights by its "ndcg@10" are kept. None trains all epochs.

    Raises:
        ModelError: If `options.resume` finds the state of another run.
    """
    return _Run(net, objective, examples, training, options, measure).run()


class _Task(nn.Module):
    """Network and objective as one module, so that the loss is computed inside the wrapper that shares gradients."""

    def __init__(self, net: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.net, self._objective = net, objective

    def forward(self, batch: Batch, draw: torch.Generator) -> Tensor:
        return self._objective.loss(self.net, batch, draw)  # type: ignore[arg-type]


class _Run:
    def __init__(
        self, net: nn.Module, objective: Objective, examples: Examples | DrawnAnew, training: Training, options: FitOptions, measure: Measure | None
    ) -> None:
        from accelerate import Accelerator

        self.net, self.objective, self._source = net, objective, examples
        self.training, self.options, self.measure = training, options, measure
        self.accelerator = Accelerator(
            cpu=options.device == "cpu",
            log_with="tensorboard" if options.tracker else None,
            project_dir=None if options.tracker is None else str(options.tracker),
        )
        self.optimizer = torch.optim.AdamW(
            _groups(net), training.learning_rate, training.betas, weight_decay=training.weight_decay, fused=True
        )
        self._drawn, self.examples = 0, self._examples(0)
        self.position = Position(self._signature())
        self.average: Weights | None = None
        self.best: Weights = {}
        self.saved = time.monotonic()

    def run(self) -> Trained:
        if self.options.tracker:
            self.accelerator.init_trackers("tongtu")
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(self.options.seed + 7919 * self.accelerator.process_index)  # ranks drop out differently
            task, optimizer = self.accelerator.prepare(_Task(self.net, self.objective), self.optimizer)
            self._resume()
            self.net.train()
            with progress("training", None, "targets", self.options.quiet or not self.accelerator.is_main_process) as bar:
                while self.position.epoch < self.training.epochs and self.position.stale < self.training.patience:
                    self._epoch(task, optimizer, bar)
        self.accelerator.end_training()
        kept = self.best or self.average or {}
        if kept:
            checkpoint.load_weights(self.net, kept)
        self.net.eval()
        return Trained(self.position.best_epoch or self.position.epoch, self.position.curves)

    def _examples(self, epoch: int) -> Examples:
        source: Any = self._source
        examples: Examples = source.epoch(self.options.seed, epoch) if hasattr(source, "epoch") else source
        return examples

    def _epoch(self, task: nn.Module, optimizer: Any, bar: Bar) -> None:
        at, seed = self.position, self.options.seed
        if self._drawn != at.epoch:
            self._drawn, self.examples = at.epoch, self._examples(at.epoch)
        batches = token_batches(self.examples.length, self.training.tokens, seed, at.epoch)
        group = self.training.accumulate
        total_steps = -(-len(batches) // group) * self.training.epochs
        while at.batch < len(batches):
            started = time.monotonic()
            draw = torch.Generator().manual_seed(_mixed(seed, at.epoch, at.batch))
            marked = [self.objective.mark(self.examples.batch(rows), draw) for rows in batches[at.batch : at.batch + group]]
            self._set_rate(optimizer, total_steps)
            targets = self._step(task, optimizer, marked, draw)
            at.batch += group
            at.step += 1
            at.seconds += time.monotonic() - started
            bar.advance(targets, self._note(at.batch / len(batches)))
            if at.batch < len(batches):
                self._checkpoint()
        self._end_epoch()
        self._checkpoint()

    def _step(self, task: nn.Module, optimizer: Any, marked: list[Batch], draw: torch.Generator) -> int:
        """One optimiser step over some batches; each process takes its share of the rows. Returns the number of targets."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        targets = max(sum(int((batch.target != PAD).sum()) for batch in marked if batch.target is not None), 1)
        summed = torch.zeros((), device=self.accelerator.device)
        for number, batch in enumerate(marked):
            share = _share(batch, rank, world).to(self.accelerator.device)
            with self.accelerator.no_sync(task) if number + 1 < len(marked) else nullcontext():
                with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.training.precision == "bf16"):
                    loss = task(share, draw)
                # gradients are averaged over processes, losses were summed over targets: this makes the global mean
                self.accelerator.backward(loss * (world / targets))
            summed += loss.detach()
        if self.training.clip is not None:
            self.accelerator.clip_grad_norm_(task.parameters(), self.training.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self._average_weights()
        self.position.loss += float(self.accelerator.reduce(summed, "sum"))
        self.position.targets += targets
        return targets

    def _end_epoch(self) -> None:
        at = self.position
        row = {"epoch": float(at.epoch + 1), "loss": at.loss / max(at.targets, 1), "seconds": at.seconds}
        at.epoch, at.batch, at.loss, at.targets = at.epoch + 1, 0, 0.0, 0
        if self.measure is not None and (at.epoch % self.training.validate_every == 0 or at.epoch == self.training.epochs):
            row |= self._validate(self.measure)
            at.stale += 1
            if row[MONITOR] > at.best:
                at.best, at.best_epoch, at.stale = row[MONITOR], at.epoch, 0
                self.best = {name: tensor.detach().clone() for name, tensor in (self.average or checkpoint.weights_of(self.net)).items()}
        at.curves.append(row)
        if self.options.tracker:
            self.accelerator.log({name: value for name, value in row.items() if name != "epoch"}, step=at.epoch)

    def _validate(self, measure: Measure) -> dict[str, float]:
        """Figures of the weights that would be kept; measured by one process, told to all."""
        figures: list[Any] = [None]
        if self.accelerator.is_main_process:
            current = {name: tensor.detach().clone() for name, tensor in checkpoint.weights_of(self.net).items()} if self.average else {}
            if self.average:
                checkpoint.load_weights(self.net, self.average)
            self.net.eval()
            with torch.inference_mode(), torch.random.fork_rng(devices=[]):
                figures = [dict(measure())]
            self.net.train()
            if current:
                checkpoint.load_weights(self.net, current)
        if self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(figures)
        assert MONITOR in figures[0], f"validation must give {MONITOR}"
        return dict(figures[0])

    def _average_weights(self) -> None:
        decay = self.training.average
        if decay is None:
            return
        weights = checkpoint.weights_of(self.net)
        if self.average is None:
            self.average = {name: tensor.detach().clone() for name, tensor in weights.items()}
            return
        decay = min(decay, (1 + self.position.step) / (10 + self.position.step))  # the first steps say little, forget them soon
        floats = [name for name, tensor in weights.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.average[name] for name in floats], [weights[name].detach() for name in floats], 1 - decay)

    def _set_rate(self, optimizer: Any, total_steps: int) -> None:
        rate = self.training.learning_rate * learning_rate_factor(self.training, self.position.step, total_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]

    def _note(self, done: float) -> str:
        at = self.position
        best = f" {MONITOR} {at.best:.4f} (epoch {at.best_epoch})" if at.best_epoch else ""
        return f"epoch {at.epoch + 1}/{self.training.epochs} {done:.0%} loss {at.loss / max(at.targets, 1):.3f}{best}"

    def _signature(self) -> str:
        """A hash of everything that decides the run: data, network, settings and seed."""
        digest = hashlib.sha256(json.dumps([plain(self.training), self.options.seed], sort_keys=True).encode())
        digest.update(repr([(name, tuple(tensor.shape)) for name, tensor in self.net.state_dict().items()]).encode())
        if self.options.checkpoint is not None:
            for tensor in checkpoint.frozen_weights(self.net):  # no checkpoint holds them
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        for column in self.examples.columns():
            digest.update(column.tobytes())
        return digest.hexdigest()

    def _checkpoint(self) -> None:
        folder, due = self.options.checkpoint, time.monotonic() - self.saved >= self.training.checkpoint_seconds
        if folder is None or not self.accelerator.is_main_process or not due:
            return
        groups = {"weights": checkpoint.weights_of(self.net), "average": self.average or {}, "best": self.best}
        checkpoint.save(folder, self.position, groups, self.optimizer)
        self.saved = time.monotonic()

    def _resume(self) -> None:
        folder: Path | None = self.options.checkpoint
        if not self.options.resume or folder is None or not folder.exists():
            return
        self.position, groups = checkpoint.load(folder, self.position.signature, self.optimizer)
        checkpoint.load_weights(self.net, groups["weights"])
        self.average, self.best = groups.get("average"), groups.get("best", {})


def _groups(net: nn.Module) -> list[dict[str, Any]]:
    """The parameters that learn, by the factor of their learning rate."""
    factors: Mapping[str, float] = getattr(net, "rate_factors", {})
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            factor = next((factor for beginning, factor in factors.items() if name.startswith(beginning)), 1.0)
            groups.setdefault(factor, []).append(parameter)
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


def learning_rate_factor(training: Training, step: int, total_steps: int) -> float:
    """The share of the learning rate at a step: a linear rise, then as the schedule says."""
    if step < training.warmup_steps:
        return (step + 1) / training.warmup_steps
    if training.schedule == "constant":
        return 1.0
    done = min(1.0, (step - training.warmup_steps) / max(total_steps - training.warmup_steps, 1))
    return 1 - done if training.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def _share(batch: Batch, rank: int, world: int) -> Batch:
    """The rows of one process; a process left without rows takes one that teaches nothing, so that all step together."""
    if world == 1:
        return batch
    if rank < len(batch.item):
        return batch.rows(slice(rank, None, world))
    first = batch.rows(slice(0, 1))
    assert first.target is not None
    first.target.zero_()
    return first


def _mixed(*numbers: int) -> int:
    """One seed out of several numbers."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=7).digest(), "little")
