"""Data set folders: what goes in comes out, mapped; damage is named; what stood there before stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from data_logs import dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tongtu.data.dataset import Dataset, Impressions
from tongtu.data.folder import open_dataset, save_dataset
from tongtu.errors import DataError, StorageError
from tongtu.vocab import Vocab

PEAK = """
import resource, sys
from tongtu.data.folder import open_dataset
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = open_dataset(sys.argv[1])
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown // (1024 if sys.platform == "darwin" else 1), data.item.base is not None, data.item.flags.writeable)
"""
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import tongtu.data.folder as f
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
data = f.open_dataset(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
f.save_dataset(data, Path(sys.argv[1]))
"""


def full() -> Dataset:
    """A data set that uses everything."""
    return dataset(
        {"u": "abc", "v": "ab", "w": ""},
        times=[5, 6, 7, 1, 2],
        event_fields=pl.DataFrame({"rating": pl.Series([1, 2, 3, 4, None], dtype=pl.Float32), "note": ["x", None, "ü", "", "a text of some length"]}),
        item_text=pl.Series("text", ["A", "", "C & D"]),
        item_fields=pl.DataFrame(
            {
                "id": ["x", "y", None],
                "tags": [["p", "q"], [], None],
                "size": [{"w": 1.5}, None, {"w": None}],
                "deep": [[[1]], [[2, 3], []], None],
            }
        ),
        user_attributes=pl.DataFrame({"events": [1, None, 3], "id": ["F", None, "M"]}),
        domain=np.array([0, 0, 1], np.int32),
        domains=("one", "two"),
        impressions=Impressions(
            user=np.array([1, 2], np.int32),
            seen=np.array([3, 1]),
            time=np.array([9, 8]),
            item=np.array([1, 2, 3], np.int32),
            clicked=np.array([True, False, True]),
            offset=np.array([0, 2, 3]),
        ),
        source={"files": ["a.csv"], "rows": {"read": 5}},
    )


def same(one: Dataset, other: Dataset) -> None:
    assert (one.name, one.domains, dict(one.source), one.users, one.items) == (other.name, other.domains, dict(other.source), other.users, other.items)
    for name in ("item", "offset", "time", "domain"):
        left, right = getattr(one, name), getattr(other, name)
        assert (left is None and right is None) or (left.dtype == right.dtype and left.tolist() == right.tolist()), name
    for name in ("event_fields", "item_fields", "user_attributes"):
        assert getattr(one, name).equals(getattr(other, name)) and getattr(one, name).schema == getattr(other, name).schema, name
    assert one.item_text.to_list() == other.item_text.to_list()


def test_everything_comes_back(tmp_path: Path) -> None:
    data = full()
    save_dataset(data, tmp_path / "data")
    back = open_dataset(tmp_path / "data", verify=True)
    same(data, back)
    assert data.impressions is not None and back.impressions is not None
    for name in ("user", "seen", "time", "item", "clicked", "offset"):
        assert getattr(back.impressions, name).tolist() == getattr(data.impressions, name).tolist()
    assert back.fingerprint == data.fingerprint


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=st.dictionaries(st.text(min_size=1, max_size=4).filter(str.isprintable), st.text("abcdef", max_size=6), min_size=1, max_size=6))
def test_any_small_log_comes_back(log: dict[str, str], tmp_path: Path) -> None:
    data = dataset(log)
    save_dataset(data, tmp_path / "data")
    same(data, open_dataset(tmp_path / "data"))


def test_large_events_are_mapped_and_hashed_only_when_asked(tmp_path: Path) -> None:
    n = 6_000_000
    data = Dataset("many", Vocab(["u"]), Vocab(["a"]), np.ones(n, np.int32), np.array([0, n]), np.arange(n))
    save_dataset(data, tmp_path / "data")
    done = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path / "data")], capture_output=True, text=True, check=True)
    kilobytes, mapped, writable = done.stdout.split()
    assert (mapped, writable) == ("True", "False")
    assert int(kilobytes) < n * 12 // 1024 // 4
    file = tmp_path / "data" / "events.arrow"
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        opened.write(b"!")
    open_dataset(tmp_path / "data")
    with pytest.raises(DataError, match=r"events\.arrow is damaged"):
        open_dataset(tmp_path / "data", verify=True)


@pytest.mark.parametrize("name", ["events.arrow", "users.parquet", "items.parquet", "impressions.arrow", "shown.arrow", "dataset.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_damage_is_refused_by_name(name: str, damage: str, tmp_path: Path) -> None:
    save_dataset(full(), tmp_path / "data")
    file = tmp_path / "data" / name
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        file.unlink()
    with pytest.raises(DataError, match=name.replace(".", r"\.")) as caught:
        open_dataset(tmp_path / "data")
    assert "\n" not in str(caught.value)


def test_a_newer_format_and_no_folder(tmp_path: Path) -> None:
    save_dataset(full(), tmp_path / "data")
    record = json.loads((tmp_path / "data" / "dataset.json").read_text())
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(DataError, match="upgrade tongtu"):
        open_dataset(tmp_path / "data")
    with pytest.raises(DataError, match="no data set at"):
        open_dataset(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no data set folder"):
        open_dataset(tmp_path / "empty")


def test_what_is_no_data_set_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(StorageError, match="not replaced"):
        save_dataset(full(), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_a_full_disk_leaves_the_old_data_set(tmp_path: Path) -> None:
    save_dataset(full(), tmp_path / "data")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path / "data")], capture_output=True, text=True, check=False)
    assert done.returncode and "no room left" in done.stderr
    same(full(), open_dataset(tmp_path / "data", verify=True))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
