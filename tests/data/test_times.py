"""Times in all units and spellings."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from data_logs import COLUMNS, imported, table, write
from hypothesis import given
from hypothesis import strategies as st

from tongtu.data import times
from tongtu.data.importer import import_log
from tongtu.errors import DataError

NOON = 1_580_558_400  # 2020-02-01T12:00:00Z


@pytest.mark.parametrize(("factor", "unit"), [(1, "seconds"), (10**3, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds")])
def test_units_are_told_by_size(factor: int, unit: str, tmp_path: Path) -> None:
    data, report = imported(tmp_path / "log.csv", f"user,item,time\nu,a,{NOON * factor}\nu,b,{(NOON + 5) * factor}\n")
    assert data.time is not None and data.time.tolist() == [NOON, NOON + 5]
    assert report.time_unit == unit


@pytest.mark.parametrize(
    "text",
    [
        "2020-02-01T12:00:00Z",
        "2020-02-01 12:00:00",
        "2020-02-01T13:00:00+01:00",
        "2020-02-01 13:00:00.25+01:00",
        "2020-02-01T12:00:00.999",
        "2020-02-01 12:00",
        " 2020-02-01T12:00:00Z ",
        "02/01/2020 12:00:00 PM",
        str(NOON),
        f"{NOON}.5",
    ],
)
def test_text_of_many_forms(text: str, tmp_path: Path) -> None:
    data, _ = imported(tmp_path / "log.csv", f"user,item,time\nu,a,{text}\n")
    assert data.time is not None and data.time.tolist() == [NOON]
    assert times.parse_moment(text) == NOON


def test_a_date_is_its_midnight_and_forms_may_mix(tmp_path: Path) -> None:
    data, report = imported(tmp_path / "log.csv", "user,item,time\nu,a,2020-02-01\nu,b,2020-02-01T12:00:00Z\nu,c,yesterday\n")
    assert data.time is not None and data.time.tolist() == [NOON - 43_200, NOON]
    assert report.dropped == {"missing or unreadable time": 1}


def test_parquet_dates(tmp_path: Path) -> None:
    moment = datetime(2020, 2, 1, 12, tzinfo=UTC)
    for column in (pl.Series([moment]), pl.Series([moment.date()]), pl.Series([moment]).cast(pl.Datetime("ns", "Asia/Tokyo"))):
        path = write(tmp_path / "log.parquet", pl.DataFrame({"user": ["u"], "item": ["a"], "time": column}))
        data, _ = import_log(path, COLUMNS, quiet=True)
        assert data.time is not None and data.time[0] // 86_400 * 86_400 == NOON - 43_200


def test_moments_before_1970_and_far_away_are_dropped(tmp_path: Path) -> None:
    rows = [("u", "a", NOON), ("u", "b", -5), ("u", "c", 10**15), ("u", "d", NOON), ("u", "e", NOON)]
    _, report = import_log(write(tmp_path / "log.csv", table(rows)), COLUMNS, quiet=True)
    assert report.dropped == {"missing or unreadable time": 2}


@given(st.lists(st.integers(0, 10**11 - 1), min_size=1))
def test_seconds_stay_seconds(values: list[int]) -> None:
    result, usable, unit = times.seconds(np.array(values), np.ones(len(values), np.bool_))
    assert unit == "seconds" and usable.all() and result.tolist() == values


def test_no_moment() -> None:
    with pytest.raises(DataError, match="ISO 8601"):
        times.parse_moment("soon")
