"""Beams as a tree behind a prompt say what the network says of each text alone, and find what transformers finds."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
import transformers
from tiny_nets import CAUSAL, VOCABULARY, causal
from walks import wander

from tongtu.decode.beam import beam_search
from tongtu.decode.causal import CausalDecoder
from tongtu.decode.trie import Trie
from tongtu.errors import DataError, LanguageModelError

PROMPTS = [[5, 9, 11, 4, 8, 21], [7], [30, 31, 5]]
END = 2


def next_logits(net: Any, text: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return net(input_ids=torch.tensor([text])).logits[0, -1]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", CAUSAL)
def test_each_beam_reads_its_own_text_alone(kind: str, attention: str) -> None:
    net = causal(kind, attention)
    swaps = 0.0
    for texts, logits in wander(CausalDecoder(net, PROMPTS), len(PROMPTS), VOCABULARY):
        for row, prompt in enumerate(PROMPTS):
            for beam, text in enumerate(texts[row]):
                torch.testing.assert_close(logits[row, beam], next_logits(net, [*prompt, *text]), atol=1e-4, rtol=1e-4)
                if len(text) > 1:
                    swapped = [*prompt, *text[:-2], text[-1], text[-2]]
                    swaps = max(swaps, float((logits[row, beam] - next_logits(net, swapped)).abs().max()))
    assert swaps > 0.1  # a text's order matters to this network: wrong positions would show


def test_prompts_of_one_length_need_no_mask() -> None:
    net = causal("llama")
    prompts = [[4, 5, 6], [9, 8, 7]]
    for texts, logits in wander(CausalDecoder(net, prompts), 2, VOCABULARY):
        for row, prompt in enumerate(prompts):
            torch.testing.assert_close(logits[row, -1], next_logits(net, [*prompt, *texts[row][-1]]), atol=1e-4, rtol=1e-4)


def test_low_precision_is_taken_as_it_is() -> None:
    net = causal("llama").to(torch.bfloat16)
    trie = Trie.of(torch.randint(3, VOCABULARY, (60, 3), generator=torch.Generator().manual_seed(0)).tolist())
    found = beam_search(CausalDecoder(net, PROMPTS), trie, 4, 4)
    assert found.scores.dtype == torch.float32 and bool((found.items > 0).all())


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize(("ragged", "beams", "k"), [(False, 6, 6), (True, 60, 20)])
def test_what_transformers_finds(kind: str, ragged: bool, beams: int, k: int) -> None:
    """The same sequences and scores. Of ids of several lengths transformers drops an end behind `beams` better open ones, so there are beams for all."""
    net = causal(kind)
    whole = torch.randint(3, 16, (500, 4), generator=torch.Generator().manual_seed(1)).unique(dim=0).tolist()
    if ragged:
        whole = [[*one, END] for one in sorted({tuple(one[: 1 + place % 4]) for place, one in enumerate(whole[::10])})]
    found = beam_search(CausalDecoder(net, PROMPTS), Trie.of(whole), beams, k)
    follows: dict[tuple[int, ...], list[int]] = {}
    for one in whole:
        for stop in range(len(one)):
            follows.setdefault(tuple(one[:stop]), []).append(one[stop])
    for row, prompt in enumerate(PROMPTS):
        before = len(prompt)
        made = net.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, before, dtype=torch.int64),
            num_beams=beams,
            num_return_sequences=k,
            max_new_tokens=max(map(len, whole)),
            length_penalty=0.0,
            early_stopping="never",
            do_sample=False,
            pad_token_id=0,
            prefix_allowed_tokens_fn=lambda _, text, before=before: follows.get(tuple(text[before:].tolist()), [END]),
            return_dict_in_generate=True,
            output_scores=True,
        )
        texts = [text[before:].tolist() for text in made.sequences]
        texts = [text[: text.index(END) + 1] if END in text else text for text in texts]
        assert [whole[code - 1] for code in found.items[row].tolist()] == texts
        torch.testing.assert_close(found.scores[row], made.sequences_scores, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_read_is_refused() -> None:
    net = causal("llama")
    for prompts in ([], [[4], []]):
        with pytest.raises(DataError, match="at least one token"):
            CausalDecoder(net, prompts)
    gpt2 = causal("gpt2")
    with pytest.raises(LanguageModelError, match="reads 64 tokens at once and was given 65"):
        CausalDecoder(gpt2, [[3] * 65]).start()
    decoder = CausalDecoder(gpt2, [[3] * 64])
    decoder.start()
    with pytest.raises(LanguageModelError, match="shorten the prompts"):
        decoder.step(torch.tensor([[4]]), torch.tensor([[0]]))


def test_a_model_whose_positions_cannot_be_given_is_refused() -> None:
    bloom = transformers.BloomForCausalLM(transformers.BloomConfig(vocab_size=VOCABULARY, hidden_size=16, n_layer=1, n_head=2)).eval()
    with pytest.raises(LanguageModelError, match="takes no position ids"):
        CausalDecoder(bloom, PROMPTS)


def test_a_window_over_the_last_tokens_is_respected() -> None:
    shape = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16}
    net = transformers.MistralForCausalLM(transformers.MistralConfig(**shape, sliding_window=8)).eval()
    decoder = CausalDecoder(net, [[3, 4, 5, 6, 7, 8, 9]])
    decoder.start()
    step = torch.tensor([[4, 6, 9]]), torch.tensor([[0, 0, 0]])
    logits = decoder.step(*step)
    torch.testing.assert_close(logits[0, 2], next_logits(net, [3, 4, 5, 6, 7, 8, 9, 9]), atol=1e-4, rtol=1e-4)
    with pytest.raises(LanguageModelError, match="reads 8 tokens"):
        decoder.step(*step)


@pytest.mark.slow
@pytest.mark.skipif("TONGTU_CACHE" not in os.environ, reason="reads SmolLM2 from TONGTU_CACHE")
def test_smollm2_writes_titles() -> None:
    from tongtu.llm.opening import open_language_model

    model: Any = open_language_model("smollm2").model
    titles = ["The Old Lighthouse", "The Old Garden", "Rain", "Rainy Days in June", "A Letter to Anna"]
    tokens = [model._tokenizer(title, add_special_tokens=False)["input_ids"] for title in titles]
    end = model._tokenizer.eos_token_id
    prompts = [model._tokenizer(text)["input_ids"] for text in ("A quiet film by the sea:", "Weather:")]
    found = beam_search(CausalDecoder(model._net, prompts), Trie.of(tokens, end), 5, 5)
    for row, prompt in enumerate(prompts):
        for code, score in zip(found.items[row].tolist(), found.scores[row].tolist(), strict=True):
            text = [*tokens[code - 1], end]
            with torch.no_grad():
                likely = torch.log_softmax(model._net(input_ids=torch.tensor([[*prompt, *text]])).logits[0], -1)
            expected = sum(float(likely[len(prompt) - 1 + place, token]) for place, token in enumerate(text))
            assert score == pytest.approx(expected, abs=1e-3)
