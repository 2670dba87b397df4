"""Sampled impressions hold what they should, and parts of impressions keep their histories."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tongtu.data.dataset import Dataset, Impressions
from tongtu.data.impressions import by_time, impression_cases, sampled_impressions
from tongtu.data.synthetic import taste_world, text_world
from tongtu.errors import DataError
from tongtu.vocab import Vocab


def test_sampled_impressions_hold_the_click_and_what_the_user_never_took() -> None:
    data = taste_world(users=50).data
    shown = sampled_impressions(data, passed_over=20)
    assert len(shown.user) == data.n_events - len(data.users), "every event but each user's first"
    for row in range(len(shown.user)):
        part = slice(shown.offset[row], shown.offset[row + 1])
        history = data.history(int(shown.user[row]))
        item, clicked = shown.item[part], shown.clicked[part]
        assert item[clicked].tolist() == [history[shown.seen[row]]]
        assert len(np.unique(item)) == 21 and not np.isin(item[~clicked], history).any()
    again, other = sampled_impressions(data, 20), sampled_impressions(data, 20, seed=1)
    assert np.array_equal(shown.item, again.item) and not np.array_equal(shown.item, other.item)


def test_items_that_nobody_met_are_not_passed_over() -> None:
    data = text_world().data
    held = data.keep_events(data.item <= 150)
    assert sampled_impressions(held).item.max() <= 150


def test_popular_items_are_drawn_by_their_events() -> None:
    data = taste_world().data
    head = np.argsort(-data.item_counts)[:30]
    uniform, popularity = (np.isin(s.item[~s.clicked], head).mean() for s in (sampled_impressions(data, 5), sampled_impressions(data, 5, "popularity")))
    assert abs(uniform - 0.2) < 0.02 and popularity > 1.25 * uniform


def test_the_newest_events_only() -> None:
    data = taste_world(users=50).data
    shown = sampled_impressions(data, 3, newest=2)
    assert np.bincount(shown.user, minlength=51)[1:].tolist() == [2] * 50
    assert (shown.seen >= data.lengths[shown.user - 1] - 2).all()


def test_a_user_who_took_everything_ends_the_search() -> None:
    items = Vocab(["a", "b", "c"])
    data = Dataset("all", Vocab(["u", "v"]), items, np.array([1, 2, 3, 1, 2], np.int32), np.array([0, 3, 5]))
    shown = sampled_impressions(data, passed_over=4)
    assert np.diff(shown.offset).tolist() == [1, 1, 2]
    with pytest.raises(DataError, match="no user has two events"):
        sampled_impressions(data.keep_events(np.array([1, 0, 0, 1, 0], np.bool_)))


def made(times: list[int], clicked: list[list[int]]) -> Dataset:
    flat = np.concatenate([np.array(c, np.bool_) for c in clicked])
    offset = np.cumsum([0, *map(len, clicked)])
    item = (1 + np.arange(len(flat)) % 4).astype(np.int32)
    shown = Impressions(np.ones(len(times), np.int32), np.arange(len(times)) % 4, np.array(times), item, flat, offset)
    events = np.array([1, 2, 3, 4], np.int32)
    return Dataset("made", Vocab(["u"]), Vocab(["a", "b", "c", "d"]), events, np.array([0, 4]), impressions=shown, item_text=pl.Series("text", list("abcd")))


def test_cases_are_the_impressions_with_both_kinds() -> None:
    data = made([1, 2, 3, 4], [[1, 1], [0, 1, 1], [0, 0], [1, 0]])
    assert data.impressions is not None
    cases = impression_cases(data, data.impressions)
    assert cases.requests.lengths.tolist() == [1, 3] and cases.requests.now is not None and cases.requests.now.tolist() == [2, 4]
    assert cases.shown.tolist() == [3, 4, 1, 4, 1] and cases.clicked.tolist() == [False, True, True, True, False]
    assert cases.target.tolist() == [4, 4]
    one = cases.take(np.array([1]))
    assert one.shown.tolist() == [4, 1] and one.offset.tolist() == [0, 2] and len(one) == 1


def test_cut_by_time() -> None:
    data = made(list(range(10)), [[0, 1]] * 10)
    split = by_time(data, 0.6, 0.8)
    assert split.train.impressions is not None and split.train.impressions.time is not None
    assert split.train.impressions.time.tolist() == [0, 1, 2, 3, 4, 5] and len(split.valid) == len(split.test) == 2
    assert split.train.n_events == 3, "what came before the last training impression that saw most"
    with pytest.raises(DataError, match="too few distinct times"):
        by_time(made([5] * 10, [[0, 1]] * 10))


def test_impressions_are_part_of_the_fingerprint() -> None:
    assert made([1, 2], [[0, 1], [1, 0]]).fingerprint == made([1, 2], [[0, 1], [1, 0]]).fingerprint != made([1, 2], [[0, 1], [0, 1]]).fingerprint
