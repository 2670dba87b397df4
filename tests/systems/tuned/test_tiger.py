"""TIGER as a system: legal answers alone, items and not ids, new items without a refit, order by text where it is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tongtu.core import Extends, FitOptions, Request, RequestBatch
from tongtu.data.dataset import Dataset
from tongtu.data.splits import Split, leave_one_out
from tongtu.data.synthetic import GROUP_WORDS, taste_world, text_world
from tongtu.errors import DataError, ModelError
from tongtu.systems import make
from tongtu.systems.tuned._p5_limits import allowed_items
from tongtu.systems.tuned.tiger import TIGER
from tongtu.testing import check_recommender

SMALL: Mapping[str, Any] = {
    "vectors": "hashing",
    "ids": {"levels": 2, "size": 16},
    **{"max_length": 8, "width": 16, "heads": 2, "head_width": 8, "encoder_layers": 1, "decoder_layers": 1, "inner": 32},
    "training": {"epochs": 1, "tokens": 512, "learning_rate": 5e-3},
}
OTHER: Mapping[str, Any] = {"encoder": "bidirectional", "read": "items", "users": 20, "dense": {}}


def fitted(data: Dataset, **changes: Any) -> TIGER:
    system = make("tiger", {**SMALL, **changes}).fit(data, FitOptions(quiet=True))
    assert isinstance(system, TIGER)
    return system


@cache
def split() -> Split:
    return leave_one_out(taste_world(users=60, items=40).data)


@cache
def small() -> TIGER:
    """A model that has hardly learned; nobody may change it."""
    return fitted(split().train)


@cache
def text_reader(dense: bool) -> TIGER:
    """A model of a world in which texts tell what comes next, and what comes next is always new."""
    ids = {"levels": 1, "size": 16, "repair": "extra" if dense else "none"}
    changes = {"ids": ids, "training": {"epochs": 8, "tokens": 64, "learning_rate": 5e-3, "warmup_steps": 10}}
    return fitted(leave_one_out(text_world(users=200).data).train, **changes, **({"dense": {}} if dense else {}))


UNREPAIRED, BALANCED = ({"levels": 2, "size": size, "repair": repair} for size, repair in ((3, "none"), (16, "balanced")))

ALIGNED = {"kind": "rqvae", "levels": 2, "size": 8, "rqvae": {"align": 0.1, "epochs": 3, "hidden": [16], "latent": 8, "batch": 16}}


@pytest.mark.parametrize("changes", [{}, {"dense": {}}, {"ids": UNREPAIRED}, {"ids": BALANCED}, {"ids": ALIGNED}])
def test_every_list_is_full_legal_and_without_repetitions(changes: Mapping[str, Any]) -> None:
    system = fitted(split().train, **changes)
    requests = [*split().test.requests[:20], *(dataclasses.replace(one, candidates=np.arange(1, 40, 3, dtype=np.int32)) for one in split().test.requests[:20])]
    top = system.recommend(requests, 25)
    for items, allowed in zip(top.items, allowed_items(RequestBatch.of(requests), system.items.size), strict=True):
        told = items[items != 0]
        assert allowed[told].all() and len(np.unique(told)) == len(told) == min(25, allowed.sum())


def test_the_other_kind_of_network_keeps_the_contract() -> None:
    check_recommender(lambda: make("tiger", {**SMALL, **OTHER}))


def test_items_that_share_an_id_stand_side_by_side() -> None:
    """What counts as a hit is the item: nobody is given credit for another item of the same id."""
    system = fitted(split().train, ids={"levels": 1, "size": 4, "repair": "none"})
    request = Request(history=np.array([1, 2, 3], np.int32), exclude_seen=False)
    top = system.recommend([request], 40)
    ids = system.ids.codes[top.items[0], 0]
    assert sorted(top.items[0]) == list(range(1, 41)) and len(np.unique(ids)) <= 4 and (np.diff(ids) != 0).sum() == len(np.unique(ids)) - 1
    assert len(np.unique(top.scores[0])) == len(np.unique(ids))


def test_without_a_known_item_popularity_answers_and_says_so() -> None:
    system, counts = small(), split().train.item_counts
    top = system.recommend([Request(), Request(history=np.zeros(2, np.int32)), Request(history=np.array([3], np.int32))], 5)
    best = np.argsort(-counts[1:], kind="stable")[:5] + 1
    np.testing.assert_array_equal(top.items[:2], [best, best])
    assert [bool(notes) for notes in top.notes] == [True, True, False] and "popularity" in top.notes[0]["reason"]


def test_new_items_can_be_answered_and_old_ones_keep_their_scores(tmp_path: Path) -> None:
    system = small()
    assert isinstance(system, Extends)
    more = system.with_items(pl.DataFrame({"id": ["fresh", "another"], "text": ["jazz piano record", "a heavy spanner"]}))
    assert len(more.items) == 42 and len(system.items) == 40 and len(np.unique(more.ids.codes[1:], axis=0)) == 42
    request = Request(history=np.array([1, 2], np.int32), exclude_seen=False)
    before, after = system.recommend([request], 40), more.recommend([request], 42)
    assert sorted(after.items[0]) == list(range(1, 43))
    score = dict(zip(after.items[0].tolist(), after.scores[0].tolist(), strict=True))
    np.testing.assert_allclose([score[item] for item in before.items[0].tolist()], before.scores[0], atol=1e-4)
    more.save_pretrained(tmp_path / "model")
    again = TIGER.from_pretrained(tmp_path / "model").recommend([request], 42)
    np.testing.assert_array_equal(again.items, after.items)
    few = more.with_items(pl.DataFrame({"id": ["fresh"], "text": ["jazz piano record"]}), keep=False)
    assert few.recommend([Request(history=np.array([1], np.int32), exclude_seen=False)], 3).items.tolist() == [[1, 0, 0]]
    other = TIGER.from_pretrained(tmp_path / "model")
    other.reader = {**other.reader, "fingerprint": "another"}
    with pytest.raises(ModelError, match="fit the model again"):
        other.with_items(pl.DataFrame({"id": ["x"], "text": ["y"]}))


@pytest.mark.parametrize("dense", [False, True])
def test_what_nobody_has_met_becomes_reachable(dense: bool) -> None:
    """A new item whose words are those of what the user likes stands before one of other words: by the id it shares with like ones, or by its text."""
    system = text_reader(dense)
    texts = [f"{words[0]} {words[1]} {number}" for number, words in enumerate(GROUP_WORDS)]
    more = system.with_items(pl.DataFrame({"id": [f"new {number}" for number in range(len(texts))], "text": texts}))
    data = leave_one_out(text_world(users=200).data)
    group = text_world(users=200).group
    requests, wanted = data.test.requests, group[data.test.target] - 1
    new = np.arange(len(system.items) + 1, more.items.size)
    listed = more.recommend([dataclasses.replace(request, candidates=new.astype(np.int32)) for request in requests], len(new)).items
    rank = (listed - new[0] == wanted[:, None]).argmax(1)
    assert (rank <= 1).mean() > (0.7 if dense else 0.4), "by chance 0.2"


def test_with_as_many_beams_as_items_the_order_is_that_of_texts_alone() -> None:
    system = text_reader(True)
    few, every = ({"beams": beams} for beams in (20, 1_000))
    system_of = {}
    for name, beams in (("few", few), ("every", every)):
        one = TIGER(dataclasses.replace(system.config, **beams))
        one.__dict__ |= {key: value for key, value in system.__dict__.items() if key != "config"}
        system_of[name] = one
    requests = leave_one_out(text_world(users=200).data).test.requests[:10]
    lists = {name: one.recommend(requests, 200) for name, one in system_of.items()}
    assert (lists["every"].items[:, :190] > 0).all()
    new = system.counts == 0
    new[0] = False
    short = system_of["few"].recommend(requests, 10)
    assert (np.diff(short.scores, axis=1) <= 0).all()
    for items, scores, all_items, all_scores in zip(short.items, short.scores, lists["every"].items, lists["every"].scores, strict=True):
        full = dict(zip(all_items.tolist(), all_scores.tolist(), strict=True))
        np.testing.assert_allclose(scores, [full[item] for item in items.tolist()], atol=1e-4)
        assert new[items].sum() >= new[all_items[:10]].sum(), "every new item is in the running, whatever its id"


def test_only_users_of_the_training_part_are_told_to_the_network() -> None:
    cold = split().train.keep_events(split().train.event_user != 3)
    system = fitted(cold, users=500)
    history = split().train.history(1)[:3]
    known, cold_one, foreign, nobody = system.recommend([Request(history=history, user=user) for user in (1, 3, 9_999, None)], 10).scores
    np.testing.assert_array_equal(cold_one, nobody)
    np.testing.assert_array_equal(foreign, nobody)
    assert not np.allclose(known, nobody, atol=1e-5)


def test_without_texts_there_are_no_ids() -> None:
    silent = dataclasses.replace(split().train, item_text=pl.Series("text", [""] * 40))
    with pytest.raises(DataError, match="no item has a text"):
        fitted(silent)
