from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from tongtu.core import FitOptions, Request, RequestBatch, Scores
from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import attribute_world
from tongtu.errors import DataError, ModelError
from tongtu.systems.baselines.popular import Popular
from tongtu.trust.attackers import ATTACKERS, FEWEST, Attack, Attacker, areas, attack, parted
from tongtu.trust.probe import drawn, infer, interval, probe, summary

USERS = 400


def told(classes: int, spread: float, seed: int = 0) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Vectors around one point for each class, far apart or not at all, and the classes; the vectors' scales differ a thousandfold."""
    draw = np.random.default_rng(seed)
    label = draw.integers(1, classes + 1, USERS)
    vectors = draw.normal(size=(classes + 1, 12))[label] * spread + draw.normal(size=(USERS, 12))
    return (vectors * np.logspace(-1, 2, 12)).astype(np.float32), label


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("attacker", ATTACKERS)
def test_what_vectors_carry_is_found(attacker: Attacker, classes: int) -> None:
    found = infer(*told(classes, 3.0), attacker)
    assert found.auc > 0.97 and found.auc_low > 0.93 and found.micro_f1 > 0.9 > 0.7 > found.chance_micro and found.macro_f1 > 0.9 > found.chance_macro
    assert (found.attacker, found.classes, found.users, found.rare) == (attacker, classes, USERS, 0)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("attacker", ATTACKERS)
def test_noise_carries_nothing(attacker: Attacker, classes: int) -> None:
    found = infer(*told(classes, 0.0), attacker)
    assert found.auc_low < 0.5 < found.auc_high and 0.05 < found.auc_high - found.auc_low < 0.4
    assert found.micro_f1 < found.chance_micro + 0.12


def test_a_bent_border_needs_more_than_a_linear_attacker() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(600, 2))
    label = 1 + (vectors.prod(axis=1) > 0)
    linear, mlp, boosting = (infer(vectors, label, attacker).auc for attacker in ATTACKERS)
    assert linear < 0.65 and mlp > 0.9 and boosting > 0.9


def test_nobody_is_in_two_parts_and_each_class_is_in_all_three() -> None:
    label = np.random.default_rng(0).choice(4, 500, p=[0.1, 0.6, 0.25, 0.05])
    parts = parted(label, seed=3)
    everybody = np.concatenate([parts.learn, parts.choose, parts.test])
    assert sorted(everybody) == np.flatnonzero(label).tolist()
    assert [len(rows) / len(everybody) for rows in (parts.learn, parts.choose, parts.test)] == pytest.approx([0.6, 0.2, 0.2], abs=0.01)
    assert all(set(label[rows]) == {1, 2, 3} for rows in (parts.learn, parts.choose, parts.test))
    assert not np.array_equal(parts.test, parted(label, seed=4).test)


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_nothing_of_those_tried_reaches_the_attacker(attacker: Attacker) -> None:
    """Neither their labels nor the vectors of one of them change what it says of the others."""
    vectors, label = (part[:200] for part in told(3, 1.0))
    parts = parted(label)
    before = attack(vectors, label, parts, attacker)
    mixed = label.copy()
    mixed[parts.test] = np.roll(label[parts.test], 7)
    np.testing.assert_array_equal(attack(vectors, mixed, parts, attacker).chance, before.chance)
    moved = vectors.copy()
    moved[parts.test[0]] += 1_000
    np.testing.assert_allclose(attack(moved, label, parts, attacker).chance[1:], before.chance[1:], rtol=1e-6)


def test_an_attacker_that_learns_users_by_heart_gains_nothing() -> None:
    draw = np.random.default_rng(0)
    vectors, label = draw.normal(size=(USERS, 2 * USERS)), draw.integers(1, 3, USERS)
    found = infer(vectors, label, "linear")
    assert found.auc_low < 0.5 < found.auc_high


def test_unknown_and_rare_classes_are_left_out() -> None:
    vectors, label = told(3, 3.0)
    label[label == 3] = 0
    label[np.flatnonzero(label == 2)[: FEWEST - 1]] = 4
    found = infer(vectors, label, "linear")
    assert (found.classes, found.rare, found.users) == (2, FEWEST - 1, (label > 0).sum() - FEWEST + 1)
    other = vectors.copy()
    other[(label == 0) | (label == 4)] = 1e6
    assert infer(other, label, "linear") == found
    with pytest.raises(DataError, match="of 1 classes, 1 have 20 users"):
        infer(vectors, np.where(label == 1, 1, 0), "linear")


