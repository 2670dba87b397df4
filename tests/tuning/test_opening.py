"""What learns, what stays to the bit, and what a model folder keeps of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_causal import write_tiny_causal
from tuned import ITEMS, fit, texts, tiny_net, walk

from tongtu import hub
from tongtu.config import configuration
from tongtu.decode.beam import beam_search
from tongtu.decode.trie import Trie
from tongtu.errors import ConfigError, MissingExtra, ModelError
from tongtu.train.checkpoint import weights_of
from tongtu.tuning.network import LanguageNet
from tongtu.tuning.opening import open_network
from tongtu.tuning.saving import arrays_of, reopen, texts_of
from tongtu.tuning.settings import Lora, Tuning
from tongtu.vocab import Vocab

NEW = ["<c1>", "<c2>", "<c3>"]
PAIRS = [("user : <c1> next", "piano <c2>"), ("user : <c2> next", "record <c3>"), ("user : <c3> next", "jazz <c1>")]


class Owner:
    """What `hub.save` needs of a system."""

    @configuration
    class Config:
        pass

    config, items = Config(), Vocab(["a"])

    def __init__(self, net: LanguageNet) -> None:
        self.net = net

    def save(self, path: Path) -> hub.ModelFolder:
        hub.save(path, self, arrays_of(self.net), texts=texts_of(self.net))  # type: ignore[arg-type]
        return hub.read(path)


def numbers(net: LanguageNet) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in net.named_parameters()}


def write_tiny_t5(path: Path) -> Path:
    """A pretrained encoder-decoder, as transformers writes it."""
    net = tiny_net(whole_word=False)
    net.net.save_pretrained(path)
    net.tokenizer.save_pretrained(path)
    return path


def likelihoods(net: LanguageNet, pairs: list[tuple[str, str]]) -> np.ndarray:
    return np.concatenate(net.eval().log_likelihood([prompt for prompt, _ in pairs], [[answer] for _, answer in pairs]))


@pytest.mark.parametrize("weights", ["new", "lora"])
@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_what_is_frozen_stays_to_the_bit(weights: Any, kind: str, tmp_path: Path) -> None:
    if weights == "lora":
        pytest.importorskip("peft", reason="needs pip install 'tongtu[llm]'")
    model = (write_tiny_causal if kind == "causal" else write_tiny_t5)(tmp_path / "model")
    settings = Tuning(model=f"hf:{model}", weights=weights, whole_word=False if kind == "encoder" else None, lora=Lora(rank=4))
    net = open_network(settings, (), NEW)
    before, learning = numbers(net), {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert all(name.endswith(".rows") or (weights == "lora" and ".lora_" in name) for name in learning) and learning
    assert weights_of(net).keys() == learning, "a checkpoint holds what learns and no more"
    likely = likelihoods(net, PAIRS)
    fit(net.train(), PAIRS * 10, epochs=4, tokens=128, learning_rate=1e-2, weight_decay=0.1)
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, before[name]) == (name not in learning), name
    assert likelihoods(net, PAIRS).sum() > likely.sum()
    folder = Owner(net).save(tmp_path / "saved")
    assert sum(array.size for array in folder.arrays.values()) == sum(before[name].numel() for name in learning)
    again = reopen(settings, folder)
    assert likelihoods(again, PAIRS) == pytest.approx(likelihoods(net, PAIRS), abs=1e-5)
    answers = [answer for _, answer in PAIRS]
    found = beam_search(again.decoder([PAIRS[0][0]]), Trie.of(again.tokens_of(answers), again.end), beams=3, k=3)
    (expected,) = net.log_likelihood([PAIRS[0][0]], [answers])
    assert found.scores[0].numpy() == pytest.approx(np.sort(expected)[::-1], abs=1e-3)


def test_another_model_by_the_same_name_is_refused(tmp_path: Path) -> None:
    settings = Tuning(model=f"hf:{write_tiny_causal(tmp_path / 'model')}", weights="new")
    folder = Owner(open_network(settings, (), NEW)).save(tmp_path / "saved")
    changed = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        changed.model.norm.weight[0] += 1
    changed.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match="bring back the model that was tuned, or fit again"):
        reopen(settings, folder)


def test_all_weights_come_back_without_the_model_they_came_from(tmp_path: Path) -> None:
    settings = Tuning(model=f"hf:{write_tiny_causal(tmp_path / 'model')}")
    net = open_network(settings, (), NEW)
    fit(net, PAIRS * 5, epochs=2, tokens=128)
    folder = Owner(net).save(tmp_path / "saved")
    (tmp_path / "model").rename(tmp_path / "gone")
    again = reopen(settings, folder)
    assert np.array_equal(likelihoods(again, PAIRS), likelihoods(net, PAIRS))
    assert again.generate([PAIRS[0][0]], 5) == net.generate([PAIRS[0][0]], 5)


def test_a_network_from_scratch_comes_back(tmp_path: Path) -> None:
    net = open_network(Tuning(vocabulary=600), texts(walk(0)), ["<c1>"])
    fit(net, walk(0, 30), epochs=1)
    folder = Owner(net).save(tmp_path / "saved")
    again = reopen(Tuning(vocabulary=600), folder)
    asked = walk(3, 3)
    assert np.array_equal(likelihoods(again, asked), likelihoods(net, asked))
    assert again.tokens_of([*ITEMS, "item_<c1> 😀 </s>"]) == net.tokens_of([*ITEMS, "item_<c1> 😀 </s>"])
    (tmp_path / "saved" / "texts" / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="damaged"):
        hub.read(tmp_path / "saved")


def test_a_text_that_no_hash_vouches_for_is_refused(tmp_path: Path) -> None:
    Owner(tiny_net()).save(tmp_path / "saved")
    (tmp_path / "saved" / "texts" / "more.json").write_text("{}")
    with pytest.raises(ModelError, match="does not list the files"):
        hub.read(tmp_path / "saved")


def test_nothing_to_learn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are none"):
        open_network(Tuning(model=f"hf:{write_tiny_causal(tmp_path)}", weights="new"))
    pytest.importorskip("peft", reason="needs pip install 'tongtu[llm]'")
    with pytest.raises(ConfigError, match=r"other lora\.targets"):
        open_network(Tuning(model=f"hf:{tmp_path}", weights="lora", lora=Lora(targets=("nowhere",))))


def test_low_rank_updates_without_their_package_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"tongtu\[llm\]"):
        open_network(Tuning(model=f"hf:{write_tiny_causal(tmp_path)}", weights="lora"))


@pytest.mark.slow
def test_smollm2_learns_new_tokens_and_low_rank_updates() -> None:
    pytest.importorskip("peft", reason="needs pip install 'tongtu[llm]'")
    for weights in ("new", "lora"):
        net = open_network(Tuning(model="smollm2", weights=weights), (), NEW)  # type: ignore[arg-type]
        trained = fit(net, PAIRS, epochs=5, tokens=256, learning_rate=1e-3 if weights == "lora" else 1e-2)
        assert trained.curves[-1]["loss"] < trained.curves[0]["loss"] - 0.5
