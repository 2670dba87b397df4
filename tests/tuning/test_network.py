"""Networks are asked what they say, and what they say is compared with the model's own code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_causal import write_tiny_causal
from torch.nn import functional
from tuned import ITEMS, fit, texts, tiny_net, walk

from tongtu.core import PAD
from tongtu.decode.beam import beam_search
from tongtu.decode.trie import Trie
from tongtu.errors import ConfigError
from tongtu.tuning import network
from tongtu.tuning.examples import TextExamples
from tongtu.tuning.network import LanguageNet
from tongtu.tuning.opening import open_network
from tongtu.tuning.settings import Tuning

PROMPTS = [prompt for prompt, _ in walk(5, 4)]
CAUSAL_PROMPTS = ["user : jazz piano what next", "user : shoes next"]


@pytest.fixture
def causal(tmp_path: Path) -> LanguageNet:
    return open_network(Tuning(model=f"hf:{write_tiny_causal(tmp_path / 'model')}")).eval()


def batch_of(net: LanguageNet, pairs: list[tuple[str, str]]) -> network.TextBatch:
    return TextExamples.of(net.wording, pairs).batch(np.arange(len(pairs)))


def test_the_loss_of_an_encoder_decoder_is_the_models_own() -> None:
    net = tiny_net(whole_word=False).eval()
    batch = batch_of(net, walk(1, 6))
    assert batch.source is not None and batch.target is not None
    labels = torch.where(batch.target == PAD, -100, batch.target - 1)
    tokens = (batch.source - 1).clamp_min(0)
    own = net.net(input_ids=tokens, attention_mask=(batch.source != PAD).long(), labels=labels).loss * (labels != -100).sum()
    assert float(net.loss(batch).detach()) == pytest.approx(float(own.detach()), rel=1e-4)


def test_the_loss_of_a_causal_model_is_that_of_its_answers(causal: LanguageNet) -> None:
    pairs = [("user : jazz", "piano record"), ("what next", "shoes"), ("user", "running shoes next")]
    summed = 0.0
    for prompt, answer in pairs:
        (asked,), (told,) = causal.wording.prompts([prompt]), causal.tokens_of([answer])
        tokens = torch.tensor([[*asked, *told, causal.end]])
        likely = torch.log_softmax(causal.net(input_ids=tokens).logits[0, :-1], -1).gather(1, tokens[0, 1:, None])[:, 0]
        summed -= float(likely[len(asked) - 1 :].sum().detach())
    assert float(causal.loss(batch_of(causal, pairs)).detach()) == pytest.approx(summed, rel=1e-4)


def test_logits_in_parts_change_neither_loss_nor_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny_net().eval()
    batch = batch_of(net, walk(1, 8))

    def measured() -> tuple[float, torch.Tensor]:
        net.zero_grad()
        loss = net.loss(batch)
        loss.backward()
        gradient = net.net.shared.weight.grad
        assert gradient is not None
        return float(loss.detach()), gradient.clone()

    whole, gradient = measured()
    monkeypatch.setattr(network, "_LOGITS_AT_ONCE", 3 * net.net.config.vocab_size)
    parts, other = measured()
    assert parts == pytest.approx(whole, rel=1e-5) and torch.allclose(gradient, other, atol=1e-4)


def test_likelihoods_are_minus_the_loss() -> None:
    net = tiny_net().eval()
    likely = net.log_likelihood(PROMPTS, [ITEMS[:3]] * len(PROMPTS))
    for prompt, found in zip(PROMPTS, likely, strict=True):
        expected = [-float(net.loss(batch_of(net, [(prompt, item)])).detach()) for item in ITEMS[:3]]
        assert found == pytest.approx(expected, rel=1e-4)


def test_likelihoods_of_a_causal_model_are_minus_the_loss(causal: LanguageNet) -> None:
    answers = ["piano record", "shoes", "running shoes next"]
    likely = causal.log_likelihood(CAUSAL_PROMPTS, [answers] * 2)
    for prompt, found in zip(CAUSAL_PROMPTS, likely, strict=True):
        expected = [-float(causal.loss(batch_of(causal, [(prompt, answer)])).detach()) for answer in answers]
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_beams_find_what_likelihoods_say(kind: str, causal: LanguageNet) -> None:
    net = tiny_net().eval() if kind == "encoder" else causal
    prompts, answers = (PROMPTS, ITEMS) if kind == "encoder" else (CAUSAL_PROMPTS, ["piano record", "piano", "shoes", "running shoes next", "next"])
    trie = Trie.of(net.tokens_of(answers), net.end)
    found = beam_search(net.decoder(prompts), trie, beams=len(answers), k=4)
    for row, likely in enumerate(net.log_likelihood(prompts, [answers] * len(prompts))):
        order = np.argsort(-likely)[:4]
        assert found.items[row].tolist() == (order + 1).tolist()
        assert found.scores[row].numpy() == pytest.approx(likely[order], abs=1e-3)


def test_whole_words_are_heard_in_training_and_in_answers() -> None:
    net = tiny_net().eval()
    batch = batch_of(net, walk(1, 4))
    trie = Trie.of(net.tokens_of(ITEMS), net.end)

    def said() -> tuple[float, float, float]:
        found = beam_search(net.decoder(PROMPTS), trie, beams=5, k=3)
        return float(net.loss(batch).detach()), float(net.log_likelihood(PROMPTS[:1], [ITEMS[:1]])[0][0]), float(found.scores.sum())

    before = said()
    assert net.word is not None
    with torch.no_grad():
        net.word.weight[1:] += torch.randn(net.word.weight[1:].shape, generator=torch.Generator().manual_seed(0))
    assert all(abs(one - other) > 1e-3 for one, other in zip(before, said(), strict=True))


def test_generated_text_is_the_greedy_one_whatever_the_batch(causal: LanguageNet) -> None:
    for net, prompts in ((tiny_net().eval(), PROMPTS), (causal, CAUSAL_PROMPTS)):
        together = net.generate(prompts, 6)
        assert together == [net.generate([prompt], 6)[0] for prompt in prompts]
    (asked,) = causal.wording.prompts(CAUSAL_PROMPTS[:1])
    for _ in range(6):
        asked.append(int(causal.net(input_ids=torch.tensor([asked])).logits[0, -1].argmax()))
    assert causal.wording.text(asked[-6:]) == causal.generate(CAUSAL_PROMPTS[:1], 6)[0]


def test_a_causal_model_has_no_whole_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no encoder"):
        open_network(Tuning(model=f"hf:{write_tiny_causal(tmp_path)}", whole_word=True))


def test_new_tokens_are_single_and_part_of_their_word() -> None:
    net = open_network(Tuning(vocabulary=600), texts(walk(0)), ["<c1>", "<c2>"])
    (tokens,) = net.tokens_of(["item_<c1><c2>"])
    assert net.tokenizer.convert_ids_to_tokens(tokens)[-2:] == ["<c1>", "<c2>"] and net.wording.text(tokens) == "item_<c1><c2>"
    (prompt,) = net.wording.prompts(["bought item_<c1><c2> , item_<c2>"])
    word = net.wording.words(np.array(prompt), np.array([0, len(prompt)]))
    assert word[net.tokenizer.convert_ids_to_tokens(prompt).index("<c1>")] == 2 and word.max() == 4
    with pytest.raises(ConfigError, match="twice there or known"):
        open_network(Tuning(vocabulary=600), texts(walk(0)), ["<c1>", "<c1>"])


def test_a_seed_gives_the_network() -> None:
    one, same, other = tiny_net(3), tiny_net(3), tiny_net(4)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.net.shared.weight, other.net.shared.weight)
    assert one.net.get_output_embeddings().weight is one.net.shared.weight


def test_a_table_with_a_rate_of_its_own_learns_sooner() -> None:
    fast, slow = tiny_net(), tiny_net()
    slow.rate_factors = {}
    losses = [fit(net, walk(1), epochs=3, learning_rate=1e-3).curves[-1]["loss"] for net in (fast, slow)]
    assert losses[0] < 0.9 * losses[1]


def test_it_learns_which_item_follows() -> None:
    net, few = tiny_net(), ITEMS[:12]
    follows = {item: few[(place + 1) % len(few)] for place, item in enumerate(few)}
    pairs = [(f"user_{user} bought {item} . next?", answer) for user in range(10) for item, answer in follows.items()]
    fit(net, pairs, epochs=12, tokens=256, schedule="linear", warmup_steps=5, clip=1.0)
    asked = [f"user_{number} bought {item} . next?" for number, item in enumerate(few, 20)]  # users never seen
    found = beam_search(net.decoder(asked), Trie.of(net.tokens_of(ITEMS), net.end), beams=10, k=1)
    assert sum(ITEMS[int(item) - 1] == follows[asked] for item, asked in zip(found.items[:, 0], few, strict=True)) > 9


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"accumulate": 2}])
def test_other_ways_to_train(change: dict[str, object]) -> None:
    net = tiny_net(gradient_checkpointing=True)
    trained = fit(net, walk(0, 60), epochs=3, tokens=512, **change)
    assert trained.curves[-1]["loss"] < trained.curves[0]["loss"] - 0.3


def test_gradient_checkpointing_changes_nothing_but_memory() -> None:
    plain, saving = tiny_net(), tiny_net(gradient_checkpointing=True)
    first, second = fit(plain, walk(0, 60), epochs=1), fit(saving, walk(0, 60), epochs=1)
    assert first.curves[0]["loss"] == pytest.approx(second.curves[0]["loss"], rel=1e-6)
    assert all(stack.gradient_checkpointing for stack in (saving.net.encoder, saving.net.decoder))
    assert functional.mse_loss(plain.net.shared.weight, saving.net.shared.weight) < 1e-10
