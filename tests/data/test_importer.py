"""Import: what is kept, what is dropped and why, and in which order."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from data_logs import COLUMNS, FORMATS, dataset, histories, imported, table, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tongtu.data.domains import combine
from tongtu.data.filters import k_core
from tongtu.data.folder import open_dataset, save_dataset
from tongtu.data.importer import import_log
from tongtu.data.log import Columns
from tongtu.data.stats import statistics
from tongtu.data.tables import SideTable
from tongtu.errors import ConfigError, DataError

SLOW_DISK = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
IDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\x00"), min_size=1, max_size=8)
NAMES = st.sampled_from(["u1", "u2", "u3", ""])
THINGS = st.sampled_from(["a", "b", "c", None])
TIMES = st.sampled_from(["5", "7", "1600000000", "soon", ""])


@SLOW_DISK
@pytest.mark.parametrize("kind", FORMATS)
@given(pairs=st.lists(st.tuples(IDS, IDS), min_size=1, max_size=12))
def test_any_id_comes_through_every_format_as_it_was_written(kind: str, pairs: list[tuple[str, str]], tmp_path: Path) -> None:
    rows = [(user, item, 1_600_000_000 + second) for second, (user, item) in enumerate(pairs)]
    data, report = import_log(write(tmp_path / f"log.{kind}", table(rows)), COLUMNS, quiet=True)
    expected: dict[str, list[str]] = {}
    for user, item in pairs:
        expected.setdefault(user, []).append(item)
    assert histories(data) == expected
    assert report.kept == report.read == len(pairs)


@SLOW_DISK
@given(rows=st.lists(st.tuples(NAMES, THINGS, TIMES), min_size=1, max_size=30))
def test_every_row_is_kept_or_counted_once_and_order_is_time_then_row(rows: list[tuple[str, str | None, str]], tmp_path: Path) -> None:
    lines = ["user,item,time", *(f"{user},{item or ''},{time}" for user, item, time in rows)]
    good = [(user, item, int(time)) for user, item, time in rows if user and item and time.isdigit()]
    unreadable = sum(bool(user and item) and not time.isdigit() for user, item, time in rows)
    path = tmp_path / "log.csv"
    if not good or unreadable * 2 > len(rows):
        with pytest.raises(DataError):
            imported(path, "\n".join(lines) + "\n")
        return
    data, report = imported(path, "\n".join(lines) + "\n")
    assert report.read == len(rows) == report.kept + sum(report.dropped.values())
    expected: dict[str, list[str]] = {}
    for user, item, _ in sorted(dict.fromkeys(good), key=lambda row: row[2]):
        expected.setdefault(user, []).append(item)
    assert histories(data) == dict(sorted(expected.items()))
    reasons = Counter("missing user id" if not user else "missing item id" if not item else "" for user, item, _ in rows)
    assert report.dropped.get("missing user id", 0) == reasons["missing user id"]
    assert report.dropped.get("missing item id", 0) == reasons["missing item id"]
    assert report.dropped.get("exact duplicate", 0) == len(good) - len(set(good))


def test_ids_stay_as_they_are_written(tmp_path: Path) -> None:
    data, _ = imported(tmp_path / "log.csv", "user,item,time\n007,01,1\n7,1,2\n007, 1 ,3\n")
    assert histories(data) == {"007": ["01", " 1 "], "7": ["1"]}


def test_numbers_as_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "log.parquet", table([(7.0, 12, 1), (None, 13, 2), (8.0, 12, 3)]))
    data, report = import_log(path, COLUMNS, quiet=True)
    assert histories(data) == {"7": ["12"], "8": ["12"]}
    assert report.dropped == {"missing user id": 1}
    data, _ = imported(tmp_path / "log.jsonl", '{"user": 7, "item": "007", "time": 1}\n{"user": "7", "item": 7, "time": 2}\n')
    assert histories(data) == {"7": ["007", "7"]}


def test_order_decides_and_time_is_kept(tmp_path: Path) -> None:
    rows = [("u", "a", 30, 1), ("u", "b", 20, 3), ("u", "c", None, 2), ("u", "d", 9, None)]
    path = write(tmp_path / "log.csv", table(rows, ("user", "item", "time", "place")))
    data, report = import_log(path, Columns("user", "item", time="time", order="place"), quiet=True)
    assert histories(data) == {"u": ["a", "c", "b"]}
    assert data.time is not None and data.time.tolist() == [30, 30, 20]
    assert report.dropped == {"missing or unreadable order": 1}
    assert "without a readable time" in report.notes[0]


def test_times_are_left_out_where_a_user_has_none(tmp_path: Path) -> None:
    rows = [("u", "a", "30", 1), ("v", "b", None, 1)]
    path = write(tmp_path / "log.csv", table(rows, ("user", "item", "time", "place")))
    data, report = import_log(path, Columns("user", "item", time="time", order="place"), quiet=True)
    assert data.time is None and "times are left out" in report.notes[0]


def test_order_with_fractions_and_huge_range(tmp_path: Path) -> None:
    rows = [("u", "a", 1.5), ("u", "b", 1.25), ("u", "c", -9e300), ("v", "a", 4e300)]
    path = write(tmp_path / "log.csv", table(rows, ("user", "item", "place")))
    data, _ = import_log(path, Columns("user", "item", order="place"), quiet=True)
    assert histories(data) == {"u": ["c", "b", "a"], "v": ["a"]}
    rows = [("u", "a", 2**62), ("u", "b", -(2**62)), ("u", "c", 0)]
    path = write(tmp_path / "wide.parquet", table(rows, ("user", "item", "place")))
    data, _ = import_log(path, Columns("user", "item", order="place"), quiet=True)
    assert histories(data) == {"u": ["b", "c", "a"]}


def test_duplicates_differ_by_any_field(tmp_path: Path) -> None:
    rows = [("u", "a", 1, 5.0), ("u", "b", 1, 5.0), ("u", "a", 1, 5.0), ("u", "a", 1, 4.0), ("u", "a", 2, 5.0)]
    path = write(tmp_path / "log.csv", table(rows, ("user", "item", "time", "stars")))
    data, report = import_log(path, Columns("user", "item", time="time", rating="stars"), quiet=True)
    assert report.dropped == {"exact duplicate": 1}
    assert histories(data) == {"u": ["a", "b", "a", "a"]}
    assert data.ratings is not None and data.ratings.tolist() == [5, 5, 4, 5]


def test_a_file_of_one_row_many_times_gives_one_event(tmp_path: Path) -> None:
    data, report = imported(tmp_path / "log.csv", "user,item,time\n" + "u,a,5\n" * 100)
    assert data.n_events == 1 and report.dropped == {"exact duplicate": 99}
    assert histories(data) == {"u": ["a"]}


def test_fields_keep_their_names_and_types(tmp_path: Path) -> None:
    rows = [("u", "a", 1, "3", "007", "x, y"), ("u", "b", 2, "4", "8", None)]
    path = write(tmp_path / "log.csv", table(rows, ("user", "item", "time", "quantity", "shop", "item text")))
    data, _ = import_log(path, Columns("user", "item", time="time", fields=("quantity", "shop", "item text")), quiet=True)
    assert data.event_fields.to_dict(as_series=False) == {"quantity": [3, 4], "shop": ["007", "8"], "item text": ["x, y", None]}


def test_several_files_continue_each_other(tmp_path: Path) -> None:
    one = write(tmp_path / "1.csv", table([("u", "a", 9), ("v", "a", 9)]))
    two = write(tmp_path / "2.jsonl", table([("u", "b", 9), ("u", "c", 1)]))
    data, report = import_log([one, two], COLUMNS, quiet=True)
    assert histories(data) == {"u": ["c", "a", "b"], "v": ["a"]} and report.read == 4


def test_atomic_files(tmp_path: Path) -> None:
    path = tmp_path / "x.inter"
    data, _ = imported(path, 'user_id:token\titem_id:token\ttimestamp:float\nu\t"a\t20.0\nu\tb\t1e1\n', Columns("user_id", "item_id", time="timestamp"))
    assert histories(data) == {"u": ["b", '"a']}
    with pytest.raises(DataError, match="no atomic file"):
        imported(path, "user_id\titem_id\nu\ta\n", Columns("user_id", "item_id", time="timestamp"))


def test_catalogue_and_users_are_matched_and_counted(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", table([("u", "01", 1), ("u", "02", 2), ("v", "03", 3)]))
    catalogue = pl.DataFrame(
        {
            "sku": ["02", "01", "01", None, "99"],
            "id": ["x", "y", "z", "w", "v"],
            "title": ["Two &amp;  <b>too</b>", "One.", "again", "", ""],
            "tags": [["a", "b"], [], None, [], []],
            "size": [{"w": 1}, {"w": 2}, {"w": 3}, None, None],
        }
    )
    people = write(tmp_path / "people.csv", pl.DataFrame({"user": ["v"], "age": [30], "zip": ["01234"]}))
    side = SideTable(write(tmp_path / "items.parquet", catalogue), "sku", ("title", "tags", "id"))
    data, report = import_log(log, COLUMNS, side, SideTable(people), quiet=True)
    assert data.items.ids.to_list() == ["01", "02", "03"]
    assert data.item_text.to_list() == ["One. y", "Two & too. a, b. x", ""]
    assert data.item_fields["tags"].to_list() == [[], ["a", "b"], None]
    assert data.item_fields["size"].to_list() == [{"w": 2}, {"w": 1}, None]
    assert report.items == {"missing id": 1, "repeated id": 1, "id not in the log": 1, "id of the log without a row": 1}
    assert data.user_attributes.to_dict(as_series=False) == {"age": [None, 30], "zip": [None, "01234"]}
    assert report.users == {"id of the log without a row": 1}


def test_items_without_events_are_kept_where_asked_for_and_pass_filters(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", table([("u", "b", 1), ("u", "a", 2), ("v", "a", 3)]))
    catalogue = write(tmp_path / "items.csv", pl.DataFrame({"item": ["new", "a", None, "newer", "new"], "title": ["New", "A", "?", "", "again"]}))
    usual, _ = import_log(log, COLUMNS, SideTable(catalogue, None, ("title",)), quiet=True)
    data, report = import_log(log, COLUMNS, SideTable(catalogue, None, ("title",), all=True), quiet=True)
    assert usual.items.ids.to_list() == ["a", "b"] and data.items.ids.to_list() == ["a", "b", "new", "newer"]
    assert data.item_counts.tolist() == [0, 2, 1, 0, 0] and data.item_text.to_list() == ["A", "", "New", ""]
    assert report.items == {"missing id": 1, "repeated id": 1, "id of the log without a row": 1}
    assert report.notes == ["2 items of the catalogue have no event and were kept"] and data.source["items"]["all"]
    core = k_core(data, users=1, items=2)
    assert core.items.ids.to_list() == ["a", "new", "newer"] and statistics(core)["size"]["items without events"] == 2
    assert k_core(dataset({"u": "bba"}).keep_events(np.array([False, False, True])), 1, 1).items.ids.to_list() == ["a"], "not asked for, not kept"
    both = k_core(combine({"whole": data, "usual": usual.keep_events(usual.item == 1)}), users=1, items=1)
    assert both.items.ids.to_list() == ["whole:a", "whole:b", "whole:new", "whole:newer", "usual:a"]
    save_dataset(core, tmp_path / "core")
    assert open_dataset(tmp_path / "core").item_text.to_list() == ["A", "New", ""]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("user,item,time\n", "no rows"),
        ("user,thing,time\nu,a,1\n", "no column 'item'"),
        ("usr,item,time\nu,a,1\n", "did you mean 'usr'"),
        (b"user,item,time\nu,caf\xe9,1\n", "not UTF-8.*iconv"),
        (b"us\xe9r,item,time\nu,a,1\n", "not UTF-8.*iconv"),
        ("user,item,time\nu,a,1\n".encode("utf-16"), "not UTF-8.*iconv"),
        ("user;item;time\nu;a;1\n", "separated by ';'"),
        ("user,item,time\nu,a,1,9\n", "more values than its header"),
        ('user,item,time\nu,"a,1\nu,b,2\n', "double quote"),
        ("user,item,time\nu,a,soon\nu,b,later\nu,c,3\n", "cannot be read as times in 2 of 3 rows"),
        ("user,item,time\n,a,1\nu,,2\n", "no usable row .2 read: 1 missing user id, 1 missing item id"),
    ],
)
def test_a_bad_csv_gets_one_line_with_a_remedy(text: str | bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says) as caught:
        imported(tmp_path / "log.csv", text)
    assert "\n" not in str(caught.value) and "log.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("log.jsonl", b'{"user": "u", "item"\n', "JSON lines.*one JSON object"),
        ("log.jsonl", b"", "is empty"),
        ("log.csv.gz", gzip.compress(b"user,item,time\n" + b"u,a,1\n" * 1000)[:40], "cut off"),
        ("log.parquet", b"PAR1 and no more", "cut off"),
        ("log.xlsx", b"x", "rename it to one of .csv"),
    ],
)
def test_a_bad_file_of_another_format(name: str, text: bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        imported(tmp_path / name, text)


def test_order_must_be_named_and_be_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", table([("u", "a", "monday"), ("u", "b", "tuesday")]))
    with pytest.raises(DataError, match="--time"):
        import_log(path, Columns("user", "item"), quiet=True)
    with pytest.raises(DataError, match="--order needs a column of numbers"):
        import_log(path, Columns("user", "item", order="time"), quiet=True)
    with pytest.raises(DataError, match="no file"):
        import_log(tmp_path / "absent.csv", COLUMNS, quiet=True)


@pytest.mark.parametrize("more", [{"item": "user"}, {"rating": "time"}, {"rating": "stars", "fields": ("rating",)}, {"fields": ("x", "x")}])
def test_a_column_means_one_thing(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="named twice"):
        Columns(**{"user": "user", "item": "item", "time": "time"} | more)


def test_the_report_tells_whether_the_file_was_in_time_order(tmp_path: Path) -> None:
    _, report = imported(tmp_path / "log.csv", "user,item,time\nu,a,1\nu,b,2\nv,a,3\nv,b,3\n")
    assert report.in_order == 1
    _, report = imported(tmp_path / "log.csv", "user,item,time\nu,a,3\nu,b,2\nu,c,1\n")
    assert report.in_order == 0


def test_the_same_rows_in_another_order_give_the_same_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = table([(f"u{u}", f"i{i}", t) for u, i, t in zip(rng.integers(0, 50, 500), rng.integers(0, 90, 500), rng.permutation(500), strict=True)])
    one, _ = import_log(write(tmp_path / "1.csv", rows), COLUMNS, quiet=True)
    two, _ = import_log(write(tmp_path / "2.csv", rows.sample(fraction=1, shuffle=True, seed=1)), COLUMNS, quiet=True)
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != dataset({"u": "abc"}).fingerprint
