from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from tongtu.core import PAD, FitOptions, Request, RequestBatch, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.ranking import ranks_of_each, target_ranks, top_k
from tongtu.trust.exposure import Exposure, exposure, hit_rates, ratio, seen_by_users, top_counts, top_counts_by
from tongtu.vocab import Vocab


class ByCode:
    """Likes high codes best, and of somebody whose newest item is 1 the low ones."""

    config: Any = None

    def __init__(self, items: int = 6) -> None:
        self.items = Vocab([f"i{i}" for i in range(items)])

    def fit(self, data: Dataset, options: FitOptions | None = None) -> Self:
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        code = np.arange(self.items.size, dtype=np.float32)[items]
        return np.stack([-code if len(r.history) and r.history[-1] == 1 else code for r in requests])

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        return top_k(self, requests, k)

    def save_pretrained(self, path: Path) -> None: ...

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        return cls()


def histories(*codes: Sequence[int]) -> list[Request]:
    return [Request(history=np.array(row, np.int32)) for row in codes]


REQUESTS = histories([2], [6, 1], [5], [3, 1])
TARGETS = np.array([6, 3], np.int32)


def test_ranks_by_hand() -> None:
    """Eligible best first: 6 5 4 3 1 | 2 3 4 5 | 6 4 3 2 1 | 2 4 5 6."""
    found = exposure(ByCode(), REQUESTS, TARGETS)
    assert found.ranks.tolist() == [[1, 4], [0, 2], [1, 3], [4, 0]], "what was seen does not count"
    assert found.pairs == 6
    assert [found.hits(k) for k in (1, 2, 3, 4)] == [2, 3, 4, 6]
    assert found.hit_rate(3) == pytest.approx(4 / 6)
    assert found.ndcg(2) == pytest.approx((1 + 1 + 1 / np.log2(3)) / 6)
    assert hit_rates(ByCode(), REQUESTS, TARGETS, [1, 4]).tolist() == pytest.approx([2 / 6, 1.0])
    group = np.array([True, False, True, False])
    inside, outside = found.rows(group), found.rows(~group)
    assert (inside.hits(1), inside.pairs, outside.hits(1), outside.pairs) == (2, 4, 0, 2)
    assert [found.of(k).hits(2) for k in (0, 1)] == [2, 1]


def test_nothing_to_count_is_no_exposure() -> None:
    nothing = Exposure(np.zeros((0, 2), np.int64))
    assert (nothing.pairs, nothing.hit_rate(5), nothing.ndcg(5)) == (0, 0, 0)


def test_ratio_adds_one_hit_to_both() -> None:
    assert ratio(0, 0) == 1 and ratio(99, 0) == 100 and ratio(9, 4) == 2


def test_lists_are_counted_over_all_and_by_group() -> None:
    """Lists of two: 6 5 | 2 3 | 6 4 | 2 4."""
    assert top_counts(ByCode(), REQUESTS, 2).tolist() == [0, 0, 2, 1, 2, 1, 2]
    by = top_counts_by(ByCode(), REQUESTS, 2, np.array([1, 0, 1, 0]))
    assert by.tolist() == [[0, 0, 2, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 2]]
    short = top_counts(ByCode(2), histories([1], []), 5)
    assert short.tolist() == [0, 1, 2] and short[PAD] == 0, "empty places of short lists are no items"


def test_ranks_of_each_are_those_of_every_target_asked_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tongtu.ranking.BLOCK_BYTES", 4 * 7 * 3)
    many = RequestBatch.of(REQUESTS * 5)
    together = ranks_of_each(ByCode(), many, TARGETS)
    alone = np.stack([target_ranks(ByCode(), many, np.full(len(many), target)) for target in TARGETS], axis=1)
    assert (together == alone).all() and (together == 7).any(), "a seen target is a miss"


def test_who_has_met_a_target() -> None:
    met = seen_by_users(np.array([1, 1, 3], np.int32), np.array([6, 2, 3], np.int32), 4, TARGETS)
    assert met.tolist() == [[False, False], [True, False], [False, False], [False, True]]
