"""Text encoders: names, vectors, pooling, prompts, against transformers' own forward; MiniLM is the real one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tongtu.errors import ConfigError
from tongtu.text.encoder import open_encoder
from tongtu.text.transformer import _batches

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "jazz", "piano", "record", "running", "shoes", "find", ":")
TEXTS = ["jazz piano record", "shoes", "", "running shoes shoes shoes shoes", "piano"]


def tiny(folder: Path, decoder: bool = False) -> Path:
    """A random model of a few thousand weights with a tokenizer of its own."""
    tokenizer = Tokenizer(models.WordLevel({word: code for code, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if not decoder:
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    size = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if decoder:
        net: torch.nn.Module = transformers.LlamaModel(transformers.LlamaConfig(**size, num_key_value_heads=2))
    else:
        net = transformers.BertModel(transformers.BertConfig(**size))
    net.save_pretrained(folder)
    return folder


def plainly(folder: Path, text: str) -> torch.Tensor:
    """States [T, W] of one text, by transformers alone."""
    tokenizer, net = transformers.AutoTokenizer.from_pretrained(folder), transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        states: torch.Tensor = net(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    return states


def unit(vector: torch.Tensor) -> np.ndarray:
    return (vector / vector.norm()).numpy()


@pytest.mark.parametrize(("pooling", "pooled"), [("mean", lambda s: s.mean(0)), ("cls", lambda s: s[0]), ("last", lambda s: s[-1])])
@pytest.mark.parametrize("decoder", [False, True])
def test_a_batch_gives_what_one_text_at_a_time_gives(tmp_path: Path, pooling: str, pooled: object, decoder: bool) -> None:
    folder = tiny(tmp_path, decoder)
    vectors = open_encoder(f"hf:{folder}?pooling={pooling}").encode(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        expected = unit(pooled(plainly(folder, text))) if text else np.zeros(16)  # type: ignore[operator]
        np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_a_prompt_stands_before_the_text_and_length_cuts(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    prompted = open_encoder(f"hf:{folder}?prompt=find%20%3A%20")
    np.testing.assert_allclose(prompted.encode(["shoes"])[0], unit(plainly(folder, "find : shoes").mean(0)), atol=1e-5)
    short = open_encoder(f"hf:{folder}?length=4").encode(["jazz piano record"])
    np.testing.assert_allclose(short[0], unit(plainly(folder, "jazz piano").mean(0)), atol=1e-5)
    raw = open_encoder(f"hf:{folder}?normalise=false").encode(["shoes"])
    np.testing.assert_allclose(raw[0], plainly(folder, "shoes").mean(0).numpy(), atol=1e-5)


def test_a_text_of_which_no_token_is_left_counts_as_none(tmp_path: Path) -> None:
    for pooling in ("mean", "last"):
        encoder = open_encoder(f"hf:{tiny(tmp_path, decoder=True)}?pooling={pooling}")
        assert not encoder.encode([" "]).any()
        np.testing.assert_allclose(encoder.encode([" ", "jazz piano", "\t"])[[0, 2]], 0)


def test_no_more_tokens_are_read_than_the_model_has_places_for(tmp_path: Path) -> None:
    encoder = open_encoder(f"hf:{tiny(tmp_path)}?length=4096")
    np.testing.assert_allclose(encoder.encode(["jazz " * 3000]), encoder.encode(["jazz " * 510]), atol=1e-6)


def test_what_decides_a_vector_decides_the_fingerprint(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "a")
    other = tiny(tmp_path / "b", decoder=True)
    names = [f"hf:{folder}", f"hf:{folder}?pooling=cls", f"hf:{folder}?prompt=find", f"hf:{folder}?length=9", f"hf:{other}", "hashing:8", "hashing:16"]
    prints = [open_encoder(name).fingerprint for name in names]
    assert len(set(prints)) == len(prints)
    assert prints[0] == open_encoder(f"hf:{folder}?pooling=mean").fingerprint


def test_settings_that_no_weight_tells_of_decide_the_fingerprint(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    before = open_encoder(f"hf:{folder}").fingerprint
    for name, value in (("num_attention_heads", 4), ("hidden_act", "relu")):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {name: value}))
        after = open_encoder(f"hf:{folder}").fingerprint
        assert after != before
        before = after


def test_a_checkpoint_without_a_pooler_is_the_same_each_time(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    transformers.BertForMaskedLM(transformers.AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    one, other = open_encoder(f"hf:{folder}"), open_encoder(f"hf:{folder}")
    assert one.fingerprint == other.fingerprint
    np.testing.assert_array_equal(one.encode(TEXTS), other.encode(TEXTS))


def test_weights_that_are_damaged_or_missing_are_never_made_up(tmp_path: Path) -> None:
    folder = tiny(tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file({name: weight for name, weight in weights.items() if "layer.1." not in name}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match="lacks 16 of its weights"):
        open_encoder(f"hf:{folder}")
    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ConfigError, match="no language model at"):
        open_encoder(f"hf:{folder}")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="no language model at"):
        open_encoder(f"hf:{folder}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minilmm", "did you mean 'minilm'"),
        ("hashing:0", "whole number from 1"),
        ("hashing:wide", "whole number from 1"),
        ("hf:", "no text encoder 'hf:'"),
        ("hf:x?poolin=cls", "pooling"),
        ("hf:x?pooling=attention", "tongtu fit plmnr"),
        ("hf:x?pooling", "options go like"),
        ("hf:/nowhere/at-all", r"no language model at /nowhere/at-all \(no such folder\)"),
    ],
)
def test_a_wrong_name_gets_one_line(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_encoder(name)
    assert "\n" not in str(caught.value)


def test_hashing_finds_like_texts_and_is_the_same_everywhere() -> None:
    encoder = open_encoder("hashing")
    vectors = encoder.encode(["coffee grinder", "espresso coffee grinders", "mountain bike helmet", ""])
    assert vectors.shape == (4, 256) and vectors.dtype == np.float32
    assert vectors[0] @ vectors[1] > 0.5 > 0.2 > abs(vectors[0] @ vectors[2])
    assert not vectors[3].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[:3], axis=1), 1, atol=1e-6)
    assert open_encoder("hashing:8").encode([]).shape == (0, 8)
    np.testing.assert_allclose(open_encoder("hashing:4").encode(["a"]), [[0, 0, 0, -1]], atol=0.5)


def test_batches_hold_every_text_once_within_the_budget() -> None:
    lengths = np.array([3, 50, 7, 3, 4, 12, 3])
    parts = list(_batches(lengths, 20))
    assert sorted(np.concatenate(parts)) == list(range(7))
    assert all(len(part) == 1 or len(part) * lengths[part].max() <= 20 for part in parts)


def test_minilm_knows_what_is_alike() -> None:
    vectors = open_encoder("minilm").encode(["A grinder for coffee beans", "An espresso mill", "Telescope to watch the stars"])
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > 0.4 > 0.25 > vectors[0] @ vectors[2]
