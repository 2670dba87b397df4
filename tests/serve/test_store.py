"""The store, with the same behaviour on SQLite and PostgreSQL."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from held_writer import Held
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from tongtu.errors import ConfigError, DataError, StorageError
from tongtu.serve.store import Event, History, Item, SavedModel, Store, StoreBusy, User
from tongtu.serve.store.checking import event_rows

WIDE = "\U0001f3ac" * 512
"""An id as long as one may be, in bytes too."""


def numbers(store: Store) -> list[int]:
    return [stored.seq for stored in store.events(limit=100_000)]


class TestEvents:
    def test_come_back_as_they_were(self, store: Store) -> None:
        sent = [
            Event("ann", "tea", 30, "k1", {"rating": 4, "place": {"shop": [1, None, "\u202eזה\u202c"]}}),
            Event("ann", "a\u0301\r\n%_'\"\\", -(2**63), "k2"),
            Event(WIDE, WIDE, 2**63 - 1, WIDE, {"rating": 0.1}),
        ]
        assert store.add_events(sent) == [True, True, True]
        stored = store.events()
        assert [one.event for one in stored] == sent
        assert [one.seq for one in stored] == sorted({one.seq for one in stored})
        assert [one.event for one in store.events(since_seq=stored[0].seq, limit=1)] == [sent[1]]

    def test_with_one_key_count_once(self, store: Store) -> None:
        assert store.add_events([Event("ann", "tea", 1, "a"), Event("ann", "cup", 2, "b"), Event("bob", "pot", 3, "a")]) == [True, True, False]
        assert store.add_events([Event("cy", "tea", 9, "b"), Event("ann", "jug", 4)]) == [False, True]
        assert store.history("ann", 9) == History(("tea", "cup", "jug"), (1, 2, 4), (None, None, None))
        assert store.user("bob") is None and store.user("cy") is None
        assert store.counts().events == 3 and store.counts().users == 1

    def test_without_a_key_are_all_kept(self, store: Store) -> None:
        assert store.add_events([Event("ann", "tea", 1)] * 3) == [True, True, True]
        assert store.add_events([]) == []
        assert len({one.event.key for one in store.events()}) == 3

    def test_history_is_in_order_of_time_then_arrival(self, store: Store) -> None:
        for item, when in [("c", 5), ("a", 1), ("d", 5), ("b", 5), ("z", 9)]:
            store.add_events([Event("ann", item, when, fields={"rating": when})])
        assert store.history("ann", 10).items == ("a", "c", "d", "b", "z")
        assert store.history("ann", 3).items == ("d", "b", "z")
        assert store.history("ann", 3).rated() == (5.0, 5.0, 9.0)
        store.add_events([Event("ann", "y", 10), Event("bob", "y", 2)])
        assert store.history("ann", 2).ratings == (9.0, None) and store.history("ann", 2).rated() is None
        assert store.histories(["bob", "nobody"], 5) == {"bob": History(("y",), (2,), (None,)), "nobody": History()}

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            (Event("", "tea", 1), "user must be text of 1 to 512 characters, got 0"),
            (Event("a" * 513, "tea", 1), "got 513 characters"),
            (Event("ann", "te\0a", 1), "item holds a NUL"),
            (Event("ann", "\ud83c", 1), "surrogate"),
            (Event("ann", "tea", 2**63), "time must be a whole number of 64 bits"),
            (Event("ann", "tea", True), "time must be"),
            (Event("ann", "tea", 1, "k" * 513), "key must be"),
            (Event("ann", "tea", 1, fields={"rating": float("nan")}), "rating must be a finite number"),
            (Event("ann", "tea", 1, fields={"rating": 10**400}), "rating must be"),
            (Event("ann", "tea", 1, fields={"rating": "5"}), "rating must be"),
            (Event("ann", "tea", 1, fields={"n": 2**64}), "JSON"),
            (Event("ann", "tea", 1, fields={"deep": [{"x\0": 1}]}), "fields holds a NUL"),
            (Event("ann", "tea", 1, fields={"half": "\udc00"}), "JSON"),
            (Event("ann", "tea", 1, fields={"what": object()}), "JSON"),
        ],
    )
    def test_that_cannot_be_kept_are_refused_whole(self, store: Store, wrong: Event, told: str) -> None:
        with pytest.raises(DataError, match=told) as caught:
            store.add_events([Event("ann", "cup", 1), wrong])
        assert str(caught.value).startswith("event 1: ") and "\n" not in str(caught.value)
        assert numbers(store) == []

    @given(
        names=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20), min_size=1, max_size=8),
        when=st.integers(-(2**63), 2**63 - 1),
        rating=st.none() | st.floats(allow_nan=False, allow_infinity=False, min_value=-9e18, max_value=9e18),
    )
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_of_every_kind_come_back(self, store: Store, names: list[str], when: int, rating: float | None) -> None:
        last = store.counts().last_seq
        fields = {name: [name, when, rating] for name in names if name != "rating"} | ({} if rating is None else {"rating": rating})
        sent = [Event(name, name[::-1], when, None, fields) for name in names]
        assert all(store.add_events(sent))
        back = [stored.event for stored in store.events(since_seq=last)]
        assert [dataclasses.replace(event, key=None) for event in back] == sent

    def test_backslashes_are_no_nul(self, store: Store) -> None:
        store.add_events([Event("ann", "tea", 1, "k", {"text": "\\u0000"})])
        assert store.events()[0].event.fields == {"text": "\\u0000"}

    def test_many_threads_with_the_same_keys(self, store: Store) -> None:
        keys = [f"key {n}" for n in range(40)]

        def send(thread: int) -> int:
            order = random.Random(thread).sample(keys, len(keys))
            singles = sum(store.add_events([Event(f"user {thread}", key, 1, key)])[0] for key in order[:20])
            return singles + sum(store.add_events([Event(f"user {thread}", key, 1, key) for key in order[20:]]))

        with ThreadPoolExecutor(16) as threads:
            assert sum(threads.map(send, range(16))) == len(keys)
        assert sorted(str(one.event.key) for one in store.events()) == sorted(keys)
        assert store.counts().events == len(keys) == sum(store.counts().minutes)

    def test_a_reader_who_remembers_where_they_were_misses_none(self, store: Store, store_url: str) -> None:
        def write(writer: Store, name: str) -> None:
            for n in range(24):
                writer.add_events([Event(name, f"{n}", n, None if n % 3 else f"twice {n}")])

        with Store.open(store_url) as other, ThreadPoolExecutor(6) as threads:
            writing = [threads.submit(write, (store, other)[n % 2], f"writer {n}") for n in range(6)]
            seen, last = [], 0
            while True:
                done = all(one.done() for one in writing)
                if new := store.events(since_seq=last, limit=7):
                    seen += new
                    last = new[-1].seq
                elif done:
                    break
            assert not any(one.exception() for one in writing)
        assert [one.seq for one in seen] == numbers(store)
        assert len(seen) == 6 * 16 + 8 == store.counts().events


@pytest.mark.parametrize("wrong", ["a\0b", "\ud800"])
def test_what_no_database_holds_cannot_be_asked_for(store: Store, wrong: str) -> None:
    asked: list[Callable[[], object]] = [
        lambda: store.history(wrong, 5),
        lambda: store.histories(["ann", wrong], 5),
        lambda: store.user(wrong),
        lambda: store.users(after=wrong),
        lambda: store.users(query=wrong),
        lambda: store.delete_user(wrong),
        lambda: store.get_items(["1", wrong]),
        lambda: store.items(query=wrong),
        lambda: store.items(category=wrong),
        lambda: store.matching({"a": [wrong]}),
        lambda: store.matching({wrong: ["a"]}),
        lambda: store.revoke_key(wrong),
        lambda: store.events(since_seq=2**63),
        lambda: store.matching({f"{n}": ["a"] for n in range(21)}),
        lambda: store.matching({"a": ["b"] * 1001}),
    ]
    for ask in asked:
        with pytest.raises(DataError):
            ask()
    assert store.matching({f"{n}": ["a"] * 50 for n in range(20)}) == ()


class TestUsers:
    def test_are_made_by_attributes_and_by_events(self, store: Store) -> None:
        store.put_users([("ann", {"age": "30", "город": "Минск"}), ("bob", {})])
        store.add_events([Event("cy", "tea", 1), Event("ann", "tea", 1)])
        assert store.user("ann") == {"age": "30", "город": "Минск"} and store.user("cy") == {} and store.user("dee") is None
        store.put_users([("ann", {"age": "31"})])
        assert store.user("ann") == {"age": "31"} and store.n_events("ann") == 1
        assert store.counts().users == 3

    def test_pages_hold_everybody_once(self, store: Store) -> None:
        names = ["%", "A", "_", "a", "b", "ö", "漢", "\U0001f3ac"]
        store.put_users([(name, {}) for name in reversed(names)])
        found: list[User] = []
        page = store.users(limit=3)
        while True:
            found += page.rows
            if page.next is None:
                break
            page = store.users(after=page.next, limit=3)
        assert [user.id for user in found] == names
        assert [user.id for user in store.users(query="A").rows] == ["A", "a"]
        assert [user.id for user in store.users(query="%").rows] == ["%"]

    @pytest.mark.parametrize("known", [{"age": 30}, {"a\0": "b"}, {"a": "b\0"}, {"a": None}])
    def test_attributes_are_text(self, store: Store, known: dict[str, Any]) -> None:
        with pytest.raises(DataError, match="user 'ann'"):
            store.put_users([("bob", {}), ("ann", known)])
        assert store.counts().users == 0

    def test_are_forgotten(self, store: Store) -> None:
        store.add_events([Event("ann", "tea", 1), Event("ann", "cup", 2), Event("bob", "tea", 3, "bob's")])
        before = store.counts().last_seq
        store.put_users([("ann", {"age": "30"})])
        assert store.delete_user("ann") == 2 and store.delete_user("ann") == 0
        assert store.user("ann") is None and store.history("ann", 9) == History() and store.n_events("ann") == 0
        assert store.counts().users == 1 and store.counts().events == 1
        store.delete_user("bob")
        store.add_events([Event("cy", "tea", 4)])
        assert numbers(store) > [before]


class TestItems:
    def test_are_found_by_words_category_and_values(self, store: Store) -> None:
        store.put_items(
            [
                Item("1", "A film about a STRASSE in Łódź", "Die Straße", {"categories": ["Drama", "Crime"], "year": 1999, "new": False}),
                Item("2", "100% sure_thing", None, {"categories": ["Drama"], "year": 2001, "x" * 100: "y", "long": "z" * 500, "deep": {"a": 1}}),
                Item("3", "", "Untitled", {"categories": [], "genre": "Drama"}),
            ]
        )
        found = {query: [item.id for item in store.items(query=query).rows] for query in ("strasse", "ŁÓDŹ die", "100%", "_", "0 %", "no such", "")}
        assert found == {"strasse": ["1"], "ŁÓDŹ die": ["1"], "100%": ["2"], "_": ["2"], "0 %": ["2"], "no such": [], "": ["1", "2", "3"]}
        assert [item.id for item in store.items(category="Drama").rows] == ["1", "2", "3"]
        assert [item.id for item in store.items(category="Drama", query="film").rows] == ["1"]
        assert store.categories() == [("Drama", 3), ("Crime", 1)]
        assert store.matching({"categories": ["Crime", "Drama"], "year": ["1999", "1800"]}) == ("1",)
        assert store.matching({"new": ["false"]}) == ("1",) and store.matching({"categories": []}) == () and store.matching({}) == ("1", "2", "3")

    def test_are_replaced_with_all_they_had(self, store: Store) -> None:
        store.put_items([Item("1", "old", "Old", {"categories": ["A"]}), Item("2", "two")])
        store.put_items([Item("1", "new", None, {"categories": ["B"], "n": 1})])
        assert store.item("1") == Item("1", "new", None, {"categories": ["B"], "n": 1}, seq=3) and store.item("9") is None
        assert store.items(category="A").rows == [] and store.items(query="old").rows == []
        assert [item.id for item in store.items_since(0)] == ["2", "1"] and [item.id for item in store.items_since(2)] == ["1"]
        assert store.counts().items == 2
        assert store.get_items(["2", "x", *map(str, range(10, 1500)), "1"]).keys() == {"1", "2"}

    @pytest.mark.parametrize("wrong", [Item("", "x"), Item("1", "a\0"), Item("1", "a", "b\0"), Item("1", "a", None, {"a": ["\0"]}), Item("1" * 513, "a")])
    def test_that_cannot_be_kept_are_refused(self, store: Store, wrong: Item) -> None:
        with pytest.raises(DataError, match="item"):
            store.put_items([Item("good", "x"), wrong])
        assert store.counts().items == 0

    def test_long_values_fit_every_index(self, store: Store) -> None:
        item = Item(WIDE, "x", None, {"f" * 64: [f"{n:03}" + "\U0001f3ac" * 99 for n in range(80)]})
        store.put_items([item])
        assert store.matching({"f" * 64: ["000" + "\U0001f3ac" * 99]}) == (WIDE,)


class TestKeys:
    def test_are_told_once_and_found(self, store: Store) -> None:
        secret = store.add_key("shop", ["write", "read"])
        other = store.add_key("boss", ["admin"])
        assert secret.startswith("tt_") and len(secret) == 46 and secret != other
        found = store.find_key(secret)
        assert found is not None and found.name == "shop" and found.scopes == {"read", "write"} and found.start == secret[:6]
        assert [key.name for key in store.list_keys()] == ["boss", "shop"]
        for wrong in ("", "tt_", secret[:-1], secret + " ", secret.swapcase(), "\ud800", "shop", store.hashed_keys()[1][0]):
            assert store.find_key(wrong) is None
        assert store.revoke_key("shop") and not store.revoke_key("shop") and store.find_key(secret) is None

    def test_refuse_what_is_wrong(self, store: Store) -> None:
        store.add_key("shop", ["read"])
        for name, scopes in [("shop", ["read"]), ("new", []), ("new", ["root"])]:
            with pytest.raises(ConfigError):
                store.add_key(name, scopes)
        with pytest.raises(DataError):
            store.add_key("a\0b", ["read"])
        assert len(store.list_keys()) == 1


class TestWriter:
    def test_a_job_that_fails_harms_no_other(self, store: Store) -> None:
        store.add_key("taken", ["read"])
        held = Held(store)
        first = store.start_events([Event("ann", "tea", 1, "a")])

        def fail(connection: Connection) -> None:
            connection.exec_driver_sql("DELETE FROM tongtu_events")
            raise RuntimeError("on purpose")

        failing = store.writer.submit(fail)
        with ThreadPoolExecutor(1) as thread:
            taken = thread.submit(store.add_key, "taken", ["read"])
            second = store.start_events([Event("ann", "tea", 2, "a"), Event("ann", "cup", 3, "b")])
            held.free()
            assert first.result() == [True] and second.result() == [False, True]
            assert isinstance(taken.exception(), ConfigError) and isinstance(failing.exception(), RuntimeError)
        assert store.history("ann", 9).items == ("tea", "cup")

    def test_who_gave_up_before_their_turn_wrote_nothing(self, store: Store) -> None:
        held = Held(store)
        given_up, kept = store.start_events([Event("ann", "tea", 1)]), store.start_events([Event("ann", "cup", 2)])
        assert given_up.cancel()
        held.free()
        assert kept.result() == [True] and store.history("ann", 9).items == ("cup",)

    def test_too_much_waiting_is_refused_at_once(self, store: Store) -> None:
        held = Held(store)
        many = store.start_events([Event("ann", "tea", 1)] * 100_000)
        with pytest.raises(StoreBusy, match="try again"):
            store.start_events([Event("ann", "cup", 2)])
        assert many.cancel()
        held.free()
        assert store.add_events([Event("ann", "cup", 2)]) == [True]

    def test_closing_writes_what_waits(self, store_url: str) -> None:
        store = Store.open(store_url)
        held = Held(store)
        waiting = [store.start_events([Event("ann", f"{n}", n)]) for n in range(5)]
        closing = threading.Thread(target=store.close)
        closing.start()
        held.free()
        closing.join(60)
        assert [one.result(0) for one in waiting] == [[True]] * 5
        with pytest.raises(StorageError, match="closed"):
            store.add_events([Event("ann", "x", 1)])
        with Store.open(store_url, create=False) as again:
            assert again.counts().events == 5


def test_the_registry_is_there_after_a_restart(store_url: str) -> None:
    rows = [SavedModel("films", "current", "/models/b", "abc-2", 2, 20), SavedModel("films", "previous", "/models/a", "abd-1", 1, 10)]
    with Store.open(store_url) as store:
        assert store.models() == [] and store.setting("traffic") is None and store.ready()
        store.save_models([SavedModel("old", "current", "/x", "v", 1, 1)])
        store.save_models(rows)
        store.save_setting("traffic", {"split": {"films": 1.0}})
    with Store.open(store_url, create=False) as store:
        assert store.models() == rows and store.setting("traffic") == {"split": {"films": 1.0}}
        store.save_models([])
        assert store.models() == []


def test_opening_at_the_same_time(store_url: str) -> None:
    start = threading.Barrier(6)

    def open_and_write(n: int) -> list[bool]:
        start.wait()
        with Store.open(store_url) as store:
            return store.add_events([Event("ann", "tea", n, f"key {n // 2}")])

    with ThreadPoolExecutor(6) as threads:
        assert sum(new for (new,) in threads.map(open_and_write, range(6))) == 3


def test_counts_by_minute(store: Store) -> None:
    now = int(time.time())
    for back, n in [(70, 2), (30, 4), (30, 1), (0, 3)]:
        store.writer.add_events(event_rows([Event("ann", "tea", 5)] * n, now - 60 * back)).result()
    counts = store.counts()
    assert len(counts.minutes) == 60 and sum(counts.minutes) == 8 and counts.events == 10
    # The clock may have gone on by a minute or two since.
    assert sorted(counts.minutes)[-2:] == [3, 5] and 5 in counts.minutes[27:30] and 3 in counts.minutes[57:]
    store.writer.add_events(event_rows([Event("ann", "tea", 5)], now + 86_400)).result()
    assert sum(store.counts().minutes) < 8