def test_figures_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    for classes in (2, 3):
        truth, weight = draw.integers(0, classes, 90), draw.integers(0, 3, (2, 90)).astype(np.float64)
        weight[0] = 1
        chance = np.round(draw.dirichlet(np.ones(classes), 90) + np.eye(classes)[truth] * 0.1, 1) + 0.1  # rounded: many are equal
        chance /= chance.sum(axis=1, keepdims=True)
        one = Attack(np.arange(90), truth, chance, 0, "linear", 90)
        score = chance[:, 1] if classes == 2 else chance
        expected = [roc_auc_score(truth, score, multi_class="ovr", sample_weight=row) if classes == 2 else _macro(truth, chance, row) for row in weight]
        np.testing.assert_allclose(areas(chance, truth, weight), expected)
        found, same = summary([one]), drawn([[one], [one]], repeats=50)
        assert found.auc == pytest.approx(expected[0])
        assert found.macro_f1 == pytest.approx(f1_score(truth, chance.argmax(1), average="macro"))
        assert found.chance_micro == pytest.approx((truth == 0).mean())
        assert same.shape == (50, 2, 3) and np.array_equal(same[:, 0], same[:, 1]), "groups share their resamples"
        assert same[:, 0].mean(axis=0) == pytest.approx([found.auc, found.micro_f1, found.macro_f1], abs=0.03)


def _macro(truth: npt.NDArray[np.int64], chance: npt.NDArray[np.float64], weight: npt.NDArray[np.float64]) -> float:
    return float(np.mean([roc_auc_score(truth == c, chance[:, c], sample_weight=weight) for c in range(chance.shape[1])]))


def test_several_seeds_make_the_interval_narrower() -> None:
    vectors, label = told(2, 0.3)
    attacks = [attack(vectors, label, parted(label, seed), "linear", seed) for seed in range(5)]
    widths = [np.subtract(*interval(drawn([group])[:, 0, 0])[::-1]) for group in (attacks[:1], attacks)]
    assert 0 < widths[1] < widths[0]
    assert summary(attacks).auc == pytest.approx(np.mean([summary([one]).auc for one in attacks]))


class Telling(Popular):
    """Its vectors are one-hot of the attribute "club", unless that is to be forgotten, and noise."""

    def user_vectors(self, requests: Sequence[Request]) -> Scores:
        batch = RequestBatch.of(requests)
        clubs = ["" if "club" in request.forget else request.attributes.get("club", "") for request in batch]
        words = sorted({"", *clubs})
        noise = np.random.default_rng(0).normal(size=(len(batch), 3))
        return np.concatenate([np.eye(len(words))[[words.index(club) for club in clubs]], noise], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def data() -> Dataset:
    world = attribute_world(users=400, items=40).data
    coin = np.random.default_rng(1).choice(["heads", "tails"], 400)
    user = [f"name {u}" for u in range(400)]
    return dataclasses.replace(world, user_attributes=world.user_attributes.with_columns(pl.Series("coin", coin), pl.Series("name", user)))


def test_a_model_is_probed_by_attribute_and_attacker(data: Dataset) -> None:
    model = Telling().fit(data, FitOptions(quiet=True))
    found = probe(model, data, attackers=("linear", "mlp"))
    assert [(one.attribute, one.attacker) for one in found] == [(name, way) for name in ("club", "coin") for way in ("linear", "mlp")]
    assert all(one.auc > 0.99 if one.attribute == "club" else 0.3 < one.auc < 0.7 for one in found)
    (blind,) = probe(model, data, ["club"], ("linear",), forget=frozenset({"club"}))
    assert 0.3 < blind.auc < 0.7
    assert probe(model, data, attackers=("linear",)) == found[::2], "the same question has the same answer"


def test_users_without_history_are_not_asked(data: Dataset) -> None:
    model = Telling().fit(data, FitOptions(quiet=True))
    fewer = data.keep_events(data.event_user > 100)
    assert [one.users + one.rare for one in probe(model, fewer, ["club", "coin"], ("linear",))] == [300, 300]


def test_what_cannot_be_probed_is_told(data: Dataset) -> None:
    with pytest.raises(ModelError, match="Popular has no user vectors"):
        probe(Popular().fit(data), data)
    with pytest.raises(DataError, match="no user attribute 'shoe'"):
        probe(Telling().fit(data), data, ["shoe"])
    other = attribute_world(users=30, items=20).data
    with pytest.raises(ModelError, match="other items"):
        probe(Telling().fit(other), data)
