"""Claim: an encoder that reads from left to right trains TIGER on all prefixes several times faster than one that reads each prefix anew.

    python benchmarks/tiger_speed.py --threads 1

Batches are of the mean length of Amazon 2014 Beauty's histories, with four random codes of 256 an item; one step to warm up, then the fastest of
`--steps`. Time is that of the processor, so that it can be measured on a busy machine. Written are targets a second, and the seconds of an epoch of
Beauty's 131,413 training targets. Writes `results/tiger_speed.json`.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from _record import write

from tongtu.nn.batch import Sequences
from tongtu.nn.codes import CodeBodyConfig, CodeNet
from tongtu.nn.next_codes import NextCodes

ITEMS, TARGETS = 12_101, 131_413
SIZES: dict[str, dict[str, Any]] = {
    "2 + 2, 128": {},
    "4 + 4, 128 (paper)": {"heads": 6, "head_width": 64, "inner": 1024, "encoder_layers": 4, "decoder_layers": 4},
    "2 + 2, 64": {"width": 64, "heads": 2, "inner": 256},
    "1 + 1, 64": {"width": 64, "heads": 2, "inner": 256, "encoder_layers": 1, "decoder_layers": 1},
}
WINDOW, PREFIX = 7, 8
"""Events of a mean window, each a target, and of the prefix of a mean target."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    print("| layers, width | encoder | read | targets/s | epoch, s |\n|---|---|---|---|---|")
    for name, size in SIZES.items():
        for encoder in ("causal", "bidirectional"):
            for read in ("tokens", "items"):
                rate = TARGETS_A_STEP[encoder] / step_seconds(CodeBodyConfig(encoder=encoder, read=read, **size), options.steps)
                rows.append({"size": name, "encoder": encoder, "read": read, "targets a second": rate, "epoch, s": TARGETS / rate})
                print(f"| {name} | {encoder} | {read} | {rate:,.0f} | {TARGETS / rate:,.0f} |", flush=True)
    claim = (__doc__ or "").split("\n", 1)[0]
    write("tiger_speed", {"claim": claim, "threads": options.threads, "rows": rows}, ("torch",))


ROWS = 128
TARGETS_A_STEP = {"causal": ROWS * WINDOW, "bidirectional": ROWS}


def step_seconds(config: CodeBodyConfig, steps: int) -> float:
    """Processor seconds of a step, forward and backward; the least of some."""
    draw = np.random.default_rng(0)
    net = CodeNet(config, draw.integers(0, 256, (ITEMS + 1, 4)).astype(np.int32), (256,) * 4)
    objective = NextCodes(config.encoder != "causal", 0.0, 1.0, np.ones(ITEMS + 1, np.int64))
    length = 1 + (WINDOW if config.encoder == "causal" else PREFIX)
    item = draw.integers(1, ITEMS + 1, ROWS * length).astype(np.int32)
    batch = Sequences(item, np.arange(1, ROWS + 1) * length, np.full(ROWS, length)).batch(np.arange(ROWS))
    generator = torch.Generator().manual_seed(0)
    marked = objective.mark(batch, generator)
    spent = []
    for _ in range(1 + steps):
        started = time.process_time()
        objective.loss(net, marked, generator).backward()
        net.zero_grad()
        spent.append(time.process_time() - started)
    return min(spent[1:])


if __name__ == "__main__":
    main()
