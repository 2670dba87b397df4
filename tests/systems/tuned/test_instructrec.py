"""InstructRec learns taste and wishes, hears what it shall, and is swayed by no text that gives orders."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hostile import HOSTILE

from tongtu.config import build
from tongtu.core import FitOptions, Request, RequestBatch
from tongtu.data.splits import leave_one_out
from tongtu.data.synthetic import FIELDS, KINDS, taste_and_wish_world
from tongtu.errors import ConfigError, DataError
from tongtu.evaluation.protocol import EvalProtocol
from tongtu.hub import open_model
from tongtu.systems.baselines.popular import Popular
from tongtu.systems.tuned.instructrec import InstructRec, InstructRecConfig
from tongtu.testing import case_ndcg

WORLD = taste_and_wish_world(users=300, items=80)
SPLIT = EvalProtocol(wish="specific").split(WORLD.data)
KIND = {title: kind for kind, title in KINDS.items()}
SETTINGS: dict[str, Any] = {
    "retriever": "popular",
    "candidates": 80,
    "max_history": 2,
    "tuning": {"vocabulary": 500},
    "training": {"epochs": 5, "tokens": 1024, "learning_rate": 3e-3, "warmup_steps": 20, "schedule": "linear"},
    "shares": {"pointwise": 0, "pairwise": 0, "reranking": 0, "turned": 0, "reasoned": 0},
}
QUICK = SETTINGS | {"per_user": 1, "training": {"epochs": 1, "tokens": 2048}}
CODES = np.arange(1, 81, dtype=np.int32)


@cache
def learned() -> InstructRec:
    """Fitted once, and left as it is."""
    return InstructRec(build(InstructRecConfig, SETTINGS)).fit(SPLIT.train, FitOptions(quiet=True))


@cache
def small() -> InstructRec:
    """As little as can be."""
    return InstructRec(build(InstructRecConfig, QUICK)).fit(leave_one_out(taste_and_wish_world(users=40, items=80).data).train, FitOptions(quiet=True))


def asked_otherwise(system: InstructRec, **settings: Any) -> InstructRec:
    """The same system under other settings of asking."""
    other = InstructRec(dataclasses.replace(system.config, **settings))
    other.items, other.item_text, other.net, other.retriever = system.items, system.item_text, system.net, system.retriever
    other.provenance = system.provenance
    return other


def kinds_of(code: int) -> tuple[str, str]:
    field, kind = WORLD.data.item_fields["categories"][code - 1]
    return field, kind


def test_a_wish_pulls_its_own_item_up() -> None:
    """Learned from users of one event each, of whom wishes are all there is to tell: the one item that a wish names stands far above the middle of forty."""
    data = taste_and_wish_world(users=300, items=40).data
    last = np.zeros(data.n_events, np.bool_)
    last[data.offset[1:] - 1] = True
    quick = SETTINGS | {"per_user": 2, "training": SETTINGS["training"] | {"epochs": 5, "tokens": 384}}
    system = InstructRec(build(InstructRecConfig, quick)).fit(data.keep_events(last), FitOptions(quiet=True))
    wishes = [(field, kind) for field in FIELDS for kind in KINDS]
    found = system.recommend([Request(wish=", ".join(wish)) for wish in wishes], 40).items
    places = [[kinds_of(int(code)) for code in row].index(wish) + 1 for row, wish in zip(found, wishes, strict=True)]
    assert np.mean(places) < 12


@pytest.mark.slow
def test_history_wish_and_both() -> None:
    """A history tells the taste, a wish nearly the item, and each alone beats who hears neither."""
    test = SPLIT.test.take(np.arange(60))
    popular = case_ndcg(Popular().fit(SPLIT.train), test).mean()
    found = {}
    for hears in (("history",), ("wish",), ("history", "wish")):
        found[hears] = case_ndcg(asked_otherwise(learned(), hears=hears), test).mean()
    assert found["history",] > 2 * popular
    assert min(found["wish",], found["history", "wish"]) > 1.4 * found["history",]


@pytest.mark.slow
def test_wishes_turn_the_answer_their_way() -> None:
    """What the wish names comes first, also against a history of other tastes; one in forty items is what a wish names."""
    wishes = [(field, kind) for field in FIELDS for kind in KINDS]
    for history in (np.zeros(0, np.int32), np.array([2, 12], np.int32)):
        requests = [Request(wish=", ".join(wish), history=history, exclude_seen=False) for wish in wishes]
        best = learned().recommend(requests, 1).items[:, 0]
        assert np.mean([kinds_of(int(code)) == wish for code, wish in zip(best, wishes, strict=True)]) > 0.25


def test_the_senses_can_be_closed() -> None:
    history = SPLIT.train.history(1)
    plain, other, wish = Request(history=history), Request(history=SPLIT.train.history(9)), Request(history=history, wish="music, gifts")
    deaf = asked_otherwise(small(), hears=("history",))
    assert not deaf.hears_wishes and small().hears_wishes
    assert np.array_equal(deaf.recommend([plain], 20).scores, deaf.recommend([wish], 20).scores)
    forgetful = asked_otherwise(small(), hears=("wish",))
    same = dataclasses.replace(other, wish="music, gifts", candidates=CODES, exclude_seen=False)
    alike = forgetful.recommend([dataclasses.replace(wish, candidates=CODES, exclude_seen=False), same], 80)
    assert np.allclose(alike.scores[0], alike.scores[1], atol=1e-4)
    for closed, request in ((asked_otherwise(small(), hears=()), wish), (forgetful, plain)):
        assert np.array_equal(closed.recommend([request], 20).items, small().retriever.recommend([request], 20).items), "the retriever's order"


def test_whatever_it_hears_it_is_the_same_model(tmp_path: Path) -> None:
    data = leave_one_out(taste_and_wish_world(users=40, items=80).data).train
    both, deaf = (
        InstructRec(build(InstructRecConfig, QUICK | {"models": str(tmp_path)} | more)).fit(data, FitOptions(quiet=True))
        for more in ({}, {"hears": ["history"]})
    )
    alone = small()
    assert deaf.provenance["taken_from"] == both.provenance["taken_from"] and len(list(tmp_path.iterdir())) == 1
    assert both.hears_wishes and not deaf.hears_wishes
    asked = [Request(history=CODES[:2], wish="calm"), Request(history=CODES[4:6], wish="loud")]
    assert np.array_equal(both.recommend(asked, 5).items, alone.recommend(asked, 5).items)
    assert np.array_equal(deaf.recommend(asked, 5).items, asked_otherwise(alone, hears=("history",)).recommend(asked, 5).items)
    other = InstructRec(build(InstructRecConfig, QUICK | {"models": str(tmp_path)})).fit(data, FitOptions(quiet=True, seed=1))
    assert other.provenance["taken_from"] != both.provenance["taken_from"], "another seed gives another model"


def test_who_tells_nothing_gets_the_retrievers_order() -> None:
    for request in (Request(), Request(wish="  "), Request(history=np.zeros(3, np.int32))):
        found = small().recommend([request], 20)
        assert np.array_equal(found.items, small().retriever.recommend([request], 20).items)
        assert found.notes[0]["prompt_tokens"] == 0


def test_what_follows_the_candidates_stands_in_the_retrievers_order() -> None:
    few = asked_otherwise(small(), candidates=5)
    request = Request(history=SPLIT.train.history(1))
    expected = few.retriever.recommend([request], 20).items[0]
    listed = few.recommend([request], 20).items[0]
    assert set(listed[:5]) == set(expected[:5]) and np.array_equal(listed[5:], expected[5:])


@pytest.mark.parametrize("settings", [{"likelihood": "mean"}, {"likelihood": "calibrated"}, {"shown": True}])
def test_other_ways_to_rank(settings: dict[str, Any]) -> None:
    """Each gives a full list, the same one twice, with tokens counted; candidates shown in the prompt make it longer."""
    requests = [Request(history=SPLIT.train.history(user), wish="art, gifts") for user in (1, 2)]
    system = asked_otherwise(small(), **settings)
    usual, other, again = small().recommend(requests, 30), system.recommend(requests, 30), system.recommend(requests, 30)
    assert np.array_equal(other.items, again.items) and np.isfinite(other.scores).all()
    assert not np.allclose(usual.scores, other.scores)
    longer = [a["prompt_tokens"] > b["prompt_tokens"] for a, b in zip(other.notes, usual.notes, strict=True)]
    assert all(longer) == settings.get("shown", False)


def test_likelihood_is_that_of_the_title() -> None:
    """The score of an item is the network's log-likelihood of its title behind the prompt."""
    history = SPLIT.train.history(1)[-2:]
    found = small().recommend([Request(history=history, candidates=CODES[:6], exclude_seen=False)], 6)
    titles = [small().item_text[int(code) - 1] for code in found.items[0]]
    told = ", ".join(f'"{small().item_text[int(code) - 1]}"' for code in history)
    (expected,) = small().net.log_likelihood([f"So far I have chosen, the newest last: {told}. Which item comes next?"], [titles])
    assert found.scores[0] == pytest.approx(expected, rel=1e-4)


