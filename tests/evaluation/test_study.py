"""A study asks about last events only, judges by hand-worked numbers, and goes on after an interruption."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from review_log import TITLES, reviews
from tongtu.data.folder import save_dataset
from tongtu.errors import ConfigError, DataError, LanguageModelError, MissingExtra
from tongtu.evaluation.metrics import MISS
from tongtu.evaluation.study import Sample, Study, ask, facts, sample, study_from
from tongtu.evaluation.study_tables import cases_table, tables
from tongtu.evaluation.task_metrics import chance, ranks, ratings, texts
from tongtu.llm.cached import CachedModel
from tongtu.llm.model import Prompt
from tongtu.llm.scripted import ScriptedModel
from tongtu.systems.prompted.fivetasks import FiveTasks

Answer = Callable[[Prompt], str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "reviews"
    save_dataset(reviews(), path)
    return path


def study(data: Path, **values: Any) -> Study:
    return study_from({"name": "test", "data": str(data), "users": 6, "negatives": 2, "shots": [0, 2], **values}, FiveTasks.Config)


def run(study: Study, answer: Answer, drawn: Sample | None = None) -> tuple[dict[Any, list[dict[str, Any]]], pl.DataFrame]:
    drawn = drawn or sample(study)
    asked = ask(study, drawn, {"scripted": FiveTasks(model=ScriptedModel(answer))})
    return tables(study, drawn, asked), cases_table(drawn, asked)


def row(rows: list[dict[str, Any]], label: str, shots: int | None = None) -> dict[str, Any]:
    return next(one for one in rows if one["label"] == label and one["shots"] == shots)


def test_errors_of_ratings_by_hand() -> None:
    found = ratings(np.array([3.0, 5.0]), np.array([4.0, 3.0])).metrics()
    assert found == pytest.approx({"rmse": math.sqrt(2.5), "mae": 1.5})


def test_ranks_by_hand() -> None:
    found = ranks(np.array([1, 3, MISS, 10])).metrics()
    assert (found["hr@1"], found["hr@5"], found["hr@10"]) == (0.25, 0.5, 0.75)
    assert found["ndcg@10"] == pytest.approx((1 + 0.5 + 1 / math.log2(11)) / 4)


def test_chance_is_what_shuffling_gives() -> None:
    rng = np.random.default_rng(0)
    expected, measured = chance(np.array([20])).metrics(), ranks(rng.integers(1, 21, 200_000)).metrics()
    assert measured == pytest.approx(expected, abs=0.005) and expected["hr@1"] == 0.05


def test_likeness_of_texts_by_hand() -> None:
    found = texts(["The cat sat"], ["the cat sat on the mat"]).metrics()
    assert found["bleu-1"] == found["bleu-2"] == found["bleu-3"] == pytest.approx(100 / math.e) and found["bleu-4"] == 0
    assert found["rouge-1"] == found["rouge-l"] == pytest.approx(200 / 3) and found["rouge-2"] == pytest.approx(400 / 7)


def test_bleu_of_a_set_is_that_of_sacrebleu() -> None:
    from sacrebleu.metrics.bleu import BLEU

    written = ["a b c d e f", "x y z", "", "one two three four five"]
    references = ["a b c d f g h", "x z y", "nothing there", "one two three four five six"]
    found = texts(written, references).metrics()
    for order in range(1, 5):
        scorer = BLEU(tokenize="none", smooth_method="none", max_ngram_order=order)
        assert found[f"bleu-{order}"] == pytest.approx(scorer.corpus_score(written, [references]).score)


def test_nothing_written_is_worth_nothing_in_any_script() -> None:
    assert set(texts([""], ["好 电缆"]).metrics().values()) == {0.0}
    assert texts(["好 电缆"], ["好 电缆"]).metrics()["rouge-l"] == 100


def test_intervals_hold_the_figure_and_grow_with_the_spread() -> None:
    users = np.arange(40, dtype=np.int32)
    given = np.full(40, 3.0)
    narrow, wide = (ratings(given + scale * np.linspace(-1, 1, 40), given) for scale in (1, 3))
    for one in (narrow, wide):
        low, high = one.interval(users)["rmse"]
        assert low < one.metrics()["rmse"] < high
    assert np.diff(wide.interval(users)["rmse"]) > 2 * np.diff(narrow.interval(users)["rmse"])


def test_who_knows_the_answers_is_told_so(data: Path) -> None:
    """The model reads title and place from the prompt: the rating follows from the item, the next item from the last."""

    def knows(prompt: Prompt) -> str:
        text = prompt[-1].text
        titles = re.findall("|".join(map(re.escape, TITLES)), text)
        if "Write only the number" in text:
            return str((TITLES.index(titles[-1]) + 1) % 5 + 1)
        if "candidates" in text:
            return "\n".join(re.findall(r"^\[[A-Z]\]", text, re.MULTILINE))
        return TITLES[(TITLES.index(titles[-1]) + 1) % len(TITLES)]

    found, cases = run(study(data, tasks=["rating", "sequential", "direct"]), knows)
    assert row(found["rating"], "scripted", 0)["metrics"] == {"rmse": 0, "mae": 0} and row(found["rating"], "global mean")["metrics"]["rmse"] > 0.5
    assert row(found["rating"], "item mean")["metrics"]["rmse"] == 0, "in this world the item decides"
    assert row(found["sequential"], "scripted", 2)["metrics"]["hr@1"] == 1
    assert row(found["direct"], "scripted", 0)["metrics"]["hr@5"] == 1
    assert cases.filter(pl.col("task") == "sequential")["rank"].to_list() == [1] * 12
    assert (cases.filter(pl.col("task") == "sequential")["value"] == cases.filter(pl.col("task") == "sequential")["item"]).all()


def test_what_cannot_be_read_counts(data: Path) -> None:
    found, cases = run(study(data), lambda prompt: "...")
    rating = found["rating"]
    assert row(rating, "scripted", 0)["metrics"] == row(rating, "global mean")["metrics"] and row(rating, "scripted", 0)["parsed"] == 0
    for task in ("sequential", "direct"):
        assert row(found[task], "scripted", 0)["metrics"]["hr@10"] == 0 and row(found[task], "scripted", 0)["cases"] == 6
    assert row(found["summary"], "scripted", 2)["metrics"]["rouge-1"] == 0
    assert cases.height == 5 * 2 * 6 and cases["rank"].null_count() == cases.height


def test_only_last_events_are_asked_about_and_nobody_knows_them(data: Path) -> None:
    drawn = sample(study(data, texts="summaries"))
    assert {case.target.summary.split()[-1] for case in drawn.events} == {"e4"} and len(drawn.events) == 6
    assert not drawn.train.item_text.str.contains("e4").any() and drawn.train.item_text.str.contains("headline").all()
    assert all(case.target.item not in case.seen and case.candidates is not None and case.target.item in case.candidates for case in drawn.events)
    assert not any(np.isin(case.candidates, case.seen).any() for case in drawn.events)
    assert "made from training summaries" in facts(study(data), drawn, FiveTasks(model=ScriptedModel(lambda prompt: "")).versions)["data"]["texts"]


def test_the_seed_decides_who_is_asked_and_nothing_else_does(data: Path) -> None:
    again = [run(study(data), lambda prompt: prompt[-1].text[-40:]) for _ in range(2)]
    assert again[0][0] == again[1][0] and again[0][1].equals(again[1][1])
    users = {tuple(case.user for case in sample(study(data, seed=seed)).events) for seed in range(4)}
    assert len(users) > 1
    places = [int(np.flatnonzero(case.candidates == case.target.item)[0]) for seed in range(4) for case in sample(study(data, seed=seed)).events]
    assert len(set(places)) == 3


def test_costs_are_those_of_the_answers(data: Path) -> None:
    wanted = study(data, tasks="summary", price={"read": 1e6, "written": 2e6})
    found = row(run(wanted, lambda prompt: "two words")[0]["summary"], "scripted", 0)
    assert found["completion_tokens"] == 12 and found["calls"] == 6 and found["price"] == found["prompt_tokens"] + 24


def test_a_study_that_was_cut_off_goes_on(data: Path, tmp_path: Path) -> None:
    wanted = study(data, tasks=["rating", "summary"], shots=0)
    drawn = sample(wanted)

    def fails(prompt: Prompt) -> str:
        if "headline" in prompt[-1].text:
            raise LanguageModelError("the server went away")
        return "4"

    first, second = ScriptedModel(fails), ScriptedModel(lambda prompt: "4")
    with pytest.raises(LanguageModelError, match="went away"):
        ask(wanted, drawn, {"one": FiveTasks(model=CachedModel(first, file=tmp_path / "answers"))})
    asked = ask(wanted, drawn, {"one": FiveTasks(model=CachedModel(second, file=tmp_path / "answers"))})
    assert len(second.asked) == 6 and all("headline" in prompt[-1].text for prompt in second.asked) and [len(one.answers) for one in asked] == [6, 6]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tasks": ["ratings"]}, "did you mean 'rating'"),
        ({"user": 5}, "did you mean 'users'"),
        ({"settings": {"itms": "films"}}, "did you mean 'items'"),
        ({"settings": {"llm": "unigram"}}, r"above \[settings\]"),
        ({"shots": [0, 0]}, "each once"),
        ({"shots": [-1]}, "no negative number"),
        ({"tasks": []}, "at least one"),
    ],
)
def test_mistakes_in_the_file_are_told(data: Path, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        study(data, **values)


def test_data_that_lacks_what_is_needed_is_refused(tmp_path: Path) -> None:
    full = reviews()
    bare = type(full)(**(vars(full) | {"event_fields": full.event_fields.select("rating")}))
    save_dataset(bare, tmp_path / "bare")
    with pytest.raises(DataError, match="--field review"):
        sample(study(tmp_path / "bare"))
    with pytest.raises(DataError, match="--field summary"):
        sample(study(tmp_path / "bare", tasks=["rating"], texts="summaries"))
    save_dataset(reviews(titles=False), tmp_path / "untitled")
    with pytest.raises(DataError, match="no item texts"):
        sample(study(tmp_path / "untitled", tasks=["rating"]))


def test_a_missing_package_is_told_before_anybody_is_asked(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    assert sample(study(data, tasks=["rating"])).events
    with pytest.raises(MissingExtra, match=r"tongtu\[llm\]"):
        sample(study(data, tasks=["rating", "summary"]))
