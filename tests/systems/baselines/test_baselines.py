"""The baselines against their definitions, written out densely."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tongtu.core import FitOptions, Request, RequestBatch
from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import attribute_world, taste_world
from tongtu.errors import ConfigError, DataError
from tongtu.systems import make
from tongtu.systems.baselines._histories import history_matrix, user_item_matrix
from tongtu.systems.baselines.als import ALS
from tongtu.systems.baselines.bpr import BPR
from tongtu.systems.baselines.ease import EASE
from tongtu.systems.baselines.itemknn import ItemKNN
from tongtu.systems.baselines.popular import Popular
from tongtu.vocab import Vocab

QUIET = FitOptions(quiet=True)
ALL = slice(0, None)
DATA = taste_world(users=80, items=25, length=8, seed=3).data
ASKED = DATA.requests(np.arange(1, 20, dtype=np.int32))


def dense(data: Dataset) -> np.ndarray[Any, Any]:
    """0 and 1, [users, items.size]."""
    met = np.zeros((len(data.users), data.items.size))
    for user in range(1, data.users.size):
        met[user - 1, data.history(user)] = 1
    return met


def test_matrices_are_sets_and_leave_the_data_alone() -> None:
    data = Dataset("tiny", Vocab(["u", "v"]), Vocab(["a", "b", "c"]), np.array([3, 1, 3, 2], np.int32), np.array([0, 3, 4]))
    assert user_item_matrix(data).toarray().tolist() == [[0, 1, 0, 1], [0, 0, 1, 0]]
    assert data.item.tolist() == [3, 1, 3, 2]


def test_histories_weigh_by_recency_of_the_newest_meeting() -> None:
    lists = ([3, 1, 0, 3, 2], [], [0, 0], [2])
    requests = RequestBatch.of([Request(history=np.array(codes, np.int32)) for codes in lists])
    assert history_matrix(requests, 4).toarray().tolist() == [[0, 1, 1, 1], [0] * 4, [0] * 4, [0, 0, 1, 0]]
    assert history_matrix(requests, 4, decay=0.5).toarray().tolist() == [[0, 0.25, 1, 0.5], [0] * 4, [0] * 4, [0, 0, 1, 0]]


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_ease_is_the_ridge_regression_with_zero_diagonal(precision: str) -> None:
    l2 = 7.0
    met = dense(DATA)[:, 1:]
    expected = np.zeros((25, 25))
    for item in range(25):  # each column on its own: regress it on all other columns
        other = np.arange(25) != item
        x = met[:, other]
        expected[other, item] = np.linalg.solve(x.T @ x + l2 * np.eye(24), x.T @ met[:, item])
    system = make("ease", {"l2": l2, "precision": precision, "decay": 1}).fit(DATA, QUIET)
    assert isinstance(system, EASE)
    np.testing.assert_allclose(system.score(ASKED, ALL)[:, 1:], dense(DATA)[:19, 1:] @ expected, atol=2e-5)


def test_ease_refuses_or_restricts_a_large_catalogue() -> None:
    with pytest.raises(ConfigError, match=r"popular_only=true .* 10 most popular, raise max_items, or use itemknn"):
        EASE(EASE.Config(max_items=10)).fit(DATA, QUIET)
    system = EASE(EASE.Config(max_items=10, popular_only=True, l2=7)).fit(DATA, QUIET)
    ranked = np.argsort(-DATA.item_counts, kind="stable")
    part = DATA.keep_events(np.isin(DATA.item, ranked[:10]))
    expected = EASE(EASE.Config(l2=7)).fit(part, QUIET).score(ASKED, ALL)
    scores = system.score(ASKED, ALL)
    solved = np.sort(ranked[:10])
    np.testing.assert_allclose(scores[:, solved], expected[:, solved], atol=1e-5)
    outside = ranked[10:-1]
    assert scores[:, outside].max() < scores[:, solved].min()
    assert (np.argsort(-scores[0, outside], kind="stable") == np.arange(15)).all(), "items outside follow in the order of popularity"


def test_ease_that_cannot_be_solved() -> None:
    twins = Dataset("twins", Vocab(["u"]), Vocab(["a", "b"]), np.array([1, 2], np.int32), np.array([0, 2]))
    with pytest.raises(ConfigError, match="raise l2"):
        EASE(EASE.Config(l2=1e-12)).fit(twins, QUIET)


@pytest.mark.parametrize("similarity", ["cosine", "jaccard", "conditional"])
def test_itemknn_is_the_formula(similarity: str) -> None:
    met = dense(DATA)
    both, count = met.T @ met, met.sum(axis=0)
    mine, theirs = count[:, None], count[None, :]
    norm = {"cosine": np.sqrt(mine * theirs), "jaccard": mine + theirs - both, "conditional": mine * theirs**0.3}[similarity]
    likeness = both / (norm + 2)
    np.fill_diagonal(likeness, 0)
    system = make("itemknn", {"similarity": similarity, "neighbours": 25, "shrinkage": 2, "exponent": 0.3, "decay": 1}).fit(DATA, QUIET)
    assert isinstance(system, ItemKNN)
    scores, expected = system.score(ASKED, ALL), met[:19] @ likeness
    np.testing.assert_allclose(scores[expected > 0], expected[expected > 0], rtol=1e-5)
    assert (scores[expected == 0] < 0).all()
    few = make("itemknn", {"similarity": similarity, "neighbours": 6, "shrinkage": 2, "exponent": 0.3}).fit(DATA, QUIET)
    assert isinstance(few, ItemKNN)
    kept = few._links.weights.toarray()
    assert ((kept > 0).sum(axis=1)[1:] == 6).all()
    np.testing.assert_allclose(np.sort(kept, axis=1)[:, -6:], np.sort(likeness, axis=1)[:, -6:], rtol=1e-5)


def test_itemknn_built_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ItemKNN().fit(DATA, QUIET)
    monkeypatch.setattr("tongtu.systems.baselines.itemknn._PAIRS_A_BLOCK", 200)
    blocks = ItemKNN().fit(DATA, QUIET)
    assert np.array_equal(whole.score(ASKED, ALL), blocks.score(ASKED, ALL))


def test_itemknn_orders_the_unreached_by_popularity() -> None:
    system = ItemKNN(ItemKNN.Config(neighbours=1)).fit(DATA, QUIET)
    answer = system.recommend([Request(history=np.array([1], np.int32), exclude_seen=False), Request()], 25)
    popular = np.argsort(-DATA.item_counts[1:], kind="stable") + 1
    assert answer.items[1].tolist() == popular.tolist()
    assert [i for i in answer.items[0].tolist() if i != answer.items[0, 0]] == [i for i in popular.tolist() if i != answer.items[0, 0]]


def test_als_solves_each_history_as_the_paper_does() -> None:
    settings = ALS.Config(factors=6, l2=0.7, alpha=4, iterations=3, decay=0.8)
    system = ALS(settings).fit(DATA, FitOptions(seed=1))
    vectors = system._vectors.astype(np.float64)
    long = np.tile(np.arange(1, 26, dtype=np.int32), 2)
    requests = [*ASKED, Request(history=long), Request(history=np.array([5], np.int32))]
    for request, scores in zip(requests, system.score(requests, ALL), strict=True):
        newest = list(dict.fromkeys(request.history[::-1].tolist()))
        age = {item: request.history[::-1].tolist().index(item) for item in newest}
        trust = np.zeros(26)
        for item in newest:
            trust[item] = max(settings.alpha * settings.decay ** age[item], 1)
        gram = vectors.T @ np.diag(np.where(trust > 0, trust, 1)) @ vectors + settings.l2 * np.eye(6)
        user = np.linalg.solve(gram, vectors.T @ trust)
        np.testing.assert_allclose(scores[1:], vectors[1:] @ user, rtol=2e-3, atol=2e-4)


def test_als_answers_a_known_user_as_implicit_does() -> None:
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    system = ALS(ALS.Config(factors=6, l2=0.5, alpha=3, iterations=2, decay=1)).fit(DATA, FitOptions(seed=1))
    peer = AlternatingLeastSquares(factors=6, regularization=0.5, alpha=3, iterations=1, num_threads=1)
    peer.item_factors = system._vectors
    met = csr_matrix(user_item_matrix(DATA))
    users = peer.recalculate_user(np.arange(19), met[:19])
    np.testing.assert_allclose(system.score(ASKED, ALL)[:, 1:], (users @ system._vectors.T)[:, 1:], rtol=2e-3, atol=2e-4)


def test_bpr_answers_with_the_weighted_mean_of_item_vectors() -> None:
    system = BPR(BPR.Config(factors=6, iterations=5, decay=0.5)).fit(DATA, FitOptions(seed=1))
    vectors = system._vectors
    scores = system.score([Request(history=np.array([4, 0, 9], np.int32))], ALL)[0]
    user = (0.5 * vectors[4, :-1] + vectors[9, :-1]) / 1.5
    np.testing.assert_allclose(scores[1:], vectors[1:, :-1] @ user + vectors[1:, -1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["als", "bpr"])
def test_seeds_decide(name: str) -> None:
    fits = [make(name, {"factors": 4, "iterations": 3}).fit(DATA, FitOptions(seed=seed)).recommend(ASKED, 5).scores for seed in (1, 1, 2)]
    assert np.array_equal(fits[0], fits[1]) and not np.array_equal(fits[0], fits[2])


@pytest.mark.parametrize("name", ["itemknn", "ease", "als", "bpr"])
def test_nobody_known_is_answered_by_popularity(name: str, tmp_path: Path) -> None:
    system = make(name, {"factors": 4, "iterations": 3} if name in {"als", "bpr"} else {}).fit(DATA, QUIET)
    expected = Popular().fit(DATA).recommend([Request(), Request(candidates=np.array([3, 9, 4], np.int32))], 25)
    unknown = np.zeros(2, np.int32)
    answer = system.recommend([Request(history=unknown), Request(history=unknown, candidates=np.array([3, 9, 4], np.int32))], 25)
    assert np.array_equal(answer.items, expected.items)


@pytest.mark.parametrize("name", ["itemknn", "ease", "als", "bpr"])
def test_items_never_met_in_training_come_last(name: str) -> None:
    without = DATA.keep_events((DATA.item != 7) & (DATA.item != 8))
    system = make(name, {"factors": 4, "iterations": 3} if name in {"als", "bpr"} else {}).fit(without, QUIET)
    scores = system.score(ASKED, ALL)  # type: ignore[attr-defined]
    assert (scores[:, [7, 8]].max(axis=1) < np.delete(scores, [0, 7, 8], axis=1).min(axis=1)).all()


def timed() -> Dataset:
    day = 86_400
    return Dataset(
        "timed",
        Vocab(["u", "v", "w"]),
        Vocab(["a", "b", "c"]),
        np.array([1, 1, 2, 2, 3, 3], np.int32),
        np.array([0, 3, 5, 6]),
        time=np.array([0, 1, 9 * day, 0, 10 * day, 10 * day]),
        user_attributes=pl.DataFrame({"gender": ["F", None, "M"], "age": [30, 40, 30]}),
    )


def test_popular_counts_the_window_that_is_asked_for() -> None:
    data = timed()
    assert Popular().fit(data).score([Request()], ALL).tolist() == [[0, 2, 2, 2]]
    assert Popular(Popular.Config(days=2)).fit(data).score([Request()], ALL).tolist() == [[0, 0, 1, 2]]
    with pytest.raises(DataError, match="has no times"):
        Popular(Popular.Config(days=2)).fit(dataclasses.replace(data, time=None))


def test_popular_by_group() -> None:
    system = Popular(Popular.Config(attribute="gender")).fit(timed())
    requests = [
        Request(attributes={"gender": "F"}),
        Request(attributes={"gender": "M"}),
        Request(attributes={"gender": "F"}, forget=frozenset({"gender"})),
        Request(attributes={"gender": "X"}),
        Request(),
    ]
    scores = system.score(requests, ALL)
    assert scores.astype(int).tolist() == [[0, 2, 1, 0], [0, 0, 0, 1], [0, 2, 2, 2], [0, 2, 2, 2], [0, 2, 2, 2]]
    assert system.recommend(requests[1:2], 3).items.tolist() == [[3, 1, 2]], "the overall order decides among the rest"
    assert Popular(Popular.Config(attribute="age")).fit(timed()).score([Request(attributes={"age": "30"})], ALL).astype(int).tolist() == [[0, 2, 1, 1]]
    with pytest.raises(DataError, match=r"no user attribute 'sex' \(known: gender, age\)"):
        Popular(Popular.Config(attribute="sex")).fit(timed())


def test_groups_find_the_taste_of_unseen_users() -> None:
    world = attribute_world(users=200, items=50, length=8)
    system = Popular(Popular.Config(attribute="club")).fit(world.data)
    for user in (1, 2, 3):
        club = world.data.user_attributes["club"][user - 1]
        best = system.recommend([Request(attributes={"club": club})], 5).items[0]
        assert len(set(world.group[best])) == 1
        assert club in (world.data.item_text[int(best[0]) - 1] or "")
