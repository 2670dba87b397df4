"""The canonical order against a plain stable sort."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tongtu.data import ordering
from tongtu.data.ordering import canonical_order, repeated

KEYS = st.one_of(st.integers(0, 3), st.integers(-(2**62), 2**62))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), KEYS), max_size=60))
def test_it_is_a_stable_sort_by_user_and_key(rows: list[tuple[int, int]]) -> None:
    user, key = np.array([u for u, _ in rows], np.int32), np.array([k for _, k in rows], np.int64)
    place, offset, ordered = canonical_order(user, key, 5)
    assert place.tolist() == sorted(range(len(rows)), key=lambda row: rows[row])
    assert ordered.tolist() == key[place].tolist()
    assert np.diff(offset).tolist() == np.bincount(user, minlength=6)[1:].tolist()


def test_many_blocks() -> None:
    rng = np.random.default_rng(0)
    n = 5 * ordering._BLOCK
    user = rng.integers(1, 4000, n).astype(np.int32)
    user[: n // 4] = 7
    key = rng.integers(0, 1000, n)
    place, offset, _ = canonical_order(user, key, 4001)
    assert (place == np.lexsort((key, user))).all()
    assert offset[-1] == n and len(offset) == 4002


def test_repeats_inside_ties() -> None:
    item = pl.DataFrame({"item": [1, 2, 1, 1, 1, 1]})
    user, key = np.array([1, 1, 1, 1, 1, 2], np.int32), np.array([5, 5, 5, 6, 6, 6])
    assert repeated(user, key, lambda places: item[places]).tolist() == [2, 4]
    assert repeated(user, np.arange(6), lambda places: item[places]).tolist() == []
