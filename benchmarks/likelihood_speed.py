"""Claim: ranking 20 candidates by likelihood is many times faster when they share the prompt's key-value cache, with the same scores.

    python benchmarks/likelihood_speed.py --users 8

For some users of MovieLens-100K the model is asked which of 20 films comes next after a history of titles: ours
(`tongtu.llm.local`: the prompt is read once, all candidates behind it in one batch) against one full forward of prompt and
candidate for each, in one run, taking turns. Scores must agree within 1e-3. Writes `results/likelihood_speed.json`.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import numpy as np
import torch
from _record import write

from tongtu.data.public import load
from tongtu.data.splits import leave_one_out
from tongtu.llm.model import ask
from tongtu.llm.opening import open_language_model

AGREE = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--history", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model: Any = open_language_model(options.model).model  # without its cache: every answer is worked out here
    rows = [compared(model, prompt, texts) for prompt, texts in questions(options)]
    shared, alone = (median(row[way] for row in rows) for way in ("shared", "alone"))
    worst = max(row["difference"] for row in rows)
    assert worst < AGREE, f"the scores differ by {worst}"
    facts = {"model": options.model, "candidates": options.candidates, "threads": options.threads, "prompt tokens": median(row["tokens"] for row in rows)}
    result = {"seconds shared": shared, "seconds alone": alone, "ratio": median(row["alone"] / row["shared"] for row in rows), "largest difference": worst}
    write("likelihood_speed", {"claim": (__doc__ or "").split("\n", 1)[0], **facts, **result, "users": rows}, ("numpy", "tokenizers", "torch", "transformers"))
    print(f"prompts of {facts['prompt tokens']:.0f} tokens, {options.candidates} candidates, {options.threads} threads, median of {len(rows)} users")
    print("| one forward a candidate, s | shared prompt, s | times faster | largest difference |\n|---|---|---|---|")
    print(f"| {alone:.2f} | {shared:.2f} | {result['ratio']:.1f} | {worst:.1e} |")


def questions(options: argparse.Namespace) -> list[tuple[Any, list[str]]]:
    """Prompts and candidates' titles."""
    log = load("ml-100k")
    split, titles = leave_one_out(log), log.item_fields["title"]
    draw = np.random.default_rng(0)
    found = []
    for case in draw.choice(len(split.test), options.users, replace=False):
        history = split.test.requests[int(case)].history[-options.history :]
        watched = "; ".join(titles.gather(history.astype(np.int64) - 1))
        texts = titles.gather(draw.choice(len(titles), options.candidates, replace=False)).to_list()
        found.append((ask(f"These are the films I watched, oldest first: {watched}. Which film should I watch next? Answer with its title alone."), texts))
    return found


def compared(model: Any, prompt: Any, texts: list[str]) -> dict[str, float]:
    started = time.perf_counter()
    (found,) = model.log_likelihood([prompt], [texts])
    shared = time.perf_counter() - started
    started = time.perf_counter()
    expected = [alone(model, model.tokens(prompt), text) for text in texts]
    took = time.perf_counter() - started
    return {"shared": shared, "alone": took, "tokens": found.prompt_tokens, "difference": float(np.abs(found.summed - expected).max())}


@torch.inference_mode()
def alone(model: Any, prompt: list[int], text: str) -> float:
    """One full forward."""
    behind = model.continuation_tokens(text)
    likely = torch.log_softmax(model._net(input_ids=torch.tensor([prompt + behind]), logits_to_keep=len(behind) + 1).logits[0].float(), -1)
    return float(sum(likely[place, token] for place, token in enumerate(behind)))


if __name__ == "__main__":
    main()
