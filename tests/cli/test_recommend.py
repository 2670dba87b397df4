from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_server import chat_server

from tongtu import open_model
from tongtu.core import FitOptions
from tongtu.data.folder import save_dataset
from tongtu.data.synthetic import attribute_world
from tongtu.systems import make

Run = Callable[..., Any]


@pytest.fixture
def ids(model: Path) -> list[str]:
    found: list[str] = open_model(model).items.ids.to_list()
    return found


def test_shows_titles_best_first(tongtu: Run, model: Path, ids: list[str]) -> None:
    result = tongtu("recommend", model, "--history", ",".join(ids[:3]), "-k", 4)
    assert result.exit_code == 0 and "title" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert [row[0] for row in rows] == ["1", "2", "3", "4"]
    assert not {row[1] for row in rows} & set(ids[:3])


def test_json_is_what_the_model_answers(tongtu: Run, model: Path, ids: list[str]) -> None:
    result = tongtu("recommend", model, "--history", f"{ids[0]}, nobody knows, {ids[1]}", "-k", 3, "--json")
    answer = json.loads(result.stdout)
    recommender = open_model(model)
    from tongtu import Request

    expected = recommender.recommend([Request(history=recommender.items.encode(ids[:2]))], 3)
    assert [row["id"] for row in answer["items"]] == recommender.items.decode(expected.items[0])
    assert answer["skipped"] == ["nobody knows"] and all(row["text"] for row in answer["items"])


def test_unknown_items_are_named_and_skipped(tongtu: Run, model: Path) -> None:
    result = tongtu("recommend", model, "--history", "x1,x2")
    assert result.exit_code == 0 and "never saw them: x1, x2" in result.stderr


def test_more_than_the_catalogue_gives_the_catalogue(tongtu: Run, model: Path, ids: list[str]) -> None:
    result = tongtu("recommend", model, "--history", ids[0], "-k", 1000, "--json")
    assert len(json.loads(result.stdout)["items"]) == len(ids) - 1 and "fewer than -k 1,000" in result.stderr


def test_candidates_and_seen_items(tongtu: Run, model: Path, ids: list[str]) -> None:
    chosen = ",".join([*ids[:4], "unknown"])
    result = tongtu("recommend", model, "--history", ids[0], "--candidates", chosen, "--json")
    assert {row["id"] for row in json.loads(result.stdout)["items"]} == set(ids[1:4])
    result = tongtu("recommend", model, "--history", ids[0], "--candidates", chosen, "--include-seen", "--json")
    assert {row["id"] for row in json.loads(result.stdout)["items"]} == set(ids[:4])
    result = tongtu("recommend", model, "--history", ids[0], "--candidates", ids[0])
    assert result.exit_code == 0 and "nothing is left" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--candidates", "x,y"], "none of the candidates"), (["--attribute", "gender"], "--attribute gender=F")],
)
def test_mistakes_are_one_line(tongtu: Run, model: Path, arguments: list[str], said: str) -> None:
    result = tongtu("recommend", model, *arguments)
    assert result.exit_code == 2 and said in result.stderr and result.stderr.splitlines()[-1].startswith("error: ")


def test_a_new_user_is_answered_from_attributes(tongtu: Run, tmp_path: Path) -> None:
    world = attribute_world(users=300, items=60)
    save_dataset(world.data, tmp_path / "data")
    training = ("--set", "training.epochs=15", "--set", "training.learning_rate=0.005")
    small = ("--set", "width=16", "--set", "blocks=1", *training)
    assert tongtu("fit", "sasrec", "--data", tmp_path / "data", "--all-events", "--out", tmp_path / "base", *small).exit_code == 0
    base = f"base={tmp_path / 'base'}"
    result = tongtu("fit", "ppr", "--data", tmp_path / "data", "--all-events", "--out", tmp_path / "prompts", "--set", base, *training)
    assert result.exit_code == 0, result.stderr
    lists = {}
    for club in ("jazz", "chess"):
        result = tongtu("recommend", tmp_path / "prompts", "--attribute", f"club={club}", "-k", 6, "--json")
        lists[club] = [row["text"].split()[0] for row in json.loads(result.stdout)["items"]]
        assert lists[club].count(club) >= 4 and not result.stderr
    result = tongtu("recommend", tmp_path / "prompts", "--attribute", "clb=jazz", "--attribute", "club=golf")
    assert result.exit_code == 0 and "attribute clb (read are: club)" in result.stderr and "attribute club=golf" in result.stderr


