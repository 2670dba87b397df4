"""Loading a data set into the store."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from tongtu.data.dataset import Dataset
from tongtu.errors import DataError
from tongtu.serve.store import Event, History, Item, Store
from tongtu.serve.store.seed import seed
from tongtu.vocab import Vocab


def small_log() -> Dataset:
    """Ann saw b, a, b and Bob saw c; nobody saw d."""
    return Dataset(
        name="small",
        users=Vocab(["ann", "bob"]),
        items=Vocab(["a", "b", "c", "d"]),
        item=np.array([2, 1, 2, 3], np.int32),
        offset=np.array([0, 3, 4]),
        time=np.array([10, 10, 10, 5]),
        event_fields=pl.DataFrame({"rating": [5.0, None, 0.1, 4.0], "review": ["x", "y", "z", ""]}),
        item_text=pl.Series("text", ["A text.", "B text.", "", "D\0text"]),
        item_fields=pl.DataFrame({"title": ["Man, The", "B", None, "D"], "categories": [["x", "y"], ["y"], None, []], "price": [1.5, None, 2.0, float("nan")]}),
        user_attributes=pl.DataFrame({"age": [30, None], "home": ["Łódź", "Minsk"]}),
    )


def test_everything_is_found_again_once(store: Store) -> None:
    data = small_log()
    store.add_events([Event("cy", "a", 7, "before")])
    store.put_items([Item("b", "by hand")])
    assert seed(store, data) == {"users": 2, "items": 3, "events": 4}
    assert seed(store, data) == {"users": 0, "items": 0, "events": 0}
    assert (store.counts().users, store.counts().items, store.counts().events) == (3, 4, 5)
    assert store.history("ann", 9) == History(("b", "a", "b"), (10, 10, 10), (5.0, None, 0.1))
    assert store.user("ann") == {"age": "30", "home": "Łódź"} and store.user("bob") == {"home": "Minsk"}
    assert store.item("a") == Item("a", "A text.", "The Man", {"categories": ["x", "y"], "price": 1.5})
    assert store.item("b") == Item("b", "by hand", None, {}, seq=1)
    assert store.item("c") == Item("c", "", None, {"price": 2.0}) and store.item("d") == Item("d", "D text", "D", {"categories": []})
    assert [item.id for item in store.items(category="y").rows] == ["a", "b"] and [item.id for item in store.items_since(0)] == ["b"]
    assert [one.event.key for one in store.events(seeded=False)] == ["before"]
    assert [one.event.fields for one in store.events(since_seq=1, limit=2)] == [{"rating": 5.0}, {}]


def test_another_log_is_not_mixed_in(store: Store) -> None:
    data = small_log()
    seed(store, data)
    with pytest.raises(DataError, match=r"holds the log of small.*--store"):
        seed(store, data.keep_events(np.array([True, True, True, False])))
    assert store.counts().events == 4


def test_an_id_that_cannot_be_kept_loads_nothing(store: Store) -> None:
    for users in (["ann", "b" * 513], ["ann", "b\0b"]):
        with pytest.raises(DataError, match="user id 'b"):
            seed(store, dataclasses.replace(small_log(), users=Vocab(users)))
    assert store.counts().users == 0 and store.counts().events == 0


def test_a_log_that_knows_only_an_order(store: Store) -> None:
    seed(store, dataclasses.replace(small_log(), time=None, event_fields=pl.DataFrame(), item_fields=pl.DataFrame(), user_attributes=pl.DataFrame()))
    assert store.history("ann", 2) == History(("a", "b"), (0, 0), (None, None))
    assert store.user("ann") == {} and store.item("a") == Item("a", "A text.", "A text.")


def test_more_rows_than_are_handed_over_at_once(store: Store) -> None:
    n = 25_000
    data = Dataset("large", Vocab(["ann", "bob"]), Vocab([f"{i}" for i in range(n)]), np.arange(1, n + 1, dtype=np.int32), np.array([0, n - 1, n]))
    assert seed(store, data) == {"users": 2, "items": n, "events": n}
    assert store.history("ann", n).items == tuple(str(i) for i in range(n - 1)) and store.history("bob", n).items == (str(n - 1),)
