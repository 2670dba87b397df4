from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet
import pytest

from tongtu.data.folder import open_dataset, save_dataset
from tongtu.data.synthetic import taste_world
from tongtu.evaluation.protocol import EvalProtocol

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "world"
    save_dataset(taste_world(users=80, items=60, length=8).data, path)
    return path


def test_a_file_of_a_mixture_is_made_again_byte_by_byte(tongtu: Run, world: Path, tmp_path: Path) -> None:
    wanted = ("candidates", "--data", world, "--source", "bm25-6", "--source", "popular-4", "--source", "uniform-9", "--users", 30, "--seed", 3, "--out")
    result = tongtu(*wanted, tmp_path / "one.parquet")
    assert result.exit_code == 0 and "30 lists of 20.0 items on average, 100.0% of them with the target" in result.stdout
    assert tongtu(*wanted, tmp_path / "two.parquet").exit_code == 0
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    table, log = pl.read_parquet(tmp_path / "one.parquet"), open_dataset(world)
    split = EvalProtocol(users=30, seed=3).split(log)
    assert table["user"].to_list() == log.users.decode(split.test.user) and table["target"].to_list() == log.items.decode(split.test.target)
    for row, history in zip(table.iter_rows(named=True), (request.history for request in split.test.requests), strict=True):
        assert row["target"] in row["items"] and not set(row["items"]) & set(log.items.decode(history)) and len(set(row["items"])) == 20
        assert {name: row["sources"].count(name) for name in set(row["sources"])} == {"target": 1, "bm25-6": 6, "popular-4": 4, "uniform-9": 9}
    facts = json.loads(pyarrow.parquet.read_schema(tmp_path / "one.parquet").metadata[b"tongtu"])
    assert facts["protocol"] == EvalProtocol().fingerprint(log) and facts["seed"] == 3 and facts["sources"] == ["bm25-6", "popular-4", "uniform-9"]


def test_a_saved_model_proposes_and_a_protocol_takes_the_file(tongtu: Run, world: Path, tmp_path: Path) -> None:
    assert tongtu("fit", "itemknn", "--data", world, "--out", tmp_path / "knn").exit_code == 0
    path = tmp_path / "lists.parquet"
    result = tongtu("candidates", "--data", world, "--source", f"{tmp_path / 'knn'}-12", "--without-target", "--users", 500, "--out", path)
    assert result.exit_code == 0 and "warning" not in result.stderr
    table = pl.read_parquet(path)
    hit = table.select(pl.col("items").list.contains(pl.col("target")).mean()).item()
    assert table.height == 80 and 0.1 < hit < 0.95 and f"{hit:.1%} of them with the target" in result.stdout
    assert set(table["sources"].explode()) == {"knn-12"}
    (tmp_path / "e.toml").write_text(
        f'name = "reranked"\ndata = "{world}"\nprotocol = {{candidates = "{path}"}}\nsystems = [{{name = "popular"}}]\nexamples = 0'
    )
    assert tongtu("compare", tmp_path / "e.toml", "--out", tmp_path / "results").exit_code == 0
    record = json.loads((tmp_path / "results" / "results.json").read_text())["systems"][0]
    assert record["metrics"]["recall@20"] == pytest.approx(hit), "lists of twelve are listed whole"
    assert record["slices"]["target's place"]["absent"]["cases"] == round(80 * (1 - hit))


def test_validation_cases_and_a_model_that_saw_the_test(tongtu: Run, world: Path, tmp_path: Path) -> None:
    assert tongtu("fit", "popular", "--data", world, "--out", tmp_path / "all", "--all-events").exit_code == 0
    result = tongtu("candidates", "--data", world, "--source", f"{tmp_path / 'all'}-5", "--part", "validation", "--out", tmp_path / "v.parquet")
    assert result.exit_code == 0 and "too good to be true" in result.stderr
    log = open_dataset(world)
    assert pl.read_parquet(tmp_path / "v.parquet")["target"].to_list() == log.items.decode(EvalProtocol().split(log).valid.target)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source", "uniform"], "uniform-19"),
        (["--source", "uniform-0"], "uniform-19"),
        (["--source", "bm52-19"], "did you mean 'bm25'"),
        (["--source", "uniform-9", "--protocol", "mind"], "choose another --protocol"),
        (["--source", "uniform-9", "--out", "lists.csv"], "ends in .parquet"),
    ],
)
def test_mistakes_are_told_in_one_line(tongtu: Run, world: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    result = tongtu("candidates", "--data", world, "--out", tmp_path / "lists.parquet", *arguments)
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "lists.parquet").exists()


def test_a_model_of_other_items_is_refused(tongtu: Run, world: Path, model: Path, tmp_path: Path) -> None:
    result = tongtu("candidates", "--data", world, "--source", f"{model}-5", "--out", tmp_path / "lists.parquet")
    assert result.exit_code == 2 and "fit it on this data" in result.stderr
