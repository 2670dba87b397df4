"""Claim: writing only items of the catalogue with 50 beams is many times faster along the trie than with a prefix function, with the same answers.

    python benchmarks/constrained_beam.py --threads 1

Ours (`tongtu.decode`) against `generate(num_beams=50, prefix_allowed_tokens_fn=...)` of transformers with a dictionary from prefixes to
tokens, in one run, taking turns, for a small T5 and a small Llama with random weights and for catalogues of 10,000 ids of four tokens
and 10,000 titles of two to nine tokens. Ids must be the same to the last place, with scores within 1e-3. Of titles transformers drops one that
ends behind 50 better open beams: what it lists, ours must list with the same score or have better ones for. The encoder's share, the
same for both, is told too. Then ours answers more requests, each with half of the items, drawn at random: none of 10,000 answers may
be illegal. Writes `results/constrained_beam.json`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from _record import write
from torch import Tensor

from tongtu.decode.beam import Found, beam_search
from tongtu.decode.causal import CausalDecoder
from tongtu.decode.seq2seq import Seq2SeqDecoder
from tongtu.decode.trie import Trie

AGREE = 1e-3
PADDING, END, FIRST = 0, 1, 2
SYMBOLS = 256
VOCABULARY = FIRST + 4 * SYMBOLS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--beams", type=int, default=50)
    parser.add_argument("--requests", type=int, default=4, help="answered together in each timed pair")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--answers", type=int, default=10_000, help="answers looked at for illegal ones")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    catalogues = {"ids": ids(options.items), "titles": titles(options.items)}
    rows = []
    for kind, net in {"t5": t5(), "llama": llama()}.items():
        for catalogue, sequences in catalogues.items():
            rows.append({"net": kind, "catalogue": catalogue, **compared(net, sequences, catalogue == "ids", options)})
    facts = {key: getattr(options, key) for key in ("items", "beams", "requests", "prompt", "threads")}
    write("constrained_beam", {"claim": (__doc__ or "").split("\n", 1)[0], **facts, "rows": rows}, ("numpy", "torch", "transformers"))
    print("| network | catalogue | generate, s a request | ours, s | encoder's share of both, s | times faster | largest difference | illegal |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        times = f"{row['seconds generate']:.3f} | {row['seconds ours']:.4f} | {row['seconds encoder']:.4f} | {row['ratio']:.1f}"
        print(f"| {row['net']} | {row['catalogue']} | {times} | {row['largest difference']:.1e} | {row['illegal']} of {row['answers']} |")


def compared(net: Any, sequences: list[list[int]], same: bool, options: argparse.Namespace) -> dict[str, Any]:
    """Both ways on the same prompts, and the illegal ones among many answers of ours."""
    trie, follows = Trie.of(sequences), dictionary(sequences)
    draw = np.random.default_rng(1)
    seconds: dict[str, list[float]] = {"generate": [], "ours": []}
    worst = 0.0
    for pair in range(options.pairs + 1):
        prompts = draw.integers(FIRST, VOCABULARY, (options.requests, options.prompt)).tolist()
        started = time.perf_counter()
        found = ours(net, prompts, trie, options.beams)
        between = time.perf_counter()
        texts, scores = theirs(net, prompts, follows, max(map(len, sequences)), options.beams)
        if pair:  # the first warms up
            seconds["ours"].append((between - started) / options.requests)
            seconds["generate"].append((time.perf_counter() - between) / options.requests)
        worst = max(worst, difference(found, sequences, texts, scores, same))
    assert worst < AGREE, f"the scores differ by {worst}"
    ratio = median(slow / fast for slow, fast in zip(seconds["generate"], seconds["ours"], strict=True))
    bad, answers = illegal(net, trie, options)
    assert not bad, f"{bad} illegal answers"
    seconds["encoder"] = [encoder_seconds(net, options)] if net.config.is_encoder_decoder else [0.0]
    times = {f"seconds {way}": median(taken) for way, taken in seconds.items()}
    return {**times, "ratio": ratio, "pairs": seconds, "largest difference": worst, "illegal": bad, "answers": answers}


@torch.inference_mode()
def encoder_seconds(net: Any, options: argparse.Namespace) -> float:
    prompts = torch.full((options.requests, options.prompt), FIRST)
    taken = []
    for _ in range(options.pairs + 1):
        started = time.perf_counter()
        net.get_encoder()(input_ids=prompts, attention_mask=torch.ones_like(prompts))
        taken.append((time.perf_counter() - started) / options.requests)
    return median(taken)


@torch.inference_mode()
def ours(net: Any, prompts: list[list[int]], trie: Trie, beams: int, allowed: Tensor | None = None) -> Found:
    if not net.config.is_encoder_decoder:
        return beam_search(CausalDecoder(net, prompts), trie, beams, beams, allowed)
    mask = torch.ones(len(prompts), len(prompts[0]), dtype=torch.bool)
    states = net.get_encoder()(input_ids=torch.tensor(prompts), attention_mask=mask).last_hidden_state
    return beam_search(Seq2SeqDecoder(net, states, mask), trie, beams, beams, allowed)


@torch.inference_mode()
def theirs(net: Any, prompts: list[list[int]], follows: Callable[[Sequence[int]], list[int]], longest: int, beams: int) -> tuple[list[list[list[int]]], Tensor]:
    """Sequences and scores as `generate` has them: the plain beam search (no length penalty, no early end)."""
    before = 1 if net.config.is_encoder_decoder else len(prompts[0])
    made = net.generate(
        torch.tensor(prompts),
        attention_mask=torch.ones(len(prompts), len(prompts[0]), dtype=torch.int64),
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=longest,
        length_penalty=0.0,
        early_stopping="never",
        do_sample=False,
        prefix_allowed_tokens_fn=lambda _, text: follows(text[before:].tolist()),
        return_dict_in_generate=True,
        output_scores=True,
    )
    texts = [text[before:].tolist() for text in made.sequences]
    whole = [text[: text.index(END) + 1] if END in text else text for text in texts]
    return [whole[row * beams : (row + 1) * beams] for row in range(len(prompts))], made.sequences_scores.view(len(prompts), beams)


def difference(found: Found, sequences: list[list[int]], texts: list[list[list[int]]], scores: Tensor, same: bool) -> float:
    """The largest difference of the scores of one sequence; sequences have to agree."""
    worst = 0.0
    for row, listed in enumerate(texts):
        mine = {tuple(sequences[code - 1]): score for code, score in zip(found.items[row].tolist(), found.scores[row].tolist(), strict=True)}
        if same:
            assert [list(one) for one in mine] == listed, "other sequences"
        for text, score in zip(listed, scores[row].tolist(), strict=True):
            if tuple(text) in mine:
                worst = max(worst, abs(mine[tuple(text)] - score))
            else:  # only what ours has better ones for
                assert score <= min(mine.values()) + AGREE, "a better sequence is missing"
    return worst


def illegal(net: Any, trie: Trie, options: argparse.Namespace) -> tuple[int, int]:
    """How many answers are no item, one that was not allowed, or a second time the same, and how many answers there are."""
    draw = np.random.default_rng(2)
    bad = answers = 0
    while answers < options.answers:
        prompts = draw.integers(FIRST, VOCABULARY, (10, 20)).tolist()
        allowed = torch.from_numpy(draw.random((10, trie.n_items + 1)) < 0.5)
        items = ours(net, prompts, trie, options.beams, allowed).items
        legal = (items > 0) & (items <= trie.n_items) & allowed.gather(1, items.long())
        again = sum(len(row) - len(set(row)) for row in items.tolist())
        bad, answers = bad + int((~legal).sum()) + again, answers + items.numel()
    return bad, answers


def dictionary(sequences: list[list[int]]) -> Callable[[Sequence[int]], list[int]]:
    """What may follow a prefix; behind an end, or off the catalogue (where transformers has beams without hope), the end."""
    follows: dict[tuple[int, ...], dict[int, None]] = {}
    for sequence in sequences:
        for stop, token in enumerate(sequence):
            follows.setdefault(tuple(sequence[:stop]), {})[token] = None
    listed = {prefix: list(tokens) for prefix, tokens in follows.items()}
    return lambda text: listed.get(tuple(text), [END])


def ids(items: int) -> list[list[int]]:
    """Ids of four tokens, each place with symbols of its own, as semantic ids are."""
    draw = np.random.default_rng(0)
    codes = np.unique(draw.integers(0, SYMBOLS, (2 * items, 4)) ** 2 // SYMBOLS, axis=0)
    return (draw.permutation(codes)[:items] + FIRST + SYMBOLS * np.arange(4)).tolist()


def titles(items: int) -> list[list[int]]:
    """Titles whose words are as unevenly common as words are, an end behind each."""
    draw = np.random.default_rng(0)
    made: dict[tuple[int, ...], None] = {}
    while len(made) < items:
        made[tuple(np.minimum(draw.zipf(1.3, draw.integers(2, 10)) + FIRST, VOCABULARY) - 1)] = None
    return [[*map(int, title), END] for title in made]


def t5() -> Any:
    shape = {"d_model": 128, "d_kv": 32, "d_ff": 512, "num_layers": 3, "num_heads": 4, "decoder_start_token_id": PADDING}
    return spread(transformers.T5ForConditionalGeneration(transformers.T5Config(vocab_size=VOCABULARY, pad_token_id=PADDING, eos_token_id=END, **shape)))


def llama() -> Any:
    shape = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 768}
    return spread(transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=VOCABULARY, pad_token_id=PADDING, eos_token_id=END, **shape)))


def spread(net: Any) -> Any:
    """Random weights large enough that scores lie apart."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in net.parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn(weight.shape, generator=draw) * 1.5 * weight.shape[-1] ** -0.5)
        net.get_output_embeddings().weight.mul_(net.config.hidden_size**0.5 if net.config.is_encoder_decoder else 1.0)
    return net.eval()


if __name__ == "__main__":
    main()
