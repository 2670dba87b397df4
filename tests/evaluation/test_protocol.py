from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from follower import make_log

from tongtu.config import build, plain
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError, DataError
from tongtu.evaluation.protocol import PROTOCOLS, EvalProtocol, protocol_from

OTHER = {
    "name": "another",
    "scheme": "cold_users",
    "valid": 0.7,
    "test": 0.95,
    "targets": "every",
    "fraction": 0.3,
    "shots": 2,
    "new_items": 0.2,
    "train_users": 0.5,
    "users": 9,
    "candidates": "uniform-100",
    "cutoffs": (5, 10),
    "filter_seen": False,
    "seed": 1,
}


def test_every_field_changes_the_fingerprint(log: Dataset) -> None:
    fields = {field.name for field in dataclasses.fields(EvalProtocol)} - {"ties"}  # there is one way to treat ties
    assert fields == set(OTHER)
    prints = {build(EvalProtocol, {name: value}).fingerprint(log) for name, value in OTHER.items()} | {EvalProtocol().fingerprint(log)}
    assert len(prints) == len(OTHER) + 1


def test_the_data_changes_the_fingerprint_and_nothing_else_does(log: Dataset) -> None:
    assert EvalProtocol().fingerprint(log) == EvalProtocol().fingerprint(make_log())
    assert EvalProtocol().fingerprint(log) != EvalProtocol().fingerprint(make_log(seed=1))


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - {"mind"}))  # needs impressions, see test_impressions.py
def test_named_protocols_split(log: Dataset, name: str) -> None:
    split = PROTOCOLS[name].split(log)
    assert len(split.valid) and len(split.test) and split.train.n_events < log.n_events
    if PROTOCOLS[name].candidates:
        for request, target in zip(split.test.requests, split.test.target, strict=True):
            assert request.candidates is not None and target in request.candidates
            assert not set(request.candidates) & set(request.history)


def test_a_sample_of_users_is_asked_in_the_test_only(log: Dataset) -> None:
    whole, part = EvalProtocol().split(log), EvalProtocol(users=7).split(log)
    assert len(np.unique(part.test.user)) == 7 and len(part.valid) == len(whole.valid)
    assert part.train.fingerprint == whole.train.fingerprint
    assert not np.array_equal(part.test.user, EvalProtocol(users=7, seed=1).split(log).test.user)


@pytest.mark.parametrize("name", ["leave-one-out", "global-time", "cold-users"])
def test_without_test_adds_validation_and_no_test_event(log: Dataset, name: str) -> None:
    rule = PROTOCOLS[name]
    split, more = rule.split(log), rule.without_test(log)
    assert split.train.n_events < more.n_events < log.n_events
    for user, request, target in zip(split.test.user, split.test.requests, split.test.target, strict=True):
        learned = more.history(user)
        if name == "cold-users":
            assert not len(learned)
        else:
            assert np.array_equal(learned, request.history) and target not in learned[len(request.history) :]
    if name == "leave-one-out":
        assert more.n_events == split.train.n_events + len(split.valid)


def test_new_items_are_never_learned_but_stay_in_histories_and_targets(log: Dataset) -> None:
    rule = EvalProtocol(new_items=0.3)
    plain_split, split = EvalProtocol().split(log), rule.split(log)
    new = np.flatnonzero((plain_split.train.item_counts > 0) & (split.train.item_counts == 0))
    assert len(new) == round(0.3 * (plain_split.train.item_counts > 0).sum())
    assert np.array_equal(split.test.target, plain_split.test.target) and np.isin(split.test.target, new).any()
    assert any(np.isin(request.history, new).any() for request in split.test.requests)
    assert np.array_equal(split.train.item_counts[np.setdiff1d(np.arange(log.items.size), new)], np.delete(plain_split.train.item_counts, new))
    assert not np.isin(rule.without_test(log).item, new).any(), "nor when validation events are learned too"
    assert not np.array_equal(split.train.item_counts, EvalProtocol(new_items=0.3, seed=1).split(log).train.item_counts)
    with pytest.raises(DataError, match="choose one between 0 and 1"):
        EvalProtocol(new_items=1e-6).split(log)


def test_few_users_are_learned_from_and_validated_on_and_all_are_tested(log: Dataset) -> None:
    rule, whole = EvalProtocol(train_users=0.4), EvalProtocol().split(log)
    split, fewer = rule.split(log), EvalProtocol(train_users=0.2).split(log)
    kept = np.flatnonzero(split.train.lengths) + 1
    assert len(kept) == round(0.4 * len(log.users)) and set(split.valid.user) <= set(kept)
    assert np.array_equal(split.test.target, whole.test.target)
    assert all(np.array_equal(split.train.history(user), whole.train.history(user)) for user in kept)
    assert set(np.flatnonzero(fewer.train.lengths) + 1) < set(kept), "a smaller share is a part of a larger one"
    assert set(np.flatnonzero(rule.without_test(log).lengths) + 1) == set(kept)


def test_a_field_that_came_later_leaves_older_fingerprints_alone(log: Dataset) -> None:
    older = {name: value for name, value in plain(EvalProtocol()).items() if name not in ("new_items", "train_users")}
    assert EvalProtocol().fingerprint(log) == hashlib.sha256(json.dumps([older, log.fingerprint], sort_keys=True).encode()).hexdigest()


def test_from_a_name_or_a_table() -> None:
    assert protocol_from("global-time") is PROTOCOLS["global-time"]
    assert protocol_from({"name": "global-time", "seed": 3}) == dataclasses.replace(PROTOCOLS["global-time"], seed=3)
    assert build(EvalProtocol, plain(PROTOCOLS["bert4rec-popularity-100"])) == PROTOCOLS["bert4rec-popularity-100"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("leave-one", "leave-one-out"),
        ({"filter_sen": True}, "filter_seen"),
        ({"cutoffs": [10, 5]}, "rising"),
        ({"cutoffs": [5]}, "must contain 10"),
        ({"scheme": "random"}, "leave_one_out"),
    ],
)
def test_mistakes_name_their_remedy(values: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        protocol_from(values)  # type: ignore[arg-type]


def test_an_unknown_candidate_source_is_refused(log: Dataset) -> None:
    with pytest.raises(ConfigError, match="uniform-100"):
        EvalProtocol(candidates="hundred").split(log)