def test_a_folder_brings_the_model_back(tmp_path: Path) -> None:
    request = Request(history=SPLIT.train.history(1), wish="art, gifts")
    small().save_pretrained(tmp_path / "model")
    opened = open_model(tmp_path / "model")
    assert isinstance(opened, InstructRec) and opened.hears_wishes
    assert np.array_equal(opened.recommend([request], 20).scores, small().recommend([request], 20).scores)


@pytest.mark.parametrize("wish", HOSTILE)
def test_a_hostile_wish_is_a_wish_like_any_other(wish: str) -> None:
    """It is told as one quoted string, is answered, and leaves the other requests alone."""
    request = Request(history=SPLIT.train.history(1))
    prompt = small()._prompt(small()._heard(dataclasses.replace(request, wish=wish)), [])
    assert prompt.isprintable() and "<|" not in prompt and "[A]" not in prompt
    assert prompt.startswith("So far I have chosen") and prompt.endswith("Which item comes next?")
    found = small().recommend([dataclasses.replace(request, wish=wish), request], 10)
    assert len(np.unique(found.items[0])) == 10 and np.isfinite(found.scores[0]).all()
    assert np.array_equal(found.items[1], small().recommend([request], 10).items[0])


def test_hostile_titles_win_nothing() -> None:
    """Of items that the log holds alike, those whose titles give orders do not come before those whose titles do not."""
    world = taste_and_wish_world(users=60, items=120)
    short = [title for title in HOSTILE if len(title) < 100]
    titles = [short[number // 2] if number % 2 == 0 and number // 2 < len(short) else f"plain title {number}" for number in range(120)]
    data = dataclasses.replace(world.data, item_fields=pl.DataFrame({"title": titles}), item_text=pl.Series("text", titles))
    system = InstructRec(build(InstructRecConfig, QUICK | {"candidates": 120, "likelihood": "mean"})).fit(data, FitOptions(quiet=True))
    first = system.recommend([Request(history=data.history(user), exclude_seen=False) for user in range(1, 31)], 10).items
    hostile = np.array([title in short for title in titles])[first - 1]
    assert hostile.mean() < 0.8, "against a base rate of one in two"
    everything = RequestBatch.of([Request(history=CODES[:20])])
    assert len(np.unique(system.recommend(everything, 100).items)) == 100


def test_a_teacher_is_asked_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGTU_CACHE", str(tmp_path))
    data = leave_one_out(taste_and_wish_world(users=40, items=80).data).train
    system = InstructRec(build(InstructRecConfig, QUICK | {"teacher": "unigram", "teacher_users": 10})).fit(data, FitOptions(quiet=True))
    assert set(system.provenance["taught"]) == {"tastes", "wishes"} and (tmp_path / "answers.sqlite").is_file()


def test_mistakes_are_told() -> None:
    data = dataclasses.replace(WORLD.data, item_text=pl.Series("text", [""] * 80), item_fields=pl.DataFrame())
    with pytest.raises(DataError, match="no item has a title"):
        InstructRec(build(InstructRecConfig, QUICK)).fit(data, FitOptions(quiet=True))
    with pytest.raises(ConfigError, match="at least one share"):
        build(InstructRecConfig, {"shares": dict.fromkeys(("pointwise", "pairwise", "matching", "reranking", "turned", "reasoned"), 0)})
    with pytest.raises(ConfigError, match="unknown key 'share'"):
        build(InstructRecConfig, {"share": 1})
