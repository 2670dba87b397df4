"""Chat-REC's one turn: what the model is told, what its answer decides, and what hostile titles cannot do."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hostile import HOSTILE

from tongtu import hub
from tongtu.core import FitOptions, Rater, Request
from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import attribute_world
from tongtu.errors import DataError, LanguageModelError
from tongtu.llm.cached import CachedModel
from tongtu.llm.model import Prompt
from tongtu.llm.scripted import ScriptedModel
from tongtu.systems.baselines.popular import Popular
from tongtu.systems.prompted.chatrec import ChatREC, ChatRECConfig

LINE = re.compile(r'^\[(\w+)\] "(.*)"', re.MULTILINE)
N, TOP = 8, 3


def data(**changes: Any) -> Dataset:
    world = attribute_world(users=60, items=30, length=9, seed=1).data
    ratings = pl.DataFrame({"rating": 1 + np.arange(world.n_events, dtype=np.float32) % 5})
    return dataclasses.replace(world, event_fields=ratings, **changes)


def chatrec(model: ScriptedModel, tmp_path: Path, log: Dataset | None = None, **settings: Any) -> ChatREC:
    config = ChatRECConfig(**{"answer": "list", "candidates": N, "top": TOP, "llm": "scripted", "retries": 0} | settings)
    return ChatREC(config, CachedModel(model, file=tmp_path / "answers.sqlite")).fit(log or data(), FitOptions(quiet=True))


def answering(answer: Callable[[str], str]) -> ScriptedModel:
    return ScriptedModel(lambda prompt: answer(prompt[-1].text))


def popular(log: Dataset, request: Request, k: int = 30) -> list[int]:
    row = Popular().fit(log).recommend([request], k).items[0]
    return [int(code) for code in row if code]


def test_labels_decide_the_first_places_and_the_recommender_the_rest(tmp_path: Path) -> None:
    log = data()
    request = Request(history=log.history(1))
    order = popular(log, request)
    system = chatrec(answering(lambda text: "[C]\n[A]\n[F]\n[B]\n[nobody]"), tmp_path, log)
    top = system.recommend([request], 30)
    first = [order[2], order[0], order[5]]
    assert top.items[0][top.items[0] != 0].tolist() == [*first, *(code for code in order if code not in first)]
    assert top.notes[0]["unnamed"] == N - 4 and top.notes[0]["outside"] == 1


def test_a_title_without_its_label_counts_for_nothing(tmp_path: Path) -> None:
    log = data()
    order = popular(log, Request())
    system = chatrec(answering(lambda text: "\n".join(title for _, title in reversed(LINE.findall(text)))), tmp_path, log)
    assert system.recommend([Request()], N).items[0].tolist() == order[:N]


def test_the_prompt_tells_profile_history_ratings_and_wish(tmp_path: Path) -> None:
    model = answering(lambda text: "[A]")
    system = chatrec(model, tmp_path)
    history = np.array([4, 7], np.int32)
    attributes = {"club": "jazz", "age": "33"}
    ratings = np.array([5, np.nan], np.float32)
    system.recommend([Request(history=history, ratings=ratings, attributes=attributes, forget=frozenset({"age"}), wish="loud\nones")], 5)
    text = model.asked[-1][-1].text
    assert '"club" is "jazz"' in text and "33" not in text and '"age"' not in text
    assert re.search(r'1\. "[^"\n]+" which I rated 5\n2\. "[^"\n]+"\n', text) and 'I ask for this: "loud ones"' in text
    assert len(LINE.findall(text)) == N


def test_ablations_of_the_order(tmp_path: Path) -> None:
    log = data()
    order = popular(log, Request())
    titles = [log.item_text[code - 1] for code in order[:N]]
    seen: dict[str, list[str]] = {}
    for name, settings in {"plain": {}, "shuffled": {"order": "shuffled"}, "dropped": {"drop_first": True}}.items():
        model = answering(lambda text: "[A]")
        top = chatrec(model, tmp_path / name, log, **settings).recommend([Request()], N).items[0].tolist()
        seen[name] = [title for _, title in LINE.findall(model.asked[-1][-1].text)]
        assert set(top) == set(order[:N])
        assert (top[-1] == order[0]) == (name == "dropped")
    assert seen["plain"] == titles and seen["dropped"] == titles[1:]
    assert seen["shuffled"] != titles and sorted(seen["shuffled"]) == sorted(titles)


def test_a_failing_model_leaves_the_recommenders_order(tmp_path: Path) -> None:
    def fail(text: str) -> str:
        raise LanguageModelError("it is gone: start it again")

    log = data()
    top = chatrec(answering(fail), tmp_path, log).recommend([Request(), Request(history=log.history(2))], 10)
    assert top.items[0].tolist() == popular(log, Request(), 10)
    assert [note["degraded"] for note in top.notes] == ["it is gone: start it again"] * 2
    with pytest.raises(LanguageModelError):
        chatrec(answering(fail), tmp_path, log, fallback=False).recommend([Request()], 5)


@pytest.mark.parametrize(
    ("text", "rating"),
    [("4/5", 4), ("I would say 3,5 stars", 3.5), ("On a scale from 1 to 5, I would say 4", 4), ("8 out of 10", 4), ("99", 5), ("no idea", 2), ("B2B", 2)],
)
def test_ratings_are_read_and_kept_within_the_scale(text: str, rating: float, tmp_path: Path) -> None:
    user = Request(history=np.array([4], np.int32), ratings=np.array([2], np.float32))
    assert chatrec(answering(lambda prompt: text), tmp_path).rate([user], np.array([3], np.int32)) == [rating]


def test_rates_by_the_model_else_by_the_users_mean(tmp_path: Path) -> None:
    log = data()
    model = answering(lambda text: "4.5" if 'film "' not in text and 'number 3"' in text.splitlines()[-1] else "hm")
    system = chatrec(model, tmp_path, log, temperature=0.7)
    assert isinstance(system, Rater) and system.scale is not None
    request = Request(history=np.array([4, 7], np.int32), ratings=np.array([2, 3], np.float32))
    found = system.rate([request, request, Request()], np.array([3, 5, 5], np.int32))
    np.testing.assert_allclose(found, [4.5, 2.5, system.scale[2]], rtol=1e-6)
    assert "from 1 (worst) to 5 (best)" in model.asked[-1][-1].text
    with pytest.raises(DataError, match="no ratings"):
        chatrec(model, tmp_path, dataclasses.replace(log, event_fields=pl.DataFrame())).rate([request], np.array([3], np.int32))


def test_scale_and_recommender_come_back_from_the_folder(tmp_path: Path) -> None:
    system = ChatREC(ChatRECConfig(llm="unigram", retriever="itemknn")).fit(data(), FitOptions(quiet=True))
    system.save_pretrained(tmp_path / "model")
    opened = hub.open_model(tmp_path / "model")
    assert isinstance(opened, ChatREC) and opened.scale == system.scale and type(opened.retriever).__name__ == "ItemKNN"


def drawn(prompt: Prompt) -> str:
    """An order of the candidates that depends on each one's own title, and repeats whole lines, titles and all."""
    lines = [found[0] for found in LINE.finditer(prompt[-1].text)]
    return "\n".join(sorted(lines, key=lambda line: hashlib.sha256(line.encode()).hexdigest()))


