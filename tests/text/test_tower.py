"""Towers: keeping the frozen layers' states changes nothing but the time, and only the last layers learn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_bert import write_bert
from transformers import AutoModel

from tongtu.errors import ConfigError
from tongtu.text.tower import open_tower

TEXTS = ["jazz piano", "chess opening book number", "", "jazz piano", "rose"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TONGTU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def states(tower: Any, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        found: tuple[torch.Tensor, torch.Tensor] = tower.eval().states(tower.read(TEXTS, quiet=True), np.array(rows))
    return found


@pytest.mark.parametrize("layers", [0, 1, 2, "all"])
@pytest.mark.parametrize("keep", ["fp32", "fp16", None])
def test_the_parts_make_the_whole(bert: Path, layers: Any, keep: Any) -> None:
    tower = open_tower(f"hf:{bert}", layers=layers, keep=keep)
    found, valid = states(tower, [1, 2, 0])
    assert valid.sum(1).tolist() == [6, 2, 4], "[CLS] and [SEP] included"
    whole = AutoModel.from_pretrained(bert).eval()
    token = torch.tensor([[2, 23, 24, 25, 35, 3], [2, 3, 0, 0, 0, 0], [2, 5, 6, 3, 0, 0]])
    with torch.no_grad():
        wanted = whole(input_ids=token, attention_mask=valid.long()).last_hidden_state
    assert torch.allclose(found[valid], wanted[valid], atol=1e-2 if keep == "fp16" else 1e-5)


def test_only_the_last_layers_learn(bert: Path) -> None:
    tower: Any = open_tower(f"hf:{bert}", layers=2)
    names = {name for name, _ in tower.named_parameters()}
    assert names == set(tower.state_dict()) and {name.split(".layer.")[1][0] for name in names} == {"0", "1"}
    tower.states(tower.read(TEXTS, quiet=True), np.arange(5))[0].sum().backward()
    assert all(p.grad is not None for p in tower.parameters())


def test_equal_texts_share_their_tokens(bert: Path) -> None:
    texts = open_tower(f"hf:{bert}").read(TEXTS, quiet=True)
    assert texts.start[0] == texts.start[3] and texts.states is not None and len(texts.states) == len(texts.token) == 4 + 6 + 2 + 3
    assert len(texts) == 5 and texts.take(np.array([4])).length.tolist() == [3]


def test_states_are_read_back_from_disk(bert: Path, cache: Path, tmp_path: Path) -> None:
    first = states(open_tower(f"hf:{bert}"), [0, 1])[0]
    (file,) = (cache / "states").iterdir()
    written = file.stat().st_mtime_ns
    assert torch.equal(states(open_tower(f"hf:{bert}"), [0, 1])[0], first)
    assert file.stat().st_mtime_ns == written, "not computed again"
    for other in ({"layers": 1}, {"keep": "fp16"}, {"tokens": 3}):
        states(open_tower(f"hf:{bert}", **other), [0, 1])  # type: ignore[arg-type]
    states(open_tower(f"hf:{write_bert(tmp_path / 'other', seed=1)}"), [0, 1])
    assert len(list((cache / "states").iterdir())) == 5, "another depth, precision, cut or model has a file of its own"
    before = {p: p.stat().st_size for p in (cache / "states").iterdir()}
    open_tower(f"hf:{bert}", layers=2).read(["chess"], quiet=True)
    assert len(list((cache / "states").iterdir())) == len(before) + 1, "and so have other texts"
    assert os.access(file, os.R_OK)


def test_words_need_no_download() -> None:
    tower = open_tower("words", tokens=3, width=8)
    found, valid = states(tower, [0, 2, 1])
    assert valid.tolist() == [[True] * 3, [True, False, False], [True] * 3]
    assert torch.equal(found[0, 0], found[1, 0]) and found.shape == (3, 3, 8)


def test_mistakes_name_the_remedy(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'minilm'"):
        open_tower("minilmm")
    with pytest.raises(ConfigError, match="has 3 layers, so 4 of them cannot learn: choose 0 to 3"):
        open_tower(f"hf:{bert}", layers=4)
    with pytest.raises(ConfigError, match="no language model at"):
        open_tower(f"hf:{tmp_path}/nothing")
