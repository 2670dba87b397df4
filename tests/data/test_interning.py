"""Ids to codes: exact whatever the hashes do."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tongtu.data.interning import Interner

BATCHES = st.lists(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=40), max_size=6)


@settings(deadline=None)
@given(BATCHES, st.booleans())
def test_codes_name_the_same_ids_in_every_batch(batches: list[list[str | None]], crowded: bool) -> None:
    interner = Interner((lambda ids, seed: ids.hash(seed) % 5 if seed == 0 else ids.hash(seed)) if crowded else None)
    columns = [pl.Series("id", batch, dtype=pl.String) for batch in batches]
    codes = [interner.codes(column) for column in columns]
    ids, final = interner.finish(np.ones(1000, np.bool_)[: max((c.max() for c in codes if len(c)), default=0) + 1])
    assert ids.to_list() == sorted({value for batch in batches for value in batch if value is not None}, key=lambda text: text.encode())
    for batch, code in zip(batches, codes, strict=True):
        assert [None if c == 0 else ids[int(final[c]) - 1] for c in code] == batch


def test_many_ids_grow_the_table() -> None:
    interner = Interner()
    ids = pl.Series("id", [f"id {n}" for n in range(60_000)])
    first = interner.codes(ids)
    assert len(np.unique(first)) == 60_000 and first.min() == 1
    assert (interner.codes(ids.reverse())[::-1] == first).all()


def test_only_used_codes_are_kept() -> None:
    interner = Interner()
    codes = interner.codes(pl.Series(["b", "a", "c"]))
    used = np.zeros(4, np.bool_)
    used[codes[[0, 1]]] = True
    ids, final = interner.finish(used)
    assert ids.to_list() == ["a", "b"] and final[codes].tolist() == [2, 1, 0]