@pytest.mark.parametrize("title", HOSTILE)
@pytest.mark.parametrize("place", ["candidate", "history"])
def test_a_hostile_title_changes_nothing_but_its_own_line(title: str, place: str, tmp_path: Path) -> None:
    plain = data()
    request = Request(history=plain.history(1)[:3])
    code = popular(plain, request)[4] if place == "candidate" else int(request.history[1])
    asked, ranked = [], []
    for text in ("A quiet film", title):
        log = dataclasses.replace(plain, item_text=plain.item_text.scatter(code - 1, text))
        model = ScriptedModel(drawn)
        items = chatrec(model, tmp_path, log, top=N, order="retriever").recommend([request], N).items[0].tolist()
        asked.append(model.asked[-1])
        ranked.append([one for one in items if one != code])
    assert ranked[0] == ranked[1]
    assert [message.role for message in asked[0]] == [message.role for message in asked[1]]
    before, after = (prompt[-1].text.split("\n") for prompt in asked)
    assert len(before) == len(after) == len(asked[1][-1].text.splitlines()) == len(asked[0][-1].text.splitlines())
    changed = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    assert len(changed) == 1 and all(re.fullmatch(r'(\[\w+\]|\d+\.) "(?:[^"\\]|\\.)*"', line) for line in changed[0])
