from __future__ import annotations

import numpy as np
import pytest
from tuned import ITEMS, texts, walk

from tongtu.tuning.tokenizer import MOST_WORDS, Wording, train_tokenizer


@pytest.fixture(scope="module")
def wording() -> Wording:
    return Wording(train_tokenizer(texts(walk(0)), 600), encoder=True, max_prompt=64, max_target=16)


def words_of(wording: Wording, text: str) -> tuple[list[str], list[int]]:
    (tokens,) = wording.prompts([text])
    return wording.tokenizer.convert_ids_to_tokens(tokens), wording.words(np.array(tokens), np.array([0, len(tokens)])).tolist()


@pytest.mark.parametrize("text", ["item_7391 then", "Amélie — 阿涅斯 <0x41> </s> <pad>", "two\nlines\tand 😀", "2001: A Space Odyssey (1968)"])
def test_any_text_is_written_and_read_back(wording: Wording, text: str) -> None:
    (tokens,) = Wording(wording.tokenizer, True, 512, 512).answers([text])
    assert wording.text(tokens) == text
    assert not {wording.tokenizer.eos_token_id, wording.tokenizer.pad_token_id, wording.tokenizer.unk_token_id} & set(tokens)


def test_an_items_number_is_several_pieces_of_one_word(wording: Wording) -> None:
    pieces, word = words_of(wording, f"bought {ITEMS[3]} , {ITEMS[4]}")
    assert pieces.count("▁item_") == 2 and len(pieces) > 7
    first = pieces.index("▁item_")
    assert word[first] == word[first + 1] == word[first + 2] == 2
    assert pieces[-1] == "</s>" and word[-1] == 0 and max(word) == 4


def test_words_are_counted_within_each_prompt_and_up_to_511() -> None:
    wording = Wording(train_tokenizer(texts(walk(0)), 600), encoder=True, max_prompt=2_000, max_target=16)
    prompts = wording.prompts(["what is", "", "what " * 700])
    flat = np.array([token for tokens in prompts for token in tokens])
    word = wording.words(flat, np.cumsum([0, *map(len, prompts)]))
    assert word[: len(prompts[0])].tolist() == [1, 2, 0]
    long = word[len(prompts[0]) + len(prompts[1]) :]
    assert long[0] == 1 and long.max() == MOST_WORDS - 1 and (long == MOST_WORDS - 1).sum() > 100


def test_the_tokenizer_follows_from_the_texts_alone() -> None:
    first, again = (train_tokenizer(texts(walk(0)), 600).backend_tokenizer.to_str() for _ in range(2))
    assert first == again
    assert first != train_tokenizer(texts(walk(1)), 600).backend_tokenizer.to_str()


def test_long_prompts_lose_their_beginning_and_long_answers_their_end(wording: Wording) -> None:
    short = Wording(wording.tokenizer, True, 8, 4)
    (prompt,) = short.prompts(["bought " * 20 + "what is next?"])
    assert len(prompt) == 8 and wording.text(prompt).endswith("what is next?") and prompt[-1] == short.end
    assert len(short.answers(["a b c d e f g"])[0]) == 3
