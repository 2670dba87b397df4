"""Claim: titles are encoded about twice as fast as in plain batches, and not at all the second time.

    python benchmarks/encode_speed.py data/beauty-text --field title

In one run, the same titles with MiniLM in 32 bits: ours (`tongtu.text.vectors.text_vectors` with an empty cache), the same from
the cache, and the plain way, which is transformers' forward over batches of 32 in the order of the catalogue, padded to the longest of
the batch. One and two threads, the ways take turns, median of some rounds; the vectors must agree. Beside titles a second
stands what share of this machine's speed in matrix products that is. Writes `results/encode_speed.json`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _record import write

from tongtu.data.public import load
from tongtu.text.encoder import open_encoder
from tongtu.text.minilm import minilm_folder
from tongtu.text.transformer import open_transformer
from tongtu.text.vectors import text_vectors

BATCH = 32
MFLOP_A_TOKEN = 6 * 2 * (4 * 384**2 + 2 * 384 * 1536) / 1e6  # of MiniLM's products with weights; attention among a title's tokens is next to nothing
AGREE = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a data set with item texts")
    parser.add_argument("--field", help="an item field to encode instead of the whole text")
    parser.add_argument("--texts", type=int, default=2_000, help="how many, drawn at random")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    texts = drawn(options.data, options.field, options.texts)
    encoder = open_encoder("minilm")
    net, tokenizer = open_transformer(minilm_folder())
    tokens = [len(one) for one in tokenizer(texts, truncation=True, max_length=256)["input_ids"]]
    padded = sum(max(tokens[i : i + BATCH]) * len(tokens[i : i + BATCH]) for i in range(0, len(tokens), BATCH))
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        rows.append(compared(encoder, net, tokenizer, texts, options.rounds) | {"threads": threads, "matmul GFLOP/s": matmul_speed()})
    facts = {"texts": len(texts), "tokens a text": sum(tokens) / len(tokens), "padding of the plain way": 1 - sum(tokens) / padded, "rows": rows}
    write("encode_speed", {"claim": (__doc__ or "").split("\n", 1)[0], **facts}, ("numpy", "tokenizers", "torch", "transformers"))
    print(f"{len(texts):,} texts of {facts['tokens a text']:.1f} tokens; {facts['padding of the plain way']:.0%} of the plain way's tokens are padding")
    names = ("threads", "ours, texts/s", "plain, texts/s", "ratio", "from the cache", "of matmul speed", "largest difference")
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for row in rows:
        share = row["ours"] * facts["tokens a text"] * MFLOP_A_TOKEN / 1e3 / row["matmul GFLOP/s"]
        speeds = (f"{row['ours']:,.0f}", f"{row['plain']:,.0f}", f"{row['ours'] / row['plain']:.1f}", f"{row['cached']:,.0f}")
        print(f"| {' | '.join((str(row['threads']), *speeds, f'{share:.0%}', format(row['difference'], '.1e')))} |")


def drawn(data: str, field: str | None, count: int) -> list[str]:
    opened = load(data)
    column = opened.item_text if field is None else opened.item_fields[field].fill_null("")
    held = column.filter(column != "").unique(maintain_order=True)
    return held.sample(min(count, len(held)), seed=0, shuffle=True).to_list()


def compared(encoder: Any, net: Any, tokenizer: Any, texts: list[str], rounds: int) -> dict[str, float]:
    """Texts a second of the three ways."""
    seconds: dict[str, list[float]] = {"ours": [], "plain": [], "cached": []}
    worst = 0.0
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            vectors = timed(seconds["ours"], lambda cache=cache: text_vectors(encoder, texts, quiet=True, cache=Path(cache)))
            again = timed(seconds["cached"], lambda cache=cache: text_vectors(encoder, texts, quiet=True, cache=Path(cache)))
        expected = timed(seconds["plain"], lambda: plain(net, tokenizer, texts))
        worst = max(worst, float(np.abs(vectors - expected).max()), float(np.abs(again - expected).max()))
    assert worst < AGREE, f"the vectors differ by {worst}"
    return {way: len(texts) / median(taken) for way, taken in seconds.items()} | {"difference": worst}


def plain(net: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    parts = []
    with torch.inference_mode():
        for start in range(0, len(texts), BATCH):
            batch = tokenizer(texts[start : start + BATCH], padding=True, truncation=True, max_length=256, return_tensors="pt")
            states = net(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            real = batch["attention_mask"][..., None]
            parts.append(torch.nn.functional.normalize((states * real).sum(1) / real.sum(1), dim=1))
    return torch.cat(parts).numpy()


def timed(seconds: list[float], work: Callable[[], np.ndarray]) -> np.ndarray:
    started = time.perf_counter()
    result = work()
    seconds.append(time.perf_counter() - started)
    return result


def matmul_speed(size: int = 1024, rounds: int = 10) -> float:
    """GFLOP/s of a square product, the best of some."""
    one, other = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        one @ other
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e9


if __name__ == "__main__":
    main()