def test_a_damaged_model_is_refused_by_name(tongtu: Run, model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    result = tongtu("recommend", copy)
    assert result.exit_code == 2 and result.stderr.startswith(f"error: {weights} is damaged") and result.stderr.count("\n") == 1
    assert tongtu("recommend", tmp_path / "nothing").exit_code == 2


def test_a_language_model_that_fails_is_told(tongtu: Run, tmp_path: Path) -> None:
    data = attribute_world(users=60, items=30, length=9, seed=1).data
    settings = {"llm": "openai:none@http://127.0.0.1:9/v1", "tries": 1, "answer": "list"}
    make("llmrank", settings).fit(data, FitOptions(quiet=True)).save_pretrained(tmp_path / "ranker")
    result = tongtu("recommend", tmp_path / "ranker", "-k", 3)
    assert result.exit_code == 0 and "degraded: openai:none" in result.stderr and result.stdout.count("\n") >= 3
    answer = json.loads(tongtu("recommend", tmp_path / "ranker", "-k", 3, "--json").stdout)
    assert len(answer["items"]) == 3 and "does not answer" in answer["notes"]["degraded"]
    save_dataset(data, tmp_path / "data")
    result = tongtu("evaluate", tmp_path / "ranker", "--data", tmp_path / "data", "--json", tmp_path / "found.json")
    assert "warning: 100% of the answers came without the language model" in result.stderr
    assert json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["answering"] == {"degraded": 1}


def test_a_language_model_that_says_nothing_is_told(tongtu: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGTU_CACHE", str(tmp_path / "cache"))
    data = attribute_world(users=60, items=30, length=9, seed=1).data
    with chat_server(lambda body: "I cannot rank them.") as server:
        make("llmrank", {"llm": f"openai:shy@{server.url}", "answer": "list"}).fit(data, FitOptions(quiet=True)).save_pretrained(tmp_path / "ranker")
        result = tongtu("recommend", tmp_path / "ranker", "-k", 3)
    assert result.exit_code == 0 and "named no candidate" in result.stderr


def test_a_wish_is_answered_and_a_deaf_model_says_so(tongtu: Run, model: Path, ids: list[str], tmp_path: Path) -> None:
    data = attribute_world(users=60, items=30, length=9, seed=1).data
    make("filtered", {"retriever": str(model)}).fit(data, FitOptions(quiet=True)).save_pretrained(tmp_path / "filtered")
    found = {}
    for folder in (model, tmp_path / "filtered"):
        told = tongtu("recommend", folder, "--history", ids[0], "--wish", " some espresso, please ", "-k", 4, "--json")
        found[folder] = json.loads(told.stdout)
        assert told.exit_code == 0 and found[folder]["wish"] == "some espresso, please"
        deaf = folder == model
        assert found[folder]["heard"] is not deaf
        assert (told.stderr.splitlines() == []) is not deaf and ("ItemKNN does not hear wishes" in told.stderr) is deaf
        assert f"--set retriever={model}" in told.stderr or not deaf
        silent = json.loads(tongtu("recommend", folder, "--history", ids[0], "-k", 4, "--json").stdout)
        assert (silent["items"] == found[folder]["items"]) is deaf and "wish" not in silent and "heard" not in silent
    assert all("espresso" in row["text"] for row in found[tmp_path / "filtered"]["items"][:3]) and found[tmp_path / "filtered"]["notes"] == {"categories": 1}
    alone = tongtu("recommend", tmp_path / "filtered", "--wish", "something for the kitchen")
    first = next(line for line in alone.stdout.splitlines() if line.split()[:1] == ["1"])
    assert alone.exit_code == 0 and alone.stderr == "" and ("espresso" in first or "sourdough" in first)
    unread = tongtu("recommend", tmp_path / "filtered", "--wish", "a quiet film for a rainy evening")
    assert unread.exit_code == 0 and "names no category of the catalogue" in unread.stderr and unread.stderr.count("\n") == 1
