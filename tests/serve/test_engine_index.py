"""Finding the best items: exactly and approximately, and lists of unlike items."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tongtu.core import PAD, Request, RequestBatch, Scores, TopK
from tongtu.ranking import top_k
from tongtu.serve.engine.diversity import diverse
from tongtu.serve.engine.index import VectorIndex
from tongtu.vocab import Vocab


class Means:
    """A user is the mean of their items' vectors; nobody's best item is the last one."""

    def __init__(self, vectors: Scores) -> None:
        self.items, self.vectors = Vocab([f"i{number}" for number in range(1, len(vectors))]), vectors
        self.config: Any = None
        self.asked = 0

    def query_vectors(self, requests: Any) -> Scores:
        batch = RequestBatch.of(requests)
        self.asked += len(batch)
        queries = np.zeros((len(batch), self.vectors.shape[1]), np.float32)
        row, place = batch.events()
        known = batch.item[place] != PAD
        np.add.at(queries, row[known], self.vectors[batch.item[place][known]])
        return queries

    def item_vectors(self) -> Scores:
        return self.vectors

    def score(self, requests: Any, items: slice) -> Scores:
        queries = self.query_vectors(requests)
        scores: Scores = queries @ self.vectors[items].T
        scores[~queries.any(axis=1)] = np.arange(items.start, items.stop, dtype=np.float32)
        return scores

    def recommend(self, requests: Any, k: int) -> TopK:
        return top_k(self, requests, k)


def clustered(items: int, width: int = 16, centres: int = 60) -> Scores:
    draw = np.random.default_rng(0)
    centre = draw.standard_normal((centres, width))
    vectors = centre[draw.integers(0, centres, items + 1)] + 0.4 * draw.standard_normal((items + 1, width))
    vectors[PAD] = 0
    return vectors.astype(np.float32)


def asked(items: int) -> list[Request]:
    draw = np.random.default_rng(1)
    history = [draw.integers(1, items + 1, 1 + number % 4).astype(np.int32) for number in range(40)]
    plain = [Request(history=one, exclude_seen=number % 2 == 0) for number, one in enumerate(history)]
    return [*plain, Request(), Request(history=history[0], candidates=np.array([5, 9, 5, history[0][0]], np.int32)), Request(history=np.array([PAD], np.int32))]


@pytest.mark.parametrize("ann_above", [10_000, 1_000])
def test_answers_are_those_of_exact_search(ann_above: int) -> None:
    if ann_above == 1_000:
        pytest.importorskip("faiss")
    system = Means(clustered(4_000))
    index = VectorIndex.of(system, ann_above)
    assert index is not None and (index.approximate is not None) == (ann_above == 1_000)
    requests = asked(4_000)
    found, exact = index.recommend(requests, 10), system.recommend(requests, 10)
    assert found.items.shape == exact.items.shape and found.items.dtype == np.int32
    same = [len(set(one) & set(other)) / len(set(other)) for one, other in zip(found.items.tolist(), exact.items.tolist(), strict=True)]
    assert np.mean(same) >= (0.97 if ann_above == 1_000 else 1.0)
    assert same[-3:] == [1.0] * 3
    real = found.items != PAD
    assert np.isfinite(found.scores[real]).all() and (found.scores[~real] == -np.inf).all() and (np.diff(found.scores[:40]) <= 0).all()
    for request, row in zip(requests, found.items, strict=True):
        listed = row[row != PAD]
        assert len(np.unique(listed)) == len(listed)
        assert not (request.exclude_seen and np.isin(listed, request.history).any())


def test_an_index_that_would_search_nearly_all_is_not_made(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("faiss")
    from tongtu.serve.engine.approximate import Approximate

    draw = np.random.default_rng(0)  # in so many directions that nothing is near anything
    vectors = draw.standard_normal((3_000, 128)).astype(np.float32)
    assert Approximate.of(vectors, draw.standard_normal((50, 128)).astype(np.float32)) is None
    assert "searched exactly" in caplog.text


def test_more_than_the_lists_hold_is_searched_exactly() -> None:
    pytest.importorskip("faiss")
    system = Means(clustered(4_000))
    index = VectorIndex.of(system, 1_000)
    assert index is not None and index.approximate is not None
    top = index.recommend([Request(history=np.array([7, 9], np.int32))], 3_999)
    assert (top.items[0] != PAD).sum() == 3_998


def test_the_vector_of_a_user_is_worked_out_once() -> None:
    system = Means(clustered(300))
    index = VectorIndex.of(system, 10_000)
    assert index is not None
    request = Request(history=np.array([3, 4], np.int32))
    first = index.recommend([request], 5)
    asked = system.asked
    again = index.recommend([Request(history=np.array([3, 4], np.int32), candidates=first.items[0])], 5)
    assert system.asked == asked and np.array_equal(again.items, first.items)
    index.recommend([Request(history=np.array([3, 4], np.int32), now=5)], 5)
    assert system.asked > asked


def test_nearest_items_are_those_of_the_largest_cosine() -> None:
    vectors = clustered(200)
    index = VectorIndex.of(Means(vectors), 10_000)
    assert index is not None
    codes, likeness = index.nearest(17, 7)
    unit = vectors[1:] / np.linalg.norm(vectors[1:], axis=1, keepdims=True)
    cosine = unit @ unit[16]
    cosine[16] = -np.inf
    assert codes.tolist() == (1 + np.argsort(-cosine)[:7]).tolist()
    np.testing.assert_allclose(likeness, np.sort(cosine)[::-1][:7], rtol=1e-5)
    assert len(index.nearest(17, 500)[0]) == 199


def test_diversity_takes_the_best_of_each_kind() -> None:
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    scores = np.array([5, 4.9, 4.8, 3, 2], np.float32)
    assert diverse(vectors, scores, 3, 0.0).tolist() == [0, 1, 2]
    assert diverse(vectors, scores, 2, 0.9).tolist() == [0, 3]
    assert sorted(diverse(vectors, scores, 9, 0.5).tolist()) == [0, 1, 2, 3, 4]
    assert diverse(vectors[:0], scores[:0], 3, 0.5).tolist() == []
