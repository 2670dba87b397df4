"""The cache of text vectors: nothing is encoded twice, nothing stale or broken is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tongtu.text import vectors as module
from tongtu.text.encoder import Vectors
from tongtu.text.hashing import HashingEncoder
from tongtu.text.vectors import text_vectors


class Counting(HashingEncoder):
    """Hashing that remembers what it was asked for, and dies after some texts."""

    def __init__(self, width: int = 8, dies_after: int | None = None) -> None:
        super().__init__(width)
        self.asked: list[str] = []
        self.dies_after = dies_after

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        if self.dies_after is not None and len(self.asked) > self.dies_after:
            raise KeyboardInterrupt
        return super().encode(texts)


def test_each_text_is_encoded_once_and_only_new_ones_later(tmp_path: Path) -> None:
    texts = ["b", "a", "", "a", "b"]
    first = Counting()
    got = text_vectors(first, texts, quiet=True, cache=tmp_path)
    np.testing.assert_array_equal(got, HashingEncoder(8).encode(texts))
    assert sorted(first.asked) == ["a", "b"]
    grown = Counting()
    again = text_vectors(grown, pl.Series(["new", "a", None]), quiet=True, cache=tmp_path)
    np.testing.assert_array_equal(again, HashingEncoder(8).encode(["new", "a", ""]))
    assert grown.asked == ["new"]
    other = Counting(width=16)
    text_vectors(other, ["a"], quiet=True, cache=tmp_path)
    assert other.asked == ["a"]


def test_nothing_to_encode_is_no_case_of_its_own(tmp_path: Path) -> None:
    assert text_vectors(Counting(), [], quiet=True, cache=tmp_path).shape == (0, 8)
    assert not text_vectors(Counting(), ["", ""], quiet=True, cache=tmp_path).any()
    assert not list(tmp_path.iterdir())


def test_work_that_was_cut_short_goes_on_where_it_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PART", 10)
    monkeypatch.setattr(module, "_AT_ONCE", 5)
    texts = [f"text {i}" for i in range(100)]
    with pytest.raises(KeyboardInterrupt):
        text_vectors(Counting(dies_after=42), texts, quiet=True, cache=tmp_path)
    rest = Counting()
    np.testing.assert_array_equal(text_vectors(rest, texts, quiet=True, cache=tmp_path), HashingEncoder(8).encode(texts))
    assert len(rest.asked) == 60


def test_many_parts_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {i}" for i in range(40)]
    for i in range(40):
        text_vectors(Counting(), texts[: i + 1], quiet=True, cache=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.iterdir())) <= 17
    whole = Counting()
    np.testing.assert_array_equal(text_vectors(whole, texts, quiet=True, cache=tmp_path), HashingEncoder(8).encode(texts))
    assert not whole.asked


@pytest.mark.parametrize("name", ["keys.npy", "vectors.npy"])
def test_a_damaged_part_is_encoded_again(tmp_path: Path, name: str) -> None:
    text_vectors(Counting(), ["a", "b"], quiet=True, cache=tmp_path)
    (file,) = tmp_path.rglob(name)
    file.write_bytes(file.read_bytes()[:70])
    again = Counting()
    np.testing.assert_array_equal(text_vectors(again, ["a", "b"], quiet=True, cache=tmp_path), HashingEncoder(8).encode(["a", "b"]))
    assert sorted(again.asked) == ["a", "b"]
