"""`tongtu data` as a person runs it: answers on standard output, one line and exit code 2 for mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from data_logs import table, write
from typer.testing import CliRunner

from tongtu.cli import app
from tongtu.data.folder import open_dataset

ROWS = [("u", "a", 1_600_000_000_000), ("u", "b", 1_600_000_001_000), ("u", "c", 1_600_000_002_000), ("v", "a", 1_600_000_003_000), ("", "a", 1)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("TONGTU_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def command(line: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["data", *line.split()])
        return result.exit_code, result.stdout, result.stderr

    return command


def test_import_stats_check_filter(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path / "log.csv", table(ROWS))
    write(tmp_path / "items.csv", pl.DataFrame({"item": ["a", "b"], "title": ["A", "B"], "brand": ["X", None]}))
    code, out, err = run("import log.csv --user user --item item --time time --items items.csv --text title,brand --out data --quiet")
    assert (code, out) == (0, "data: 2 users, 3 items, 4 events\n")
    assert err.splitlines() == [
        "rows read 5, kept 4; dropped 1: missing user id",
        "times were taken for milliseconds",
        "catalogue, id of the log without a row: 1",
    ]
    code, out, _ = run("stats data --json")
    assert code == 0 and json.loads(out)["size"]["events"] == 4
    assert "Gini" in run("stats data")[1]
    code, out, _ = run("check data")
    assert code == 0 and "remedy:" in out and "3 warnings" in out
    assert run("check data --strict")[0] == 2
    assert json.loads(run("check data --json")[1])[0]["name"] == "item text"
    code, out, _ = run("filter data --user-core 3 --since 2020-09-01 --out part")
    assert (code, out) == (0, "part: 1 users, 3 items, 3 events\n")
    assert run("combine x=data y=part --out both")[1] == "both: 2 users, 6 items, 7 events\n"


def test_a_whole_catalogue_comes_through_every_command(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path / "log.csv", table(ROWS))
    write(tmp_path / "items.csv", pl.DataFrame({"item": ["new", "a", "b", "c"], "title": ["New", "A", "B", "C"]}))
    line = "import log.csv --user user --item item --time time --items items.csv --text title --quiet"
    assert run(f"{line} --out usual")[1:] == (
        "usual: 2 users, 3 items, 4 events\n",
        "rows read 5, kept 4; dropped 1: missing user id\ntimes were taken for milliseconds\ncatalogue, id not in the log: 1\n",
    )
    code, out, err = run(f"{line} --all-items --out data")
    assert (code, out) == (0, "data: 2 users, 4 items, 4 events\n") and "1 items of the catalogue have no event and were kept" in err
    usual, data = open_dataset(tmp_path / "usual"), open_dataset(tmp_path / "data")
    assert data.items.ids[:3].to_list() == usual.items.ids.to_list() and data.item.tolist() == usual.item.tolist()
    assert json.loads(run("stats data --json")[1])["size"]["items without events"] == 1
    assert "1 of the 4 items have no event" in run("check data")[1] and "have no event" not in run("check usual")[1]
    assert run("filter data --item-core 2 --out part")[1] == "part: 2 users, 2 items, 2 events\n"
    assert run("filter usual --item-core 2 --out part")[1] == "part: 2 users, 1 items, 2 events\n"


def test_an_atomic_file_finds_its_neighbours(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\nu\ta\t5\n")
    (tmp_path / "x.item").write_text("item_id:token\tname:token_seq\tvector:float_seq\na\tToy Story\t1.5 2\n")
    (tmp_path / "x.user").write_text("user_id:token\tage:token\nu\t30\n")
    assert run("import x.inter --text name --out data --quiet")[0] == 0
    items = pl.read_parquet(tmp_path / "data" / "items.parquet")
    assert items["text"].to_list() == ["Toy Story"] and items["fields"].struct.field("vector").to_list() == [[1.5, 2.0]]
    assert pl.read_parquet(tmp_path / "data" / "users.parquet")["attributes"].struct.field("age").to_list() == [30]


def test_list_shows_what_is_held(run) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = run("list")
    assert code == 0 and "ml-100k" in out and "amazon2023-beauty" in out and "mind-large" in out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("import log.csv --user user --item item --out data", "what orders the events"),
        ("import log.csv --user user --item sku --time time --out data", "no column 'sku'"),
        ("import log.csv --user user --item item --time time --text title --out data", "--items FILE"),
        ("import log.csv --user user --item item --time time --all-items --out data", "--items FILE"),
        ("import absent.csv --time time --out data", "no file absent.csv"),
        ("import log.csv --user user --item item --time time --out mine", "not replaced"),
        ("stats nothing", "neither a data set folder nor a public data set"),
        ("fetch ml-1000", "did you mean"),
        ("combine justone --out both", "DOMAIN=DIR"),
        ("filter data --since soon --out part", "no data set"),
    ],
)
def test_mistakes_get_one_line(line: str, says: str, run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path / "log.csv", table(ROWS))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    (tmp_path / "data").mkdir()
    code, out, err = run(line)
    assert code == 2 and out == ""
    lines = [entry for entry in err.splitlines() if entry.startswith("error: ")]
    assert len(lines) == 1 and says in lines[0], err
    assert (tmp_path / "mine" / "diary.txt").read_text() == "dear diary"
