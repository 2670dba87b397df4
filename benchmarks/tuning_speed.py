"""Claim: the training loop tunes a language model on prompts faster than transformers' Trainer on the same examples.

    python benchmarks/tuning_speed.py --model t5:tiny --threads 1
    python benchmarks/tuning_speed.py --model smollm2 --weights lora --examples 64 --threads 1

Examples are histories of items, most short and some long, with one item as the answer. Both ways start from the same network and take
one epoch, each in a process of its own, with batches of as many rows on average: ours cut by tokens from examples of like length, the
Trainer's drawn at random and padded to the longest, as it does by default. Tokens a second are real ones, of prompts and answers.
Writes `results/tuning_speed_MODEL.json`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
from _record import write

from tongtu.core import PAD, FitOptions
from tongtu.train.batches import token_batches
from tongtu.train.loop import train
from tongtu.train.settings import Training
from tongtu.tuning.examples import TextBatch, TextExamples
from tongtu.tuning.network import LanguageNet
from tongtu.tuning.objective import Answer
from tongtu.tuning.opening import open_network
from tongtu.tuning.settings import Tuning

WAYS = ("ours", "trainer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="t5:tiny")
    parser.add_argument("--weights", default="all")
    parser.add_argument("--examples", type=int, default=600)
    parser.add_argument("--tokens", type=int, default=2_048)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.way:
        print(json.dumps(measured(options)))
        return
    rows = {way: alone(way) for way in WAYS}
    ratio = rows["ours"]["tokens a second"] / rows["trainer"]["tokens a second"]
    facts = {"model": options.model, "weights": options.weights, "examples": options.examples, "threads": options.threads, "tokens a batch": options.tokens}
    claim = (__doc__ or "").split("\n", 1)[0]
    write(f"tuning_speed_{options.model.replace(':', '-')}", {"claim": claim, **facts, "ratio": ratio, **rows}, ("accelerate", "peft", "torch", "transformers"))
    print(f"{options.model}, {options.weights}, {options.examples} examples, {options.threads} threads: {ratio:.2f} times as fast")
    print("| way | tokens/s | padding | peak memory, MB | loss |\n|---|---|---|---|---|")
    for way, row in rows.items():
        print(f"| {way} | {row['tokens a second']:.0f} | {row['padding']:.0%} | {row['peak memory, MB']:.0f} | {row['loss']:.2f} |")


def alone(way: str) -> dict[str, float]:
    """One way in a process of its own, so that its peak of memory is its own."""
    done = subprocess.run([sys.executable, *sys.argv, "--way", way], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    row: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return row


def measured(options: argparse.Namespace) -> dict[str, float]:
    pairs = examples(options.examples)
    net = open_network(Tuning(model=options.model, weights=options.weights), [text for pair in pairs for text in pair])
    texts = TextExamples.of(net.wording, pairs)
    batches = token_batches(texts.length, options.tokens, 0, 0)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    if options.way == "ours":
        trained = train(net, Answer(), texts, Training(epochs=1, tokens=options.tokens), FitOptions(quiet=True, device="cpu"))
        loss, padded = trained.curves[0]["loss"], sum(places(texts.batch(rows)) for rows in batches)
    else:
        loss, padded = by_trainer(net, texts, round(len(texts) / len(batches)))
    took = time.perf_counter() - started
    real, peak = int(texts.length.sum()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if not net.seq2seq:
        real -= len(texts)  # nothing is read behind the end
    return {
        "tokens a second": real / took,
        "padding": 1 - real / padded,
        "peak memory, MB": peak / 1024,
        "before training, MB": before / 1024,
        "loss": loss,
        "seconds": took,
        "steps": len(batches),
    }


def places(batch: TextBatch) -> int:
    """Places of a batch, padding included."""
    return batch.item.numel() + (0 if batch.source is None else batch.source.numel())


def examples(n: int) -> list[tuple[str, str]]:
    draw = np.random.default_rng(0)
    item = [f"item_{number}" for number in draw.permutation(1682) + 1000]
    length = np.minimum(draw.geometric(0.12, n) + 1, 40)
    prompts = [f"user_{row} has bought {' , '.join(item[code] for code in draw.integers(0, 1682, k))} . What comes next ?" for row, k in enumerate(length)]
    return [(prompt, item[int(draw.integers(0, 1682))]) for prompt in prompts]


def by_trainer(net: LanguageNet, texts: TextExamples, rows: int) -> tuple[float, int]:
    """One epoch of transformers' Trainer; its loss a token, and the places of its batches."""
    import transformers

    seen = [0]

    def collate(some: list[dict[str, int]]) -> dict[str, Any]:
        batch = texts.batch(np.array([one["row"] for one in some]))
        seen[0] += places(batch)
        assert batch.target is not None
        labels = torch.where(batch.target == PAD, -100, batch.target - 1)
        if batch.source is not None:
            return {"input_ids": (batch.source - 1).clamp_min(0), "attention_mask": (batch.source != PAD).long(), "labels": labels}
        # the model shifts labels by itself, and so needs a place for the end
        tokens, shifted = torch.nn.functional.pad((batch.item - 1).clamp_min(0), (0, 1)), torch.nn.functional.pad(labels, (1, 0), value=-100)
        return {"input_ids": tokens, "attention_mask": torch.nn.functional.pad(batch.valid.long(), (0, 1)), "labels": shifted}

    with tempfile.TemporaryDirectory() as work:
        settings = transformers.TrainingArguments(
            work, per_device_train_batch_size=rows, num_train_epochs=1, learning_rate=1e-3, lr_scheduler_type="constant", max_grad_norm=0,
            use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, remove_unused_columns=False,
        )  # fmt: skip
        trainer = transformers.Trainer(net.net, settings, train_dataset=[{"row": row} for row in range(len(texts))], data_collator=collate)  # type: ignore[arg-type]
        done = trainer.train()
    return float(done.training_loss), seen[0]


if __name__ == "__main__":
    main()
