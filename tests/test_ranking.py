from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tongtu.ranking
from tongtu.core import PAD, Request, Scores
from tongtu.ranking import ranks_and_top, target_ranks, top_k
from tongtu.vocab import Vocab


class Table:
    """Scores read from a table: request i is the user with code i + 1."""

    def __init__(self, scores: object) -> None:
        self.scores = np.asarray(scores, np.float32)
        self.items = Vocab([f"i{c}" for c in range(1, self.scores.shape[1])])
        self.blocks: list[int] = []

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        self.blocks.append(len(requests))
        rows = [r.user - 1 for r in requests if r.user is not None]
        return self.scores[rows, items]


def ask(n: int, **parts: list[object]) -> list[Request]:
    return [Request(user=i + 1, **{key: values[i] for key, values in parts.items()}) for i in range(n)]  # type: ignore[arg-type]


def codes(*items: int) -> np.ndarray:
    return np.array(items, np.int32)


def plain_order(row: Scores, request: Request) -> list[int]:
    """The eligible items, best first, as a person would do it."""
    able = [c for c in range(1, len(row)) if row[c] > -np.inf]
    if request.exclude_seen:
        able = [c for c in able if c not in request.history]
    if request.candidates is not None:
        able = [c for c in able if c in request.candidates]
    return sorted(able, key=lambda c: (-row[c], c))


def plain_rank(row: Scores, request: Request, target: int) -> int:
    able = plain_order(row, request)
    return sum(row[c] >= row[target] for c in able) if target in able else len(row)


def test_worked_example() -> None:
    # columns: PAD, 1, 2, 3, 4, 5; PAD has the highest score and counts nowhere
    table = Table([[9, 3, 5, 5, 1, 5]] * 4)
    requests = ask(4, history=[codes(), codes(2), codes(2), codes()], exclude_seen=[True, True, False, True], candidates=[None, None, None, codes(4, 1, 1)])
    assert target_ranks(table, requests, codes(3, 3, 3, 1)).tolist() == [3, 2, 3, 1]
    found = top_k(table, requests, 3)
    assert found.items.tolist() == [[2, 3, 5], [3, 5, 1], [2, 3, 5], [1, 4, PAD]]
    assert found.scores[3].tolist() == [3, 1, -np.inf]


def test_a_target_that_may_not_be_recommended_is_a_miss() -> None:
    table = Table([[0, 3, 5, 5, -np.inf]] * 4)
    requests = ask(4, history=[codes(2), codes(), codes(), codes()], candidates=[None, codes(1), None, None])
    assert target_ranks(table, requests, codes(2, 2, 4, PAD)).tolist() == [5, 5, 5, 5]


def test_nan_is_refused_and_infinities_are_not() -> None:
    with pytest.raises(AssertionError, match="NaN"):
        target_ranks(Table([[0, 1, np.nan, 2]]), ask(1), codes(1))
    with pytest.raises(AssertionError, match="NaN"):
        top_k(Table([[0, 1, np.nan, 2]]), ask(1), 1)
    assert target_ranks(Table([[0, np.inf, -np.inf, 2]]), ask(1), codes(3)).tolist() == [2]


def test_more_asked_for_than_there_is() -> None:
    found = top_k(Table([[0, 1, 2]]), ask(1), 5)
    assert found.items.tolist() == [[2, 1, 0, 0, 0]] and found.items.dtype == np.int32
    assert found.scores.tolist() == [[2, 1, -np.inf, -np.inf, -np.inf]] and found.scores.dtype == np.float32


def test_no_requests() -> None:
    table = Table(np.zeros((0, 4)))
    assert top_k(table, [], 3).items.shape == (0, 3)
    assert target_ranks(table, [], codes()).shape == (0,)


def test_read_only_scores_are_not_written() -> None:
    row = np.array([1, 2, 3, 4], np.float32)
    table = Table([row])
    table.score = lambda requests, items: np.broadcast_to(row, (len(requests), 4))[:, items]  # type: ignore[method-assign]
    assert target_ranks(table, ask(2, history=[codes(3), codes()]), codes(2, 2)).tolist() == [1, 2]
    assert row.tolist() == [1, 2, 3, 4]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_agrees_with_the_plain_way(data: st.DataObject) -> None:
    n, size = data.draw(st.integers(1, 7)), data.draw(st.integers(2, 90))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    levels = data.draw(st.sampled_from([1, 2, 4, 1000]))  # few levels: many ties
    scores = rng.integers(0, levels, (n, size)).astype(np.float32)
    scores[rng.random((n, size)) < data.draw(st.sampled_from([0.0, 0.3]))] = -np.inf
    history = [rng.integers(0, size, rng.integers(0, 6)).astype(np.int32) for _ in range(n)]
    limit = [rng.integers(1, size, rng.integers(0, 9)).astype(np.int32) if rng.random() < 0.5 else None for _ in range(n)]
    requests = ask(n, history=history, candidates=limit, exclude_seen=(rng.random(n) < 0.7).tolist())
    targets = rng.integers(1, size, n).astype(np.int32)
    k = data.draw(st.integers(1, 100))
    table = Table(scores)
    ranks, found = ranks_and_top(table, requests, targets, k)
    for i, request in enumerate(requests):
        order = plain_order(scores[i], request)[:k]
        assert found.items[i].tolist() == order + [PAD] * (k - len(order))
        assert ranks[i] == plain_rank(scores[i], request, int(targets[i]))
    assert np.array_equal(ranks, target_ranks(table, requests, targets))
    assert np.array_equal(found.items, top_k(table, requests, k).items)


def test_memory_is_bounded_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).integers(0, 5, (23, 11)).astype(np.float32)
    whole = Table(scores)
    expected = ranks_and_top(whole, ask(23), np.full(23, 4, np.int32), 3)
    assert whole.blocks == [23]
    monkeypatch.setattr(tongtu.ranking, "BLOCK_BYTES", 11 * 4 * 5)
    parted = Table(scores)
    ranks, found = ranks_and_top(parted, ask(23), np.full(23, 4, np.int32), 3)
    assert parted.blocks == [5, 5, 5, 5, 3]
    assert np.array_equal(ranks, expected[0]) and np.array_equal(found.items, expected[1].items)
