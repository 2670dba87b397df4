from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tongtu.data.folder import open_dataset, save_dataset
from tongtu.data.synthetic import markov_world, taste_world, wish_world
from tongtu.evaluation.protocol import PROTOCOLS
from tongtu.vocab import Vocab

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "world"
    save_dataset(markov_world(users=60, items=30, length=8).data, path)
    return path


def test_an_honest_model_is_measured_without_a_warning(tongtu: Run, world: Path, tmp_path: Path) -> None:
    assert tongtu("fit", "popular", "--data", world, "--out", tmp_path / "model").exit_code == 0
    result = tongtu("evaluate", tmp_path / "model", "--data", world, "--json", tmp_path / "figures.json")
    assert result.exit_code == 0 and "NDCG" in result.stdout and "warning" not in result.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["warning"] is None and figures["interval"]["ndcg@10"][0] <= figures["metrics"]["ndcg@10"] <= figures["interval"]["ndcg@10"][1]
    assert figures["protocol"]["fingerprint"] == PROTOCOLS["leave-one-out"].fingerprint(open_dataset(world))


@pytest.mark.parametrize(
    ("fitted", "asked", "said"),
    [(["--all-events"], [], "too good to be true"), ([], ["--protocol", "cold-users"], "other events than this protocol trains on")],
)
def test_a_model_that_saw_the_test_is_told_apart(tongtu: Run, world: Path, tmp_path: Path, fitted: list[str], asked: list[str], said: str) -> None:
    assert tongtu("fit", "popular", "--data", world, "--out", tmp_path / "model", *fitted).exit_code == 0
    result = tongtu("evaluate", tmp_path / "model", "--data", world, *asked)
    assert result.exit_code == 0 and said in result.stderr


@pytest.fixture
def reader(tongtu: Run, tmp_path: Path) -> Path:
    """A model that reads item texts, of a world of its own."""
    save_dataset(taste_world(users=200, seed=3).data, tmp_path / "own")
    settings = ("encoder=hashing", "width=16", "experts=2", "mode=text", "training.epochs=10", "training.tokens=256", "training.learning_rate=5e-3")
    sets = [f"--set={setting}" for setting in settings]
    assert tongtu("fit", "unisrec", "--data", tmp_path / "own", "--out", tmp_path / "reader", *sets).exit_code == 0
    return tmp_path / "reader"


def test_a_model_that_reads_texts_answers_for_a_catalogue_it_never_saw(tongtu: Run, reader: Path, tmp_path: Path) -> None:
    data = taste_world(users=100).data
    save_dataset(dataclasses.replace(data, items=Vocab([f"other {external}" for external in data.items.ids])), tmp_path / "other")
    result = tongtu("evaluate", reader, "--data", tmp_path / "other", "--json", tmp_path / "figures.json")
    assert result.exit_code == 0 and "new to the model" in result.stderr and "which are misses" not in result.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["metrics"]["ndcg@10"] > 0.15, "at random it would be .04"
    other = open_dataset(tmp_path / "other")
    answer = tongtu("recommend", reader, "--data", tmp_path / "other", "--history", other.items.ids[50], "-k", 5, "--json")
    found = json.loads(answer.stdout)["items"]
    assert len(found) == 5 and all(row["text"] == other.item_text[other.items.code(row["id"]) - 1] for row in found)


def test_a_model_of_ids_takes_no_other_catalogue(tongtu: Run, model: Path, world: Path) -> None:
    result = tongtu("recommend", model, "--data", world)
    assert result.exit_code != 0 and "reads item texts" in result.stderr


def test_a_model_of_another_catalogue_misses_what_it_does_not_know(tongtu: Run, world: Path, tmp_path: Path) -> None:
    other = markov_world(users=60, items=12, length=8).data
    save_dataset(other, tmp_path / "other")
    assert tongtu("fit", "popular", "--data", tmp_path / "other", "--out", tmp_path / "model").exit_code == 0
    result = tongtu("evaluate", tmp_path / "model", "--data", world)
    assert result.exit_code == 0 and "which are misses" in result.stderr and "warning" in result.stderr


