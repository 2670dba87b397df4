"""Language models in process: a tiny random one, and SmolLM2 itself where it is marked slow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_causal import TEMPLATE, write_tiny_causal

from tongtu.errors import ConfigError, LanguageModelError
from tongtu.llm.local import LocalModel, open_local
from tongtu.llm.model import Likely, Message, Sampling, ask
from tongtu.llm.opening import open_language_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_causal(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder: Path) -> LocalModel:
    return open_local("tiny", folder)


def plainly(model: LocalModel, prompt: list[int], text: str) -> float:
    """One forward of prompt and continuation together."""
    behind = model.continuation_tokens(text)
    with torch.inference_mode():
        likely = torch.log_softmax(model._net(input_ids=torch.tensor([prompt + behind])).logits[0], -1)
    return float(sum(likely[len(prompt) - 1 + place, token] for place, token in enumerate(behind)))


def test_continuations_share_the_prompt_and_score_as_if_read_whole(model: LocalModel) -> None:
    prompt = ask("what next what next jazz", system="record")
    texts = ["jazz", "jazz piano record", "running shoes", "shoes", "piano piano piano piano piano"]
    (found,) = model.log_likelihood([prompt], [texts])
    np.testing.assert_allclose(found.summed, [plainly(model, model.tokens(prompt), text) for text in texts], atol=1e-4)
    assert found.tokens.tolist() == [1, 3, 2, 1, 5] and found.prompt_tokens == len(model.tokens(prompt))
    np.testing.assert_allclose(found.mean, found.summed / found.tokens)
    (alone,) = model.log_likelihood([prompt], [texts[1:2]])
    np.testing.assert_allclose(alone.summed, found.summed[1:2], atol=1e-5)


def test_many_continuations_are_read_in_parts(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["jazz piano", "shoes", "running shoes next", "record"] * 3
    (whole,) = model.log_likelihood([ask("what")], [texts])
    monkeypatch.setattr("tongtu.llm.likelihood._LOGITS_AT_ONCE", 40)
    (parts,) = model.log_likelihood([ask("what")], [texts])
    np.testing.assert_allclose(parts.summed, whole.summed, atol=1e-5)


def test_prompts_answered_together_are_answered_as_alone(model: LocalModel) -> None:
    prompts = [ask("jazz"), ask("what next jazz piano record running shoes"), (Message("user", "shoes"), Message("assistant", "jazz"), Message("user", "next"))]
    sampling = Sampling(max_tokens=6)
    together = model.complete(prompts, sampling)
    assert together == [model.complete([prompt], sampling)[0] for prompt in prompts]
    assert len({one.text for one in together}) > 1
    assert [one.prompt_tokens for one in together] == [len(model.tokens(prompt)) for prompt in prompts]
    assert model.complete([], sampling) == []


def test_a_template_without_a_system_message_gets_it_in_front_of_the_first_turn(tmp_path: Path) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TEMPLATE
    model = open_local("strict", write_tiny_causal(tmp_path, template))
    assert model.tokens(ask("jazz", system="record")) == model.tokens(ask("record jazz"))
    assert model.complete([ask("jazz", system="record")])[0].tokens > 0
    with pytest.raises(LanguageModelError, match="chat template"):
        open_local("broken", write_tiny_causal(tmp_path / "b", "{{ raise_exception('never') }}")).tokens(ask("jazz"))


def test_draws_follow_from_the_seed(model: LocalModel) -> None:
    def drawn(seed: int) -> str:
        return model.complete([ask("jazz piano")], Sampling(max_tokens=12, temperature=2.0, seed=seed))[0].text

    before = torch.random.get_rng_state()
    assert drawn(1) == drawn(1) and len({drawn(seed) for seed in range(5)}) > 1
    assert torch.equal(torch.random.get_rng_state(), before)


def test_names_open_models_or_name_the_remedy(folder: Path) -> None:
    opened = open_language_model(f"hf:{folder}")
    assert opened.name == f"hf:{folder}" and isinstance(opened, Likely) and opened.fingerprint == open_local("x", folder).fingerprint
    for name, told in (("smolm2", "did you mean 'smollm2'"), ("hf:/nowhere/at/all", "no language model at"), ("openai:x", "openai:NAME@URL"), ("openai:x@y", "http://")):
        with pytest.raises(ConfigError, match=told):
            open_language_model(name)
