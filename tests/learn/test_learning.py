"""Every system that learns finds the rule of a world with a known answer, and beats Popular by far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

from tongtu.core import FitOptions, Request
from tongtu.data.splits import leave_one_out
from tongtu.data.synthetic import (
    GROUP_WORDS,
    SECTIONS,
    World,
    attribute_world,
    markov_world,
    taste_and_wish_world,
    taste_world,
    text_world,
    time_world,
    two_taste_world,
    wish_world,
)
from tongtu.data.wishes import WishKind
from tongtu.evaluation.protocol import EvalProtocol
from tongtu.systems import cards, make
from tongtu.systems.baselines.popular import Popular
from tongtu.testing import case_ndcg, check_learns


def network(epochs: int) -> Mapping[str, Any]:
    return {"width": 32, "max_length": 14, "blocks": 1, "training": {"epochs": epochs, "learning_rate": 5e-3}}


FACTORS = {"factors": 16}
QUERIES: Mapping[str, Any] = {
    "queries": 10,
    "max_history": 4,
    "tuning": {"model": "llama:tiny", "vocabulary": 500, "max_target": 12},
    "training": {"epochs": 3, "tokens": 1024, "learning_rate": 3e-3, "warmup_steps": 20, "schedule": "linear"},
}
INSTRUCTIONS: Mapping[str, Any] = {
    "retriever": "popular",
    "candidates": 80,
    "max_history": 2,
    "tuning": {"vocabulary": 500},
    "training": {"epochs": 5, "tokens": 1024, "learning_rate": 3e-3, "warmup_steps": 20, "schedule": "linear"},
    "shares": {"pointwise": 0, "pairwise": 0, "reranking": 0, "turned": 0, "reasoned": 0},
}
CODES: Mapping[str, Any] = {
    "vectors": "hashing",
    "ids": {"levels": 1, "size": 16},
    **{"max_length": 14, "width": 32, "heads": 2, "head_width": 16, "encoder_layers": 1, "decoder_layers": 1, "inner": 64},
    "training": {"epochs": 6, "tokens": 512, "learning_rate": 5e-3, "warmup_steps": 10},
}
WISHES: tuple[WishKind | None, ...] = (None, "vague", "specific")
PROMPTS = {"items": 3, "choices": 0, "yes_no": 0, "told": 0, "last": None, "max_history": 4, "separators": [" "]}
WORLDS: Mapping[str, tuple[Callable[..., World], Mapping[str, Any]]] = {
    "itemknn": (taste_world, {}),
    "ease": (taste_world, {"l2": 20.0}),
    "rules": (markov_world, {}),
    "grouppop": (attribute_world, {"shrink": 10}),
    "userknn": (taste_world, {"neighbours": 50}),
    "ppr": (attribute_world, {"pretraining": network(10), "training": {"epochs": 10, "learning_rate": 5e-3}}),
    "pfrec": (attribute_world, {"pretraining": network(20), "training": {"epochs": 1}}),
    "finetuning": (markov_world, {"pretraining": network(15), "training": {"epochs": 5, "learning_rate": 2e-3}}),
    "als": (taste_world, FACTORS),
    "bpr": (taste_world, FACTORS),
    "sasrec": (markov_world, network(20)),
    "bert4rec": (markov_world, network(30)),
    "hstu": (time_world, network(15)),
    "plmnr": (text_world, {"language_model": "words", "width": 32, "query": 32, "training": {"epochs": 8, "learning_rate": 5e-3}}),
    "bm25": (taste_world, {}),  # a word is in a text or not: it cannot tell the text world's new items apart
    "lasttitle": (taste_world, {}),
    "filtered": (taste_world, {"retriever_settings": {"l2": 20.0}}),
    "instructrec": (partial(taste_and_wish_world, users=300, items=80), INSTRUCTIONS),
    "textknn": (text_world, {"encoder": "hashing"}),
    "tiger": (taste_world, CODES),
    "unisrec": (text_world, {**network(10), "encoder": "hashing", "mode": "text"}),
    "llmrank": (text_world, {"llm": "unigram", "candidates": 200}),
    "chatrec": (text_world, {"llm": "unigram", "candidates": 200, "top": 10}),
    "gpt4rec": (partial(taste_world, users=300), QUERIES),
    "p5": (
        taste_world,
        {
            "index": {"clusters": 12, "most": 20},
            "families": ["sequential"],
            "drawing": PROMPTS,
            "tuning": {"vocabulary": 500},
            "training": {"epochs": 2, "tokens": 512, "learning_rate": 3e-3, "warmup_steps": 30},
        },
    ),
}
LONG = {"gpt4rec", "instructrec", "p5"}  # a language model from nothing takes half a minute for three worlds


def test_no_system_is_forgotten() -> None:
    assert set(cards()) - {"popular"} <= set(WORLDS)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in sorted(WORLDS)])
def test_beats_popular(name: str) -> None:
    world, settings = WORLDS[name]
    check_learns(partial(make, name, settings), lambda seed: world(seed=seed))


@pytest.mark.parametrize("name", ["gpt4rec", "p5"])
def test_a_tuned_language_model_beats_popular_on_one_world(name: str) -> None:
    make_world, settings = WORLDS[name]
    split = leave_one_out(make_world().data)
    ours, popular = (case_ndcg(system.fit(split.train, FitOptions(quiet=True)), split.test).mean() for system in (make(name, settings), Popular()))
    assert ours > 3 * popular


def test_hstu_learns_from_the_elapsed_time() -> None:
    """It does better than anybody can who knows the rule but not the time."""
    world = time_world()
    split = leave_one_out(world.data)
    system = make("hstu", {**network(40), "blocks": 2}).fit(split.train, FitOptions(quiet=True))
    assert world.blind_ndcg is not None
    assert world.blind_ndcg + 0.03 < case_ndcg(system, split.test).mean() < world.best_ndcg


def test_a_group_decides_at_least_eight_of_ten() -> None:
    """Of a user of whom only the attribute is known, against a base rate of one in ten."""
    world = attribute_world()
    system = Popular(Popular.Config(attribute="club")).fit(world.data)
    for group, words in enumerate(GROUP_WORDS, start=1):
        best = system.recommend([Request(attributes={"club": words[0]})], 10).items[0]
        assert (world.group[best] == group).mean() >= 0.8


def test_a_wish_decides_at_least_eight_of_ten() -> None:
    """Of a user who has met nothing but items of another group, against a base rate of one in ten."""
    world = text_world()
    system = make("chatrec", {"llm": "unigram", "candidates": 200, "top": 10}).fit(world.data, FitOptions(quiet=True))
    for group, words in enumerate(GROUP_WORDS, start=1):
        other = np.flatnonzero(world.group == group % len(GROUP_WORDS) + 1)[:1].astype(np.int32)
        requests = [Request(wish=" ".join(words)), Request(history=other, wish=f"I would like {' '.join(words)}, {words[0]} above all")]
        for best in system.recommend(requests, 10).items:
            assert (world.group[best] == group).mean() >= 0.8


def test_a_filter_by_the_wish_is_nearly_as_good_as_one_who_knows_the_rule() -> None:
    for seed in range(3):
        world = wish_world(seed=seed)
        cases = {wish: EvalProtocol(wish=wish).split(world.data).test for wish in WISHES}
        system = make("filtered", {"retriever": "popular"}).fit(leave_one_out(world.data).train, FitOptions(seed=seed, quiet=True))
        found = {wish: case_ndcg(system, test).mean() for wish, test in cases.items()}
        assert found["specific"] > 0.9 * world.best_ndcg and found["specific"] > 1.3 * found["vague"] > 1.3 * 1.3 * found[None], found


@pytest.mark.parametrize(("name", "settings", "least"), [("bm25", {}, 0.17), ("bm25", {"asks": "wish"}, 0.95), ("textknn", {"encoder": "hashing"}, 0.17)])
def test_searchers_answer_a_wish_in_the_words_of_the_texts(name: str, settings: Mapping[str, Any], least: float) -> None:
    """By the share of the first ten that are of the wished-for group, against a base rate of one in ten; ten events of history speak against the wish."""
    world = wish_world()
    split = EvalProtocol(wish="specific").split(world.data)
    system = make(name, settings).fit(split.train, FitOptions(quiet=True))
    wanted = world.group[split.test.target][:, None]
    asked = (split.test.requests, EvalProtocol().split(world.data).test.requests)
    heard, deaf = ((world.group[system.recommend(requests, 10).items] == wanted).mean() for requests in asked)
    assert heard > least and abs(deaf - 0.1) < 0.03


@pytest.mark.parametrize("make_world", [markov_world, taste_world, attribute_world, time_world, text_world, wish_world, two_taste_world])
def test_worlds_are_what_they_say(make_world: Callable[..., World]) -> None:
    world, again, other = make_world(), make_world(), make_world(seed=1)
    data = world.data
    assert data.fingerprint == again.data.fingerprint != other.data.fingerprint
    assert all(len(np.unique(data.history(user))) == len(data.history(user)) for user in range(1, data.users.size)), "no item twice"
    assert data.time is not None and all((np.diff(data.time[data.offset[u] : data.offset[u + 1]]) > 0).all() for u in range(len(data.users)))
    assert world.group[0] == 0 and all(GROUP_WORDS[g - 1][0] in text for g, text in zip(world.group[1:], data.item_text, strict=True))
    assert 0.25 < world.best_ndcg < 0.9
    split = leave_one_out(data)
    popular = case_ndcg(Popular().fit(split.train), split.test).mean()
    assert popular < 0.4 * world.best_ndcg


def test_new_items_of_the_text_world_are_new() -> None:
    world = text_world()
    split = leave_one_out(world.data)
    assert not np.isin(split.test.target, split.train.item).any()
    taste = world.group[world.data.item[world.data.offset[:-1]]]
    assert (world.group[split.test.target] == taste).mean() > 0.8, "against a base rate of 0.1"


def test_the_wish_of_the_wish_world_decides_and_the_history_does_not() -> None:
    world = wish_world()
    split = EvalProtocol(wish="specific").split(world.data)
    before = world.group[[request.history[-1] for request in split.test.requests]]
    assert abs((world.group[split.test.target] == before).mean() - 0.1) < 0.05, "as chance has it"
    wishes = split.test.requests.wish
    assert wishes is not None and len(set(wishes)) == len(GROUP_WORDS), "one for each group"
    assert all(wish and GROUP_WORDS[world.group[target] - 1][0] in wish for wish, target in zip(wishes, split.test.target, strict=True))
    assert world.blind_ndcg is not None and world.blind_ndcg < 0.4 * world.best_ndcg
    vague = [wish or "" for wish in EvalProtocol(wish="vague").split(world.data).test.requests.wish or ()]
    assert vague and all(any(section in wish for section in SECTIONS) for wish in vague)
    assert not any(words[0] in wish for words in GROUP_WORDS for wish in vague)