def test_compare_writes_table_and_report_and_goes_on(tongtu: Run, world: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "trial.toml", tmp_path / "out"
    systems = '{name = "popular"}, {name = "itemknn", refit = "train+valid"}'
    file.write_text(f'name = "trial"\ndata = "{world}"\nsystems = [{systems}]\n')
    first = tongtu("compare", file, "--out", out)
    assert first.exit_code == 0, first.stderr
    assert "ItemKNN (train+valid)" in first.stdout and "Popular, seed 0: " in first.stderr and "kept" not in first.stderr
    assert "<html" in (out / "report.html").read_text() and (out / "results.json").exists() and (out / "users.parquet").exists()
    again = tongtu("compare", file, "--out", out)
    assert again.stdout == first.stdout and again.stderr.count("kept from before") == 3


def test_compare_refuses_a_folder_of_another_protocol(tongtu: Run, world: Path, tmp_path: Path) -> None:
    file = tmp_path / "trial.toml"
    file.write_text(f'name = "trial"\ndata = "{world}"\nsystems = [{{name = "popular"}}]\n')
    assert tongtu("compare", file, "--out", tmp_path / "out").exit_code == 0
    file.write_text(file.read_text() + "[protocol]\nfilter_seen = false\n")
    refused = tongtu("compare", file, "--out", tmp_path / "out")
    assert refused.exit_code == 2 and "choose another --out" in refused.stderr and len(refused.stderr.strip().splitlines()) == 1


def test_mistakes_get_one_line(tongtu: Run, world: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("name = \n")
    for arguments in (("compare", tmp_path / "bad.toml", "--out", tmp_path / "o"), ("compare", tmp_path / "none.toml", "--out", tmp_path / "o")):
        result = tongtu(*arguments)
        assert result.exit_code == 2 and len(result.stderr.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def wishes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "wishes"
    save_dataset(wish_world(users=150, items=60, length=8).data, path)
    return path


def test_wishes_from_fit_to_report(tongtu: Run, wishes: Path, tmp_path: Path) -> None:
    """Fitted, given candidates, evaluated and compared under a protocol with wishes: who hears them is far ahead."""
    asked = ("--data", wishes, "--protocol", "specific-wishes")
    ndcg = {}
    for name, settings in (("popular", ()), ("filtered", ("--set", "retriever=popular"))):
        assert tongtu("fit", name, *asked, "--out", tmp_path / name, *settings).exit_code == 0
        result = tongtu("evaluate", tmp_path / name, *asked, "--json", tmp_path / f"{name}.json")
        assert result.exit_code == 0 and result.stdout.startswith("specific-wishes, 150 cases") and "warning" not in result.stderr
        assert ("Popular does not hear wishes" in result.stderr) is (name == "popular")
        ndcg[name] = json.loads((tmp_path / f"{name}.json").read_text())["metrics"]["ndcg@10"]
    assert ndcg["filtered"] > 2 * ndcg["popular"]
    drawn = ("--source", "filtered-5", "--source", "uniform-5", "--without-target", "--users", 500)
    assert tongtu("candidates", *asked, *drawn, "--out", tmp_path / "lists.parquet").exit_code == 0
    file = tmp_path / "trial.toml"
    rule = f'{{name = "specific-wishes", candidates = "{tmp_path / "lists.parquet"}"}}'
    systems = '{name = "popular"}, {name = "filtered", settings = {retriever = "popular"}}, {name = "bm25", settings = {asks = "wish"}}'
    file.write_text(f'name = "trial"\ndata = "{wishes}"\nprotocol = {rule}\nsystems = [{systems}]\n')
    compared = tongtu("compare", file, "--out", tmp_path / "out")
    assert compared.exit_code == 0, compared.stderr
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert record["protocol"]["wish"] == "specific" and "specific-wishes" in (tmp_path / "out" / "report.html").read_text()
    found = {row["system"]: row["metrics"]["recall@5"] for row in record["systems"]}
    assert len(found) == 3 and found["filtered"] > 1.3 * found["popular"], found
