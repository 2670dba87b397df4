"""Free beam search against the plain ranking of all texts."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from tables import TableDecoder
from tiny_nets import causal

from tongtu.decode.causal import CausalDecoder
from tongtu.decode.free import Written, free_search

END = 3


def told(found: Written, row: int) -> list[tuple[tuple[int, ...], float]]:
    texts = [tuple(token for token in text if token >= 0) for text in found.tokens[row].tolist()]
    return list(zip(texts, found.scores[row].tolist(), strict=True))


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
def test_with_enough_beams_the_ranking_is_exact(penalty: float) -> None:
    decoder = TableDecoder(3, 4, seed=5)
    texts = [text for length in (1, 2, 3) for text in product((0, 1, 2), repeat=length)]
    found = free_search(decoder, END, beams=200, k=len(texts) + 1, most=3, length_penalty=penalty)
    for row in range(3):
        expected = sorted(((text, decoder.score(row, [*text, END]) / (len(text) + 1) ** penalty) for text in texts), key=lambda one: -one[1])
        got = told(found, row)
        assert [text for text, _ in got[:-1]] == [text for text, _ in expected], "no text twice, none without a token"
        assert [score for _, score in got[:-1]] == pytest.approx([score for _, score in expected], abs=1e-4)
        assert got[-1] == ((), float("-inf"))


def test_few_beams_are_followed_and_closed_where_they_cannot_win() -> None:
    decoder = TableDecoder(2, 60, seed=1, spread=4.0)
    wide = free_search(decoder, END, 200, 3, 6)
    decoder.widths.clear()
    narrow = free_search(decoder, END, 5, 3, 6)
    assert max(decoder.widths) == 5 and (narrow.scores <= wide.scores + 1e-5).all()
    for row in range(2):
        for text, score in told(narrow, row):
            assert score == pytest.approx(decoder.score(row, [*text, END]), abs=1e-4)


def test_an_end_that_nobody_expects_makes_no_text() -> None:
    """Of a text that is sure, with an end that is out of the question before: fewer texts than asked for, and no halves."""

    class Sure(TableDecoder):
        def logits(self, row: int, past: tuple[int, ...]) -> torch.Tensor:
            likely = {0: 0, 1: 1, 2: 2, 3: END}[min(len(past), 3)]
            logits = torch.full((self.vocabulary,), -9.0)
            logits[END] = -20.0
            logits[likely] = 9.0
            return logits

    found = free_search(Sure(1, 8), END, 2, 4, 6)
    texts = [text for text, _ in told(found, 0)]
    assert texts[0] == (0, 1, 2) and all(len(text) >= 3 for text in texts if text)


def test_a_prompt_is_answered_alone_as_in_a_batch() -> None:
    net = causal("llama")
    prompts = [[5, 6, 7, 8, 9, 10], [4], [9, 3, 11]]
    together = free_search(CausalDecoder(net, prompts), 2, 4, 4, 5)
    for row, prompt in enumerate(prompts):
        alone = free_search(CausalDecoder(net, [prompt]), 2, 4, 4, 5)
        assert torch.equal(alone.tokens[0], together.tokens[row])
        assert alone.scores[0].tolist() == pytest.approx(together.scores[row].tolist(), abs=1e-4)


def test_scores_are_those_of_a_plain_pass_of_a_network() -> None:
    net = causal("llama")
    prompts = torch.tensor([[5, 6, 7], [9, 3, 11]])
    ours = free_search(CausalDecoder(net, prompts.tolist()), 2, 6, 6, 4)
    for row in range(2):
        for text, score in told(ours, row):
            with torch.no_grad():
                logp = torch.log_softmax(net(input_ids=torch.tensor([[*prompts[row].tolist(), *text, 2]])).logits[0], -1)
            assert score == pytest.approx(sum(float(logp[2 + at, token]) for at, token in enumerate([*text, 2])), abs=1e-3)
