"""RecTools' SASRec on a clock. Runs in an environment of its own and does not import tongtu; see `protocol.py` for its output.

    python -m venv rectools-env
    rectools-env/bin/pip install torch==2.13.0 "rectools[torch]==0.19.0"
    rectools-env/bin/python rectools_sasrec.py interactions.csv --threads 2 --batch-size 128

How it is used follows RecTools' own guides: `SASRecModel` with id embeddings alone, per-epoch metrics in a Lightning callback
of a trainer put in as `model._trainer`, recommendations through the public `recommend`. Logging, progress bars, checkpoints and
determinism are off, since they cost time. `--model flat` is `rectools.fast_transformers.FlatSASRecNet` (new in 0.19, made for
speed, without a trainer) in the plainest loop around its documented `forward`.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch
from protocol import CUTOFF, Course, Log, arguments, emit, read_log
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.fast_transformers import FlatSASRecNet, SequenceBatchDataset, build_sequences
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet
from torch.nn import functional
from torch.utils.data import DataLoader

WARM_UP = 2  # batches that a trial does not count


class Trial:
    """Seconds of an epoch from a part of it: every batch has the same shape, so they all cost the same."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.batches, self.started = seconds, 0, 0.0

    def batch(self, total: int) -> bool:
        """One more batch is done; true when that is enough of the `total`."""
        self.batches += 1
        if self.batches == WARM_UP:
            self.started = time.perf_counter()
        spent, counted = time.perf_counter() - self.started, self.batches - WARM_UP
        if counted < 1 or (spent < self.seconds and self.batches < total):
            return False
        emit("trial", epoch_seconds=spent / counted * total, batches=counted, of=total)
        return True


class Clock(Callback):
    """Times each epoch and evaluates after it, or times a part of one."""

    def __init__(self, course: Course, trial: Trial | None, evaluator: Evaluator) -> None:
        self.course, self.trial, self.evaluator = course, trial, evaluator

    def __deepcopy__(self, memo: object) -> Clock:
        return self  # RecTools trains with a copy of the trainer, and there is one clock

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.course.prepared()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: object) -> None:
        if self.trial is not None and self.trial.batch(int(trainer.num_training_batches)):
            raise KeyboardInterrupt  # Lightning's way to leave at once

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        loss = float(trainer.callback_metrics["train_loss"]) if "train_loss" in trainer.callback_metrics else None
        trainer.should_stop = self.course.epoch(loss, self.evaluator.lists)
        module.train()


class Evaluator:
    """Top-10 lists of the cases' users through the public `recommend`."""

    def __init__(self, data: Dataset, users: np.ndarray) -> None:
        self.data, self.users = data, users

    def lists(self) -> np.ndarray:
        self.model.is_fitted = True  # it is in the middle of `fit`
        found = self.model.recommend(users=self.users, dataset=self.data, k=CUTOFF, filter_viewed=True, on_unsupported_targets="ignore")
        best = np.zeros((len(self.users), CUTOFF), np.int64)
        best[np.searchsorted(self.users, found[Columns.User]), found[Columns.Rank] - 1] = found[Columns.Item]
        return best


def fit_model(log: Log, users: np.ndarray, course: Course, options: argparse.Namespace) -> None:
    """`SASRecModel` with a clock."""
    owner = np.repeat(np.arange(1, log.users + 1), np.diff(log.offset))
    moment = pd.to_datetime(np.arange(len(log.item)), unit="s")
    frame = pd.DataFrame({Columns.User: owner, Columns.Item: log.item, Columns.Weight: 1.0, Columns.Datetime: moment})
    data = Dataset.construct(frame)
    evaluator = Evaluator(data, users)
    evaluator.model = SASRecModel(
        n_blocks=options.blocks,
        n_heads=options.heads,
        n_factors=options.width,
        session_max_len=options.length,
        dropout_rate=options.dropout,
        loss=options.loss,
        n_negatives=options.negatives,
        lr=options.learning_rate,
        batch_size=options.batch_size,
        epochs=options.epochs,
        dataloader_num_workers=options.workers,
        recommend_batch_size=options.recommend_batch_size,
        recommend_torch_device="cpu",
        item_net_block_types=(IdEmbeddingsItemNet,),
    )
    evaluator.model._trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=options.epochs,
        precision=options.precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Clock(course, Trial(options.trial) if options.trial else None, evaluator)],
    )
    course.begin()
    with suppress(SystemExit):  # how Lightning passes on the end of a trial
        evaluator.model.fit(data)


