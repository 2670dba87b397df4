"""Every system that learns finds the rule of a world with a known answer, and beats Popular by far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

from tongtu.core import FitOptions, Request
from tongtu.data.splits import leave_one_out
from tongtu.data.synthetic import GROUP_WORDS, World, attribute_world, markov_world, taste_world, text_world, time_world
from tongtu.systems import cards, make
from tongtu.systems.baselines.popular import Popular
from tongtu.testing import case_ndcg, check_learns


def network(epochs: int) -> Mapping[str, Any]:
    return {"width": 32, "max_length": 14, "blocks": 1, "training": {"epochs": epochs, "learning_rate": 5e-3}}


FACTORS = {"factors": 16}
WORLDS: Mapping[str, tuple[Callable[..., World], Mapping[str, Any]]] = {
    "itemknn": (taste_world, {}),
    "ease": (taste_world, {"l2": 20.0}),
    "rules": (markov_world, {}),
    "grouppop": (attribute_world, {"shrink": 10}),
    "userknn": (taste_world, {"neighbours": 50}),
    "ppr": (attribute_world, {"pretraining": network(10), "training": {"epochs": 10, "learning_rate": 5e-3}}),
    "tuning": (markov_world, {"pretraining": network(15), "training": {"epochs": 5, "learning_rate": 2e-3}}),
    "als": (taste_world, FACTORS),
    "bpr": (taste_world, FACTORS),
    "sasrec": (markov_world, network(20)),
    "bert4rec": (markov_world, network(30)),
    "hstu": (time_world, network(15)),
    "plmnr": (text_world, {"language_model": "words", "width": 32, "query": 32, "training": {"epochs": 8, "learning_rate": 5e-3}}),
    "bm25": (taste_world, {}),  # a word is in a text or not: it cannot tell the text world's new items apart
    "textknn": (text_world, {"encoder": "hashing"}),
    "unisrec": (text_world, {**network(10), "encoder": "hashing", "mode": "text"}),
    "llmrank": (text_world, {"llm": "unigram", "candidates": 200}),
    "chatrec": (text_world, {"llm": "unigram", "candidates": 200, "top": 10}),
}


def test_no_system_is_forgotten() -> None:
    assert set(cards()) - {"popular"} <= set(WORLDS)


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_beats_popular(name: str) -> None:
    world, settings = WORLDS[name]
    check_learns(partial(make, name, settings), lambda seed: world(seed=seed))


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


@pytest.mark.parametrize("make_world", [markov_world, taste_world, attribute_world, time_world, text_world])
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
