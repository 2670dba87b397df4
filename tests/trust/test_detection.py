from __future__ import annotations

import dataclasses
import json
from functools import cache

import numpy as np
import polars as pl
import pytest

from tongtu.core import FitOptions
from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import markov_world
from tongtu.errors import ConfigError, DataError
from tongtu.systems import make
from tongtu.systems.baselines.als import ALS
from tongtu.trust.detection import Example, Found, ProfileDetector, judge, remove, sequence_suspicion
from tongtu.trust.profiles import NAMES, profile_statistics
from tongtu.vocab import Vocab

KINDS = ("random", "popular", "segment")
FAKES = 20


def attacked(kind: str, seed: int = 0, ratings: bool = False, noise: float = 0.2) -> Example:
    """Twenty fake users, each with fillers and one item that all of them share, behind 400 true ones."""
    log, rng = markov_world(users=400, items=100, noise=noise, seed=seed).data, np.random.default_rng(seed + 50)
    target = int(rng.choice(np.flatnonzero(log.item_counts[1:] < np.median(log.item_counts[1:])))) + 1
    chance = log.item_counts[1:].astype(float) ** {"random": 0, "popular": 2, "segment": 0}[kind]
    if kind == "segment":
        chance *= np.isin(np.arange(100), rng.choice(100, 15, replace=False))
    chance[target - 1] = 0
    profiles = [rng.choice(100, 9, replace=False, p=chance / chance.sum()) + 1 for _ in range(FAKES)]
    for profile in profiles:
        profile[rng.integers(1, 9)] = target
    item = np.concatenate([log.item, *profiles]).astype(np.int32)
    offset = np.concatenate([log.offset, log.n_events + 9 * np.arange(1, FAKES + 1)])
    users = Vocab([*log.users.ids.to_list(), *(f"fake-{i}" for i in range(FAKES))])
    data = Dataset("attacked", users, log.items, item, offset)
    if ratings:
        stars = np.where(item == target, 5, rng.integers(2, 5, len(item)))
        data = dataclasses.replace(data, event_fields=pl.DataFrame({"rating": stars}))
    return Example(kind, data, np.arange(400 + FAKES) >= 400)


@cache
def examples() -> tuple[Example, ...]:
    return tuple(attacked(kind, seed) for kind in KINDS for seed in range(2))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_attack_never_seen_is_found(kind: str) -> None:
    detector = ProfileDetector.learn(examples(), leave_out=kind)
    assert set(detector.kinds) == set(KINDS) - {kind}
    unseen = attacked(kind, seed=9)
    suspicion = detector.suspicion(unseen.data)
    assert suspicion.dtype == np.float32 and suspicion.shape == (420,)
    found = judge(unseen.data, suspicion, unseen.fake)
    assert found.auc > 0.9 and found.precision > 0.5 and (found.fakes, found.users) == (20, 420)
    assert detector.reasons(unseen.data, 410)


def test_a_copied_history_has_a_twin_whatever_was_learned() -> None:
    log = markov_world(users=400, items=100, length=14, noise=0.7).data
    whole = np.flatnonzero(log.lengths >= 10)[:FAKES]
    copies = [np.concatenate([log.history(user + 1)[:8], [7]]) for user in whole]
    item = np.concatenate([log.item, *copies]).astype(np.int32)
    users = Vocab([str(i) for i in range(400 + FAKES)])
    data = Dataset("copied", users, log.items, item, np.concatenate([log.offset, log.n_events + 9 * np.arange(1, FAKES + 1)]))
    fake = np.arange(400 + FAKES) >= 400
    assert judge(data, ProfileDetector.learn(examples()).suspicion(data), fake).auc > 0.9


def test_a_detector_comes_back_from_plain_values() -> None:
    detector = ProfileDetector.learn(examples())
    same = ProfileDetector.restore(json.loads(json.dumps(detector.facts())))
    data = examples()[0].data
    np.testing.assert_array_equal(same.suspicion(data), detector.suspicion(data))
    with pytest.raises(ConfigError, match="learn it again"):
        ProfileDetector.restore({**detector.facts(), "names": ["length"]})