def fit_flat(log: Log, users: np.ndarray, course: Course, options: argparse.Namespace) -> None:
    """`FlatSASRecNet` in a plain loop: full softmax over its `forward`, Adam with the betas of `SASRecModel`."""
    course.begin()
    owner = torch.from_numpy(np.repeat(np.arange(1, log.users + 1), np.diff(log.offset)))
    item = torch.from_numpy(log.item)
    x, y, known, _ = build_sequences(owner, item, torch.arange(len(item)), options.length)
    net = FlatSASRecNet(len(known), options.width, options.blocks, options.heads, options.length, options.dropout)
    for table in (net.item_emb, net.pos_emb):
        torch.nn.init.normal_(table.weight, std=0.02)  # as UniSRecNet does; the default of 1 learns very slowly
    optimizer = torch.optim.Adam(net.parameters(), options.learning_rate, betas=(0.9, 0.98))
    loader = DataLoader(SequenceBatchDataset(x, y), options.batch_size, shuffle=True, num_workers=options.workers)
    trial = Trial(options.trial) if options.trial else None
    course.prepared()
    for _ in range(options.epochs):
        losses = []
        for batch in loader:
            logits = net(batch)
            loss = functional.cross_entropy(logits.flatten(0, 1), batch["y"].flatten() - 1, ignore_index=-1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if trial is not None and trial.batch(len(loader)):
                return
        stop = course.epoch(float(np.mean(losses)), lambda: np.concatenate(list(flat_lists(net, log, users, known, options))))
        net.train()
        if stop:
            return


@torch.inference_mode()
def flat_lists(net: FlatSASRecNet, log: Log, users: np.ndarray, known: torch.Tensor, options: argparse.Namespace) -> Iterator[np.ndarray]:
    """Top-10 lists of a few users at a time, without what they have seen."""
    net.eval()
    inside = np.zeros(log.items + 1, np.int64)  # its number in the net, 0 for an item it does not know
    inside[known.numpy()] = np.arange(1, len(known) + 1)
    vectors = net.all_item_embeddings().T
    for first in range(0, len(users), options.recommend_batch_size):
        part = users[first : first + options.recommend_batch_size]
        seen = [inside[log.item[log.offset[u - 1] : log.offset[u]]] for u in part]
        seen = [codes[codes > 0] for codes in seen]
        x = np.zeros((len(part), options.length), np.int64)
        for row, codes in enumerate(seen):
            x[row, options.length - min(len(codes), options.length) :] = codes[-options.length :]
        scores = net.encode_last(torch.from_numpy(x)) @ vectors
        scores[np.repeat(np.arange(len(part)), [len(codes) for codes in seen]), np.concatenate(seen) - 1] = -torch.inf
        yield known[scores.topk(CUTOFF).indices].numpy()


def main() -> None:
    parser = arguments("RecTools' SASRec on a clock")
    parser.add_argument("--model", choices=["sasrec", "flat"], default="sasrec")
    parser.add_argument("--loss", choices=["softmax", "sampled_softmax", "BCE", "gBCE"], default="softmax", help="flat knows softmax alone")
    parser.add_argument("--negatives", type=int, default=256, help="of the sampled losses")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--precision", default="32-true", help="Lightning's name: 32-true, bf16-mixed")
    parser.add_argument("--workers", type=int, default=0, help="processes that load data")
    parser.add_argument("--recommend-batch-size", type=int, default=256)
    parser.add_argument("--trial", type=float, default=0.0, metavar="SECONDS", help="only time a part of an epoch")
    options = parser.parse_args()
    if options.model == "flat" and (options.loss != "softmax" or options.precision != "32-true"):
        parser.error("--model flat has the full softmax in 32 bits only")
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    seed_everything(options.seed, verbose=False)
    log, users, targets = read_log(options.log).held_out()
    course = Course(options, targets)
    emit(
        "start",
        system="rectools",
        versions={name: version(name) for name in ("rectools", "torch", "pytorch-lightning", "numpy")},
        users=log.users,
        items=log.items,
        train_events=len(log.item),
        cases=len(users),
        threads=options.threads,
        settings={name: value for name, value in vars(options).items() if name not in ("log", "target", "limit")},
    )
    (fit_flat if options.model == "flat" else fit_model)(log, users, course, options)
    course.end()


if __name__ == "__main__":
    main()
