"""Titles as documents, and the list that several queries make."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongtu.systems._catalogue import with_items
from tongtu.systems._titles import Searching, TitleSearch, merged
from tongtu.vocab import Vocab

TITLES = pl.Series("title", ["rose hand cream", "rose soap", "night cream", "", "razor"])


def test_each_query_brings_its_share_and_the_first_ones_the_remainder() -> None:
    lists = [[1, 2, 3, 4, 5, 6, 7], [1, 8, 9, 10, 11], [8, 12, 13, 14]]
    assert merged(lists, 7, 7) == [1, 2, 3, 8, 9, 12, 13]
    assert merged(lists, 3, 3) == [1, 8, 12], "one each: what stands first elsewhere already is passed over"
    assert merged([[1, 2, 3]], 2, 10) == [1, 2]


def test_more_queries_than_places_bring_one_each() -> None:
    assert merged([[1], [2], [3], [4]], 2, 2) == [1, 2]
    assert merged([[1], [1], [3], [4, 5]], 4, 2) == [1, 3, 4, 5]


def test_the_best_query_fills_what_others_leave_free() -> None:
    assert merged([[1, 2, 3, 4], [1], []], 4, 3) == [1, 2, 3, 4]
    assert merged([[1], [2, 3, 4]], 10, 4) == [1, 2, 3, 4], "and where it has run out, the next"
    assert merged([], 5, 10) == []


@given(st.lists(st.lists(st.integers(1, 30), unique=True), max_size=6), st.integers(1, 20), st.integers(1, 12))
def test_a_longer_list_begins_like_a_shorter_one(lists: list[list[int]], k: int, places: int) -> None:
    whole = merged(lists, 100, places)
    assert merged(lists, k, places) == whole[:k]
    assert len(set(whole)) == len(whole) and set(whole) == {item for one in lists for item in one}


def test_a_search_finds_what_it_may_best_first() -> None:
    search = TitleSearch(TITLES, Searching())
    everything, no_soap = np.ones(6, np.bool_), np.array([True, True, False, True, True, True])
    queries, besides = ["rose", "cream for the night", "rose", "nothing like it"], ["", "", "cream", ""]
    found = search.ranked(queries, besides, 1.0, [everything, everything, no_soap, everything], 5)
    assert [one.tolist() for one in found] == [[2, 1], [3, 1], [1, 3], []]
    (louder,) = search.ranked(["rose"], ["razor"], 5.0, [everything], 2)
    assert louder.tolist() == [5, 2], "words besides may count more than the query"
    (one,) = search.ranked(["cream"], ["razor"], 0.0, [everything], 1)
    assert one.tolist() == [3], "the shorter title"


def test_what_says_the_same_to_the_search_is_the_same() -> None:
    search = TitleSearch(TITLES, Searching())
    same, other, twice, nothing = search.words(["Rose, hand-cream", "rose hand", "rose rose hand", "the of"])
    assert same == search.words(["cream for a hand of rose"])[0] and len({same, other, twice, nothing}) == 4 and nothing == ()


def test_every_word_counts_by_default_and_common_ones_may_count_nothing() -> None:
    titles = pl.Series("title", ["cream rose", "cream soap", "cream"])
    allowed = [np.ones(4, np.bool_)]
    (all_three,) = TitleSearch(titles, Searching()).ranked(["cream"], [""], 0.0, allowed, 5)
    assert sorted(all_three.tolist()) == [1, 2, 3]
    (none,) = TitleSearch(titles, Searching(lucene=False)).ranked(["cream"], [""], 0.0, allowed, 5)
    assert none.tolist() == []


@pytest.mark.parametrize("keep", [True, False])
def test_new_items_bring_their_titles(keep: bool) -> None:
    items = Vocab(["a", "b", "c", "d", "e"])
    texts = pl.Series("text", [f"text {n}" for n in range(5)])
    given = pl.DataFrame({"id": ["n", "b", "m"], "text": ["lily soap. by somebody", "text 1", "tulip\nsoap"], "title": ["lily soap", "other", None]})
    search = TitleSearch(TITLES, Searching()).after(with_items(items, texts, given, keep), given, 100)
    expected = [*TITLES, "lily soap", "tulip soap"] if keep else ["lily soap", "rose soap", "tulip soap"]
    assert search.titles.to_list() == expected
    (found,) = search.ranked(["soap"], [""], 0.0, [np.ones(len(expected) + 1, np.bool_)], 5)
    assert len(found) == 3
    again = TitleSearch.read(search.written(), Searching())
    assert again.titles.to_list() == expected
