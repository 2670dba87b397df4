from __future__ import annotations

import math

import numpy as np
import pytest
from follower import Table
from hypothesis import given
from hypothesis import strategies as st
from ranx import Qrels, Run
from ranx import evaluate as ranx_evaluate

from tongtu.core import Request
from tongtu.evaluation.metrics import MISS, coverage, gini, novelty, popularity_lift, rank_metrics
from tongtu.ranking import target_ranks

CUTOFFS = (1, 5, 10, 20, 50)


def ranx(scores: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """What the independent library says; it breaks ties by accident, so scores must not tie."""
    users, items = scores.shape
    qrels = Qrels({f"u{u}": {f"i{target[u]}": 1} for u in range(users)})
    run = Run({f"u{u}": {f"i{i}": float(scores[u, i]) for i in range(1, items)} for u in range(users)})
    return dict(ranx_evaluate(qrels, run, [f"{name}@{k}" for k in CUTOFFS for name in ("recall", "ndcg", "mrr")]))


def ours(scores: np.ndarray, target: np.ndarray) -> dict[str, float]:
    requests = [Request(user=u + 1) for u in range(len(scores))]
    return {name: float(value.mean()) for name, value in rank_metrics(target_ranks(Table(scores), requests, target), CUTOFFS).items()}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_ranx(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(61.0), (40, 1)), axis=1)
    target = rng.integers(1, 61, 40).astype(np.int32)
    assert ours(scores, target) == pytest.approx(ranx(scores, target), abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_ranx_on_ties_broken_against_the_target(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (40, 31)).astype(np.float64)
    target = rng.integers(1, 31, 40).astype(np.int32)
    untied = scores + rng.permuted(np.tile(np.linspace(0.1, 0.2, 31), (40, 1)), axis=1)
    untied[np.arange(40), target] = scores[np.arange(40), target]  # below all that tie with it
    assert ours(scores, target) == pytest.approx(ranx(untied, target), abs=1e-12)


def test_worked_example() -> None:
    found = rank_metrics(np.array([1, 3, 11, MISS]), (1, 10))
    assert found["recall@1"].tolist() == [1, 0, 0, 0] and found["recall@10"].tolist() == [1, 1, 0, 0]
    assert found["ndcg@10"].tolist() == [1, 0.5, 0, 0] and found["mrr@10"].tolist() == [1, 1 / 3, 0, 0]


@given(st.lists(st.one_of(st.integers(1, 60), st.just(MISS)), min_size=1), st.integers(1, 49))
def test_metrics_are_bounded_ordered_and_grow_with_the_cutoff(ranks: list[int], k: int) -> None:
    small, large = (rank_metrics(np.array(ranks), (cutoff,)) for cutoff in (k, k + 1))
    for name in ("recall", "ndcg", "mrr"):
        one, more = small[f"{name}@{k}"], large[f"{name}@{k + 1}"]
        assert ((one >= 0) & (one <= more) & (more <= 1)).all()
    assert (small[f"mrr@{k}"] <= small[f"ndcg@{k}"]).all() and (small[f"ndcg@{k}"] <= small[f"recall@{k}"]).all()


LISTS = np.array([[1, 2], [1, 3], [1, 0]], np.int32)
COUNTS = np.array([0, 6, 1, 0, 1])


def test_list_metrics_worked_by_hand() -> None:
    assert coverage(LISTS, 4) == 3 / 4
    # 8 events and 4 items: p = 7/12, 2/12, 1/12 for items 1, 2, 3
    assert novelty(LISTS, COUNTS) == pytest.approx((3 * math.log2(12 / 7) + math.log2(12 / 2) + math.log2(12 / 1)) / 5)
    # shown 0, 1, 1, 3 times: (-3 * 0 - 1 * 1 + 1 * 1 + 3 * 3) / (3 * 5)
    assert gini(LISTS, 4) == pytest.approx(9 / 15)
    histories = (np.array([0, 0, 1]), np.array([1, 2, 4], np.int32))  # the third user has none
    assert popularity_lift(LISTS, histories, COUNTS) == pytest.approx((3.5 + 3) / (3.5 + 1))


def test_gini_goes_from_equal_to_one_for_all() -> None:
    assert gini(np.array([[1, 2], [3, 4]], np.int32), 4) == 0
    assert gini(np.array([[1], [1]], np.int32), 4) == 1


def test_empty_lists_have_no_figures() -> None:
    nothing = np.zeros((2, 3), np.int32)
    assert coverage(nothing, 4) == 0
    lift = popularity_lift(nothing, (np.zeros(0, np.int64), np.zeros(0, np.int32)), COUNTS)
    assert all(math.isnan(value) for value in (novelty(nothing, COUNTS), gini(nothing, 4), lift))
