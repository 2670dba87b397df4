from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tongtu.evaluation.intervals import bootstrap, bootstrap_statistic, holm, paired_tests


def test_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(300):
        sample = rng.exponential(2.0, (80, 1))
        low, high = bootstrap(sample, np.arange(80), draws=300, seed=trial)[0]
        held += low <= 2.0 <= high
    assert 0.88 <= held / 300 <= 0.98


def test_interval_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    sample = rng.random((200, 2)) ** 2
    ours = bootstrap(sample, np.arange(200), draws=4000)
    for column, limits in zip(sample.T, ours, strict=True):
        theirs = stats.bootstrap((column,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
        assert limits == pytest.approx([theirs.low, theirs.high], abs=0.004)


def test_users_are_drawn_not_cases() -> None:
    rng = np.random.default_rng(2)
    own = rng.random(50)
    repeated = np.repeat(own, 20)[:, None]  # a user's twenty cases all alike: they say no more than one
    once = bootstrap(own[:, None], np.arange(50))
    assert bootstrap(repeated, np.repeat(np.arange(50), 20)) == pytest.approx(once)
    naive = bootstrap(repeated, np.arange(1000))
    assert np.diff(naive) < np.diff(once) / 3


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(3).random((30, 1))
    users = np.arange(30)
    assert np.array_equal(bootstrap(values, users, seed=7), bootstrap(values, users, seed=7))
    assert not np.array_equal(bootstrap(values, users, seed=7), bootstrap(values, users, seed=8))


def test_randomisation_agrees_with_scipy() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.random(40), rng.random(40) + 0.1
    found = paired_tests(a[:, None], b[:, None], np.arange(40))[0]
    theirs = stats.permutation_test((a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=9999, rng=0)
    assert found.p == pytest.approx(theirs.pvalue, abs=0.02)
    assert found.difference == pytest.approx((a - b).mean()) and found.low < found.difference < found.high
    assert found.p_holm == found.p


def test_no_difference_is_not_significant_and_a_clear_one_is() -> None:
    rng = np.random.default_rng(5)
    a = rng.random(200)
    same, clear = paired_tests(np.stack([a, a + 0.2], axis=1), np.stack([a, rng.random(200)], axis=1), np.arange(200))
    assert same.p == same.p_holm == 1 and same.low == same.high == 0
    assert clear.p < 0.001 < clear.low


def test_holm_worked_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.5])).tolist() == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert paired_tests(np.zeros((3, 0)), np.zeros((3, 0)), np.arange(3)) == []


def test_intervals_of_statistics_are_those_of_means_where_the_statistic_is_one() -> None:
    rng = np.random.default_rng(3)
    values, users = rng.exponential(1.0, (90, 2)), np.repeat(np.arange(30), 3)
    means = bootstrap(values, users, seed=5)
    np.testing.assert_allclose(bootstrap_statistic(values, users, lambda m: m, seed=5), means)
    np.testing.assert_allclose(bootstrap_statistic(values, users, np.sqrt, seed=5), np.sqrt(means), rtol=1e-3)


def test_interval_of_a_ratio_holds_the_true_ratio_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    held = 0
    for trial in range(100):
        size = rng.exponential(1.0, 80)
        values = np.stack([2 * size + rng.normal(0, 1, 80), size], axis=1)
        low, high = bootstrap_statistic(values, np.arange(80), lambda m: m[:, :1] / m[:, 1:], seed=trial)[0]
        held += low <= 2.0 <= high
    assert held >= 88