def test_statistics_of_ratings_only_where_there_are_ratings() -> None:
    plain, rated = (profile_statistics(attacked("random", ratings=ratings).data) for ratings in (False, True))
    first = NAMES.index("rdma")
    assert not plain[:, first:].any() and rated[:, first:].any(axis=0).all()
    np.testing.assert_array_equal(plain[:, :first], rated[:, :first])


def test_deviation_from_mean_agreement_by_hand() -> None:
    """Two users rate item 1 with 1 and 5, and only the second rates item 2: RDMA is (2 / 2) / 1 and (2 / 2 + 0) / 2."""
    from tongtu.trust.profiles import _of_ratings

    fields = pl.DataFrame({"rating": [1.0, 5.0, 4.0]})
    data = Dataset("hand", Vocab(["a", "b"]), Vocab(["x", "y"]), np.array([1, 1, 2], np.int32), np.array([0, 1, 3]), event_fields=fields)
    rdma, wdma, mean, spread, above = _of_ratings(data)
    np.testing.assert_allclose([rdma, wdma, mean, spread, above], [[1, 0.5], [0.5, 0.25], [1, 4.5], [0, 0.5], [0, 1]])


def test_users_without_events_are_nobody_to_suspect() -> None:
    example = examples()[0]
    some = example.data.keep_events(example.data.event_user > 5)
    assert not ProfileDetector.learn(examples()).suspicion(some)[:5].any()
    assert np.isfinite(profile_statistics(some.keep_events(some.event_user == 7))).all()


@pytest.mark.parametrize(("kind", "noise"), [("random", 0.2), ("popular", 0.7)])
def test_an_unexplained_history_is_suspicious(kind: str, noise: float) -> None:
    """The model is fitted with the fake users in the log, as it happens."""
    example = attacked(kind, seed=4, noise=noise)
    settings = {"width": 16, "max_length": 14, "blocks": 1, "training": {"epochs": 8, "learning_rate": 1e-2}}
    model = make("sasrec", settings).fit(example.data, FitOptions(quiet=True, device="cpu"))
    told = {"unexplained": sequence_suspicion(model, example.data), "unlikely": sequence_suspicion(model, example.data, "unlikely")}
    auc = {tail: judge(example.data, suspicion, example.fake).auc for tail, suspicion in told.items()}
    assert auc["unexplained"] > 0.9
    assert kind == "random" or auc["unexplained"] > auc["unlikely"] + 0.05, "where little can be foretold, popular fillers are likelier than honest events"
    assert judge(example.data, sequence_suspicion(model, example.data, by="rank"), example.fake).auc > 0.8


def test_the_most_suspicious_are_removed_and_codes_stay() -> None:
    example = examples()[0]
    suspicion = np.where(example.fake, 1, 0.5).astype(np.float32)
    cleaned = remove(example.data, suspicion, FAKES / 420)
    assert cleaned.n_events == example.data.n_events - 9 * FAKES and not cleaned.lengths[400:].any()
    assert cleaned.users == example.data.users and cleaned.source["suspicious_users_removed"] == FAKES
    assert remove(example.data, suspicion, 0.0).n_events == example.data.n_events
    assert judge(example.data, suspicion, example.fake) == Found(1.0, 1.0, 20, 420)


def test_what_teaches_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="more kinds"):
        ProfileDetector.learn([examples()[0]], leave_out="random")
    one = examples()[0]
    with pytest.raises(DataError, match="no fake users"):
        ProfileDetector.learn([dataclasses.replace(one, fake=np.zeros(420, np.bool_))])
    with pytest.raises(ConfigError, match=r"share of 1 "):
        remove(one.data, np.zeros(420, np.float32), 1.0)
    small = markov_world(users=30, items=20).data
    with pytest.raises(DataError, match="cannot score the items"):
        sequence_suspicion(ALS(ALS.Config(factors=4)).fit(small, FitOptions(quiet=True)), one.data)
