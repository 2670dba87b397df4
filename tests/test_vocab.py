"""Ids and codes: a bijection, with 0 for everything unknown."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongtu.core import PAD
from tongtu.vocab import Vocab

IDS = st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=30)


@given(IDS)
def test_codes_are_dense_from_one_and_come_back(ids: list[str]) -> None:
    vocab = Vocab(ids)
    codes = vocab.encode(ids)
    assert codes.dtype == np.int32 and codes.tolist() == list(range(1, len(ids) + 1))
    assert vocab.decode(codes) == ids
    assert [vocab.code(external) for external in ids] == codes.tolist()
    assert (len(vocab), vocab.size) == (len(ids), len(ids) + 1)
    assert vocab == Vocab(pl.Series(ids, dtype=pl.String)) and hash(vocab) == hash(Vocab(ids))


@given(IDS, IDS)
def test_unknown_ids_are_pad_and_pad_is_no_id(ids: list[str], asked: list[str]) -> None:
    vocab = Vocab(ids)
    codes = vocab.encode(asked)
    assert [code != PAD for code in codes] == [external in ids for external in asked] == [external in vocab for external in asked]
    assert vocab.decode(codes) == [external for external in asked if external in ids]


@given(IDS, IDS)
def test_translation_keeps_the_id(here: list[str], there: list[str]) -> None:
    ours, theirs = Vocab(here), Vocab(there)
    table = ours.translation(theirs)
    assert table.dtype == np.int32 and len(table) == theirs.size and table[PAD] == PAD
    for external in there:
        assert table[theirs.code(external)] == ours.code(external)


def test_the_long_way_agrees_with_the_short_one() -> None:
    vocab = Vocab([f"item {i}" for i in range(5_000)])
    asked = pl.Series([f"item {i * 7 % 6_000}" for i in range(20_000)] + [None, ""])
    many = vocab.encode(asked)
    assert many.dtype == np.int32 and many.tolist() == vocab.encode(asked.to_list()).tolist()


def test_numbers_are_kept_as_written() -> None:
    assert Vocab(pl.Series([30, 7])).encode(["7", "30", "07"]).tolist() == [2, 1, 0]


def test_missing_and_double_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="missing id"):
        Vocab(pl.Series(["a", None]))
    with pytest.raises(ValueError, match="an id twice"):
        Vocab(["a", "b", "a"])


def test_empty_vocabularies_and_strangers() -> None:
    assert Vocab([]).decode(np.zeros(3, np.int32)) == [] and Vocab([]) != "nothing"
    assert Vocab(["a", "b"]) != Vocab(["b", "a"])
