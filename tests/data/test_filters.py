"""Filters keep what they say and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from data_logs import dataset, histories
from hypothesis import given, settings
from hypothesis import strategies as st

from tongtu.data.dataset import Dataset, Impressions
from tongtu.data.domains import combine
from tongtu.data.filters import compact, k_core, min_rating, time_window
from tongtu.data.folder import open_dataset, save_dataset
from tongtu.errors import DataError

LOGS = st.dictionaries(st.sampled_from(["u", "v", "w", "x", "y"]), st.text("abcdef", max_size=8), min_size=1)


@settings(deadline=None)
@given(LOGS, st.integers(1, 3), st.integers(1, 3))
def test_k_core_is_the_largest_part_that_keeps_its_promise(log: dict[str, str], users: int, items: int) -> None:
    events = [(user, item) for user, letters in log.items() for item in letters]
    while True:  # take away one event after another that breaks the promise; the core does not depend on the order
        bad = [(u, i) for u, i in events if sum(v == u for v, _ in events) < users or sum(j == i for _, j in events) < items]
        if not bad:
            break
        events.remove(bad[0])
    data = dataset(log)
    if not events:
        with pytest.raises(DataError, match="nothing is left"):
            k_core(data, users, items)
        return
    core = k_core(data, users, items)
    assert [(u, i) for u, letters in histories(core).items() for i in letters] == events
    assert k_core(core, users, items).fingerprint == core.fingerprint
    assert core.lengths.min() >= users and core.item_counts[1:].min() >= items


def test_rows_of_all_tables_move_with_their_codes() -> None:
    data = dataset(
        {"u": "ab", "v": "", "w": "cb"},
        times=[1, 2, 3, 4],
        event_fields=pl.DataFrame({"rating": [1.0, 5.0, None, 4.0]}),
        item_text=pl.Series("text", ["A", "B", "C"]),
        item_fields=pl.DataFrame({"n": [1, 2, 3]}),
        user_attributes=pl.DataFrame({"g": ["F", "M", "X"]}),
        domain=np.array([0, 1, 1], np.int32),
        domains=("p", "q"),
    )
    kept = min_rating(data, 4)
    assert histories(kept) == {"u": ["b"], "w": ["b"]}
    assert kept.item_text.to_list() == ["B"] and kept.item_fields["n"].to_list() == [2] and kept.user_attributes["g"].to_list() == ["F", "X"]
    assert kept.domain is not None and kept.domain.tolist() == [1]
    assert kept.time is not None and kept.time.tolist() == [2, 4]
    window = time_window(data, since=2, until=4)
    assert histories(window) == {"u": ["b"], "w": ["c"]}
    assert window.source["filters"][0]["events before"] == 4 and window.source["filters"][0]["events after"] == 2
    assert len(min_rating(window, 5).source["filters"]) == 2


def test_compact_keeps_items_that_were_only_shown() -> None:
    shown = Impressions(
        user=np.array([1, 2], np.int32),
        seen=np.array([1, 0]),
        time=None,
        item=np.array([3, 1, 2], np.int32),
        clicked=np.array([True, False, True]),
        offset=np.array([0, 2, 3]),
    )
    data = compact(dataset({"u": "abcd", "v": ""}, impressions=shown).keep_events(np.array([True, False, False, False]), impressions=shown))
    assert data.items.ids.to_list() == ["a", "b", "c"] and data.users.ids.to_list() == ["u"]
    assert data.impressions is not None and data.impressions.offset.tolist() == [0, 2]
    assert data.items.decode(data.impressions.item) == ["c", "a"]


def test_filters_need_what_they_filter_by() -> None:
    with pytest.raises(DataError, match="--time"):
        time_window(dataset({"u": "ab"}), since=3)
    with pytest.raises(DataError, match="--rating"):
        min_rating(dataset({"u": "ab"}), 3)
    with pytest.raises(DataError, match="its times run from 1 to 2"):
        time_window(dataset({"u": "ab"}, times=[1, 2]), since=3)


def parts(timed: bool) -> tuple[Dataset, Dataset]:
    people = pl.DataFrame({"g": [None, "M"]})
    one = dataset({"u": "ab", "v": "b"}, [1, 9, 5] if timed else None, item_fields=pl.DataFrame({"x": [1, 2]}), user_attributes=people)
    two = dataset({"w": "a", "u": "ca"}, [7, 5, 9], item_fields=pl.DataFrame({"x": ["p", "q"]}), user_attributes=pl.DataFrame({"g": ["X", "F"]}))
    return one, two


def test_domains_are_merged_by_time(tmp_path: Path) -> None:
    one, two = parts(timed=True)
    both = combine({"p": one, "q": two})
    assert histories(both) == {"u": ["p:a", "q:c", "p:b", "q:a"], "v": ["p:b"], "w": ["q:a"]}
    assert both.domain is not None and both.domain.tolist() == [0, 0, 1, 1] and both.domains == ("p", "q")
    assert both.item_fields["x"].to_list() == ["1", "2", "p", "q"]
    assert both.user_attributes["g"].to_list() == ["F", "M", "X"]
    save_dataset(both, tmp_path / "both")
    assert open_dataset(tmp_path / "both").fingerprint == both.fingerprint


def test_domains_without_times_follow_each_other() -> None:
    both = combine(dict(zip("pq", parts(timed=False), strict=True)))
    assert both.time is None
    assert histories(both)["u"] == ["p:a", "p:b", "q:c", "q:a"]
    with pytest.raises(DataError, match="several domains already"):
        combine({"z": both})
    with pytest.raises(DataError, match="at least one"):
        combine({})


def test_domains_with_different_fields() -> None:
    one = dataset({"u": "ab"}, event_fields=pl.DataFrame({"rating": pl.Series([1, 2], dtype=pl.Float32)}))
    two = dataset({"u": "c"})
    both = combine({"p": one, "q": two})
    assert both.event_fields["rating"].to_list() == [1, 2, None]
    assert both.item_text.to_list() == ["", "", ""]
