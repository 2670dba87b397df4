"""Numbers against counts by hand; each trap found where it is set and nowhere else."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import polars as pl
import pytest
from data_logs import dataset

from tongtu.data.check import check
from tongtu.data.dataset import Dataset
from tongtu.data.stats import gini, repeats, statistics, ties
from tongtu.vocab import Vocab

DAY = 86_400


def log(users: int = 40, length: int = 6, seed: int = 0, **more: Any) -> Dataset:
    """A data set without traps: random items, text for all, each user's life in a day of their own, the last two events after all others."""
    rng = np.random.default_rng(seed)
    items = users * length
    start = np.arange(users)[:, None] * 1000
    times = start + np.arange(length)[None, :] * 7 + 1_600_000_001
    times[:, -2:] += users * 1000
    parts: dict[str, Any] = {
        "name": "quiet",
        "users": Vocab([f"u{n}" for n in range(users)]),
        "items": Vocab([f"i{n:04}" for n in range(items)]),
        "item": (1 + rng.permutation(items)).astype(np.int32),
        "offset": np.arange(users + 1, dtype=np.int64) * length,
        "time": times.ravel(),
        "item_text": pl.Series("text", ["words"] * items),
    }
    return Dataset(**parts | more)


def names(data: Dataset) -> set[str]:
    return {trap.name for trap in check(data)}


def test_statistics_by_hand() -> None:
    data = dataset(
        {"u": "aab", "v": "a", "w": "cab"},
        times=[0, 0, DAY, 5, 7, 8, 2 * DAY],
        item_text=pl.Series("text", ["one two", "", "three"]),
        user_attributes=pl.DataFrame({"g": ["F", None, "M"]}),
        event_fields=pl.DataFrame({"rating": [1.0, None, 3.0, 4.0, 5.0, 1.0, 2.0]}),
    )
    found = statistics(data)
    assert found["size"] == {
        "users": 3,
        "items": 3,
        "items without events": 0,
        "events": 7,
        "density": 7 / 9,
        "users with fewer than 3 events": 1,
    }
    assert found["events of a user"]["median"] == 3 and found["events of a user"]["least"] == 1
    assert found["events of an item"]["most"] == 4
    assert found["events of an item"]["share of events on the least popular 80 % of items"] == pytest.approx(3 / 7)
    assert found["order"]["days"] == 2 and found["order"]["repeat share"] == pytest.approx(1 / 7)
    assert found["order"]["share of events that share their user's second with another"] == pytest.approx(2 / 7)
    assert found["item text"] == {"items with text": pytest.approx(2 / 3), "median words": 1.5}
    assert found["user attributes"] == {"g known": pytest.approx(2 / 3)}
    assert found["event fields"] == {"rating known": pytest.approx(6 / 7)}


def test_gini_ties_and_repeats() -> None:
    assert gini(np.array([3, 3, 3])) == 0
    assert gini(np.array([0, 0, 9])) == pytest.approx(2 / 3)
    assert gini(np.zeros(3, np.int64)) == 0
    assert ties(dataset({"u": "ab", "v": "ba"}, times=[1, 1, 1, 2])).tolist() == [False, True, False, False]
    assert repeats(dataset({"u": "aaa", "v": "ab"})) == pytest.approx(2 / 5)


def test_an_order_only() -> None:
    assert statistics(dataset({"u": "ab"}))["order"] == {"known": "an order only", "repeat share": 0.0}


def test_a_log_without_traps_gets_no_warning() -> None:
    assert check(log()) == []


def test_tied_targets_and_file_order() -> None:
    times = log().time
    assert times is not None
    tied = times.copy().reshape(40, 6)
    tied[:10, -1] = tied[:10, -2]
    assert names(log(time=tied.ravel())) == {"tied targets"}
    flat = np.repeat(tied[:, :1], 6, axis=1).ravel() + 0
    assert {"tied targets", "file order"} <= names(log(time=flat, source={"rows": {"in_order": 0.5}}))
    assert "file order" not in names(log(time=flat, source={"rows": {"in_order": 1.0}}))
    assert not {"tied targets", "file order"} & names(log(time=flat, source={"rows": {"in_order": 0.5}, "columns": {"order": "place"}}))


def test_repeated_targets() -> None:
    item = log().item.copy()
    item[5] = item[0]
    found = check(log(item=item))
    assert [trap.name for trap in found] == ["repeated targets", "items without events"] and "2.5%" in found[0].text and "filter_seen" in found[0].remedy
    assert "1 of the 240 items" in found[1].text


def test_text_and_short_users() -> None:
    assert names(log(item_text=pl.Series("text", [""] * 240))) == {"item text"}
    assert names(log(item_text=pl.Series("text", ["x"] * 239 + [""]))) == {"item text"}
    assert names(log(users=40, length=2)) == {"short users"}


def test_future_in_training() -> None:
    times = log().time
    assert times is not None
    late = times.copy().reshape(40, 6)
    late[30:] += 10**6
    assert names(log(time=late.ravel())) == {"future in training"}


@pytest.mark.parametrize(("bad", "says"), [(" u1", "white space"), ("U1", "only in case"), ("NaN", "missing value")])
def test_suspicious_ids(bad: str, says: str) -> None:
    ids = [f"u{n}" for n in range(39)] + [bad]
    found = check(dataclasses.replace(log(), users=Vocab(ids)))
    assert {trap.name for trap in found} == {"ids"}
    assert any(says in trap.text for trap in found)


def test_histories_sorted_by_item() -> None:
    item = np.sort(log().item.reshape(40, 6), axis=1).ravel()
    found = check(log(item=item))
    assert [trap.name for trap in found] == ["sorted by item"] and "sorted by item, not by time" in found[0].text


def test_dominant_item_and_bots() -> None:
    item = log().item.copy()
    item[::4] = 9
    assert "dominant item" in names(log(item=item))
    lengths = np.array([6] * 60 + [5000])
    offset = np.concatenate([[0], np.cumsum(lengths)])
    rng = np.random.default_rng(1)
    data = log(users=61, offset=offset, item=(1 + rng.integers(0, 366, offset[-1])).astype(np.int32), time=None)
    assert "bot-like users" in names(data)


def test_days_and_instants() -> None:
    data = log(users=300)
    assert data.time is not None
    assert "day resolution" in names(log(users=300, time=np.sort((data.time // DAY * DAY).reshape(300, 6)).ravel()))
    same = data.time.copy().reshape(300, 6)
    same[:50, 0] = 1_500_000_000
    assert "one instant" in names(log(users=300, time=same.ravel()))
    assert names(data) == set()
