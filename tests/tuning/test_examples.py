from __future__ import annotations

import numpy as np
import pytest
from tiny_causal import write_tiny_causal
from tuned import tiny_net, walk

from tongtu.core import PAD
from tongtu.tuning.examples import Redrawn, TextExamples
from tongtu.tuning.opening import open_network
from tongtu.tuning.settings import Tuning


def test_decoders_read_the_answer_shifted_right() -> None:
    net = tiny_net()
    pairs = [("bought a thing", "item_1037"), ("what is next after all of these things?", "bought")]
    examples = TextExamples.of(net.wording, pairs)
    batch = examples.batch(np.array([1, 0]))
    assert batch.source is not None and batch.word is not None and batch.target is not None
    for row, (prompt, answer) in enumerate(reversed(pairs)):
        (asked,), (told,) = net.wording.prompts([prompt]), net.tokens_of([answer])
        goal = [*told, net.end]
        assert batch.source[row].tolist() == [token + 1 for token in asked] + [PAD] * (batch.source.shape[1] - len(asked))
        assert batch.target[row, : len(goal)].tolist() == [token + 1 for token in goal]
        assert batch.item[row, : len(goal)].tolist() == [1, *(token + 1 for token in told)]
        assert not batch.target[row, len(goal) :].any() and not batch.item[row, len(goal) :].any()
        assert examples.length[1 - row] == len(asked) + len(goal)
    assert batch.word.shape == batch.source.shape and (batch.word[batch.source == PAD] == 0).all()


def test_causal_models_learn_the_answer_alone(tmp_path: object) -> None:
    net = open_network(Tuning(model=f"hf:{write_tiny_causal(tmp_path)}"))  # type: ignore[arg-type]
    pairs = [("user : jazz", "piano record"), ("user", "next"), ("what running shoes", "record")]
    batch = TextExamples.of(net.wording, pairs).batch(np.arange(3))
    assert batch.source is None and batch.target is not None
    for row, (prompt, answer) in enumerate(pairs):
        (asked,), (told,) = net.wording.prompts([prompt]), net.tokens_of([answer])
        whole = [token + 1 for token in (*asked, *told, net.end)]
        assert batch.item[row, : len(whole) - 1].tolist() == whole[:-1]
        assert batch.target[row, : len(whole) - 1].tolist() == [PAD] * (len(asked) - 1) + whole[len(asked) :]
        assert int(batch.length[row]) == len(whole) - 1
        assert not batch.item[row, len(whole) - 1 :].any() and not batch.target[row, len(whole) - 1 :].any()
    assert net.end == 0, "the end is token 0 here, and is learned all the same"


def test_examples_are_drawn_by_seed_and_epoch() -> None:
    net = tiny_net()
    redrawn = Redrawn(net.wording, lambda seed: walk(seed, 20))
    first, again, next_epoch, other = redrawn.epoch(0, 0), redrawn.epoch(0, 0), redrawn.epoch(0, 1), redrawn.epoch(1, 0)
    assert np.array_equal(first.prompt, again.prompt)
    assert not np.array_equal(first.prompt, next_epoch.prompt) and not np.array_equal(first.prompt, other.prompt)


def test_no_examples_make_no_batch() -> None:
    examples = TextExamples.of(tiny_net().wording, [])
    assert len(examples) == 0 and len(examples.length) == 0


@pytest.mark.parametrize("change", [{"model": "t6"}, {"model": "hf:"}, {"weights": "lora"}, {"model": "smollm2", "whole_word": True}, {"max_target": 1}])
def test_settings_that_cannot_be_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Tuning(**change)  # type: ignore[arg-type]
