"""P5 as a system: legal answers alone, words and masks as in training, ratings up to the highest, texts where they were learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from review_log import reviews
from tongtu.core import FitOptions, Request, RequestBatch
from tongtu.data.dataset import Dataset
from tongtu.data.splits import leave_one_out
from tongtu.data.synthetic import taste_world
from tongtu.decode.trie import Trie
from tongtu.errors import ConfigError, DataError, ModelError
from tongtu.systems import make
from tongtu.systems.tuned._p5_examples import Drawing
from tongtu.systems.tuned._p5_limits import allowed_items, most_popular
from tongtu.systems.tuned._p5_templates import templates
from tongtu.systems.tuned.p5 import P5
from tongtu.tuning.examples import TextExamples

SMALL: Mapping[str, Any] = {
    "index": {"kind": "random"},
    "drawing": {"scale": 0.4, "candidates": 4, "max_history": 4},
    "tuning": {"vocabulary": 500},
    "training": {"epochs": 1, "tokens": 2048},
}

FEW = {"items": 1, "choices": 0, "yes_no": 0, "max_history": 4}


def fitted(data: Dataset, **changes: Any) -> P5:
    system = make("p5", {**SMALL, **changes}).fit(data, FitOptions(quiet=True))
    assert isinstance(system, P5)
    return system


@cache
def small() -> P5:
    """A model of a log of reviews that has hardly learned; nobody may change it."""
    return fitted(reviews())


@cache
def reader() -> P5:
    """A model that has learned from ratings and reviews."""
    drawing = {"ratings": 1, "reviews": 3, "told": 0, "max_history": 1, "words": 12}
    training = {"epochs": 5, "tokens": 384, "learning_rate": 2e-3, "warmup_steps": 20}
    return fitted(reviews(), families=["rating", "explanation", "review"], drawing=drawing, training=training)


@pytest.mark.parametrize("kind", ["random", "collaborative", "title", "independent"])
def test_every_answer_is_an_item_that_may_be_answered(kind: str) -> None:
    split = leave_one_out(taste_world(users=40, items=40).data)
    system = fitted(split.train, index={"kind": kind, "clusters": 3, "most": 12}, families=["sequential"], drawing=FEW)
    requests = [*split.test.requests, *(dataclasses.replace(one, candidates=np.arange(1, 40, 3, dtype=np.int32)) for one in split.test.requests)]
    top = system.recommend(requests, 25)
    legal = allowed_items(RequestBatch.of(requests), system.items.size)
    for items, allowed in zip(top.items, legal, strict=True):
        told = items[items != 0]
        assert allowed[told].all() and len(np.unique(told)) == len(told) == min(25, allowed.sum())


def test_the_score_of_an_item_is_its_log_probability_as_the_answer() -> None:
    """The search, with its own caches, agrees with a plain pass over prompt and answer."""
    data = reviews()
    system = fitted(data, index={"kind": "collaborative", "clusters": 2, "most": 4}, beams=8)
    request = Request(history=data.history(1)[:3], exclude_seen=False, user=1)
    top = system.recommend([request], 8)
    likely = system.net.log_likelihood([system._question(request)], [system.index.texts])[0]
    np.testing.assert_allclose(top.scores[0], likely[top.items[0] - 1], atol=1e-4)
    assert sorted(top.items[0]) == list(range(1, 9)) and (np.diff(top.scores[0]) <= 0).all()


def test_pieces_of_one_item_are_one_word() -> None:
    system = fitted(reviews(), index={"kind": "collaborative", "clusters": 2, "most": 4})
    prompt = system._question(Request(history=np.array([1, 2], np.int32)))
    (tokens,) = system.net.wording.prompts([prompt])
    names = system.net.tokenizer.convert_ids_to_tokens(tokens)
    word = system.net.wording.words(np.array(tokens), np.array([0, len(tokens)]))
    items = [at for at, name in enumerate(names) if name.startswith("<CI")]
    pieces = system.index.texts[0].count("<CI")
    assert pieces >= 2 and len(set(word[items[:pieces]])) == 1 and len(set(word[items])) == 2
    assert word[-1] == 0 and names[-1] == "</s>", "the end belongs to no word"
    assert word[0] == 1 and (np.diff(word[:-1]) >= 0).all()


def test_words_are_told_of_in_questions_as_in_training() -> None:
    """With other vectors of whole words the answers change, and change alike in a training batch and in a question."""
    data = reviews()
    system = fitted(data)
    request = Request(history=data.history(1)[:3])
    prompt, answer = system._question(request), system.index.texts[4]

    def both() -> tuple[float, float]:
        batch = TextExamples.of(system.net.wording, [(prompt, answer)]).batch(np.array([0]))
        with torch.no_grad():
            return -float(system.net.loss(batch)), float(system.net.log_likelihood([prompt], [[answer]])[0][0])

    before = both()
    assert system.net.word is not None
    with torch.no_grad():
        system.net.word.weight.add_(torch.randn(system.net.word.weight.shape, generator=torch.Generator().manual_seed(0)))
    after = both()
    assert before[0] == pytest.approx(before[1], abs=1e-4) and after[0] == pytest.approx(after[1], abs=1e-4)
    assert abs(after[0] - before[0]) > 1e-3


def test_an_answer_does_not_hang_on_its_neighbours_padding() -> None:
    data, system = reviews(), small()
    short, long = Request(history=data.history(1)[:1]), Request(history=data.history(2)[:4])
    alone, together = system.recommend([short], 5), system.recommend([long, short], 5)
    np.testing.assert_allclose(together.scores[1], alone.scores[0], atol=1e-4)
    np.testing.assert_array_equal(together.items[1], alone.items[0])


def test_items_whose_texts_look_alike_to_the_tokenizer_stay_different() -> None:
    titles = ["Oil", "oil", "Oil  ", "Ölçek 東", "Oil #2", "", "x" * 80, "x" * 81]
    data = dataclasses.replace(reviews(), item_text=pl.Series("text", titles))
    system = fitted(data, index={"kind": "title"})
    trie = Trie.of(system.net.tokens_of(system.index.texts), system.net.end)
    assert trie.n_items == 8
    top = system.recommend([Request(history=np.array([1], np.int32), exclude_seen=False)], 8)
    assert sorted(top.items[0]) == list(range(1, 9))


def test_without_a_known_item_popularity_answers_within_the_limits() -> None:
    data = leave_one_out(taste_world(users=40, items=40).data).train
    system = fitted(data, families=["sequential"], drawing=FEW)
    few = np.array([3, 9, 27], np.int32)
    top = system.recommend([Request(), Request(candidates=few), Request(history=np.zeros(2, np.int32)), Request(history=np.array([3], np.int32))], 5)
    best = np.argsort(-data.item_counts[1:], kind="stable")[:5] + 1
    np.testing.assert_array_equal(top.items[0], best)
    np.testing.assert_array_equal(top.items[2], best)
    assert set(top.items[1]) == {0, *few.tolist()}
    assert [bool(notes) for notes in top.notes] == [True, True, True, False] and "popularity" in top.notes[0]["reason"]


def test_only_users_of_the_training_part_are_called_by_number() -> None:
    data = reviews()
    cold = data.keep_events(data.event_user != 3)
    system = fitted(cold)
    history = data.history(1)[:2]
    asked = {user: system._question(Request(history=history, user=user)) for user in (None, 1, 3, 99)}
    assert "user_1" in asked[1]
    assert asked[None] == asked[3] == asked[99] and "someone" in asked[3]
    system.config = dataclasses.replace(system.config, drawing=Drawing(told=0))
    assert system._question(Request(history=history, user=1)) == asked[None], "nor is anybody where training never told"


def test_asking_in_unseen_words() -> None:
    data = reviews()
    seen, unseen = small(), P5(dataclasses.replace(small().config, template="unseen"))
    unseen.__dict__ |= {name: value for name, value in small().__dict__.items() if name != "config"}
    request = Request(history=data.history(1)[:2])
    assert seen._question(request) != unseen._question(request)
    assert (unseen.recommend([request], 3).items > 0).all()


def test_a_rating_is_the_mean_over_all_ratings_as_answers() -> None:
    data, system = reviews(), reader()
    assert system.stars == ("1.0", "2.0", "3.0", "4.0", "5.0")
    request = Request(history=data.history(1)[:1])
    template = templates("rating", "stars")[0]
    prompt = system._writing.question(template)(0, system._writing.written(request.history), system.index.texts[2])
    likely = system.net.log_likelihood([prompt], [system.stars])[0].astype(np.float64)
    chance = np.exp(likely) / np.exp(likely).sum()
    rated = system.rate([request, request], np.array([3, 4], np.int32))
    assert rated.dtype == np.float32 and rated[0] == pytest.approx(chance @ np.arange(1, 6), abs=1e-4)
    assert (rated >= 1).all() and (rated <= 5).all()


def test_five_stars_are_learned_and_told() -> None:
    data = reviews()
    happy = dataclasses.replace(data, event_fields=pl.DataFrame({"rating": np.where(data.event_user == 1, 1.0, 5.0)}))
    drawing, training = {"ratings": 6, "told": 0, "max_history": 1}, {"epochs": 2, "tokens": 384, "warmup_steps": 5}
    system = fitted(happy, families=["rating"], drawing=drawing, training=training)
    requests = [Request(history=data.history(user)[:1]) for user in range(2, 9)]
    assert (system.rate(requests, np.arange(1, 8, dtype=np.int32)) > 4).all()


def test_texts_are_written_where_they_were_learned(tmp_path: Path) -> None:
    system = reader()
    requests = [Request(history=np.array([1, 2], np.int32), candidates=np.array([3], np.int32)), Request(history=np.array([4], np.int32))]
    explained = system.write(requests, "explanation")
    headlines = system.write([Request(wish="What u1 wrote at e0 of Nine Wolves")], "headline")
    assert len(explained) == 2 and len(headlines) == 1 and headlines[0].startswith("headline")
    system.save_pretrained(tmp_path / "model")
    again = P5.from_pretrained(tmp_path / "model")
    assert again.write(requests, "explanation") == explained and again.families == system.families
    np.testing.assert_array_equal(again.rate(requests, np.array([1, 2], np.int32)), system.rate(requests, np.array([1, 2], np.int32)))
    with pytest.raises(ConfigError, match="poem"):
        system.write(requests, "poem")


def test_what_was_not_learned_is_refused() -> None:
    system = fitted(dataclasses.replace(reviews(), event_fields=pl.DataFrame()))
    assert system.families == ("sequential", "direct")
    request = Request(history=np.array([1], np.int32))
    for act in (lambda: system.rate([request], np.array([1], np.int32)), lambda: system.write([request], "explanation")):
        with pytest.raises(ModelError, match="has not learned"):
            act()
    single = reviews(events=1)
    with pytest.raises(DataError, match="two events"):
        fitted(single, families=["sequential", "direct"])


def test_popular_items_are_those_allowed() -> None:
    allowed = np.array([[False, True, True, False], [False, False, False, False]])
    top = most_popular(np.array([0, 2, 5, 9]), allowed, 5)
    assert top.items.tolist() == [[2, 1, 0, 0, 0], [0] * 5] and np.isneginf(top.scores[1]).all()
