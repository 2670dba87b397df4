from __future__ import annotations

import dataclasses
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from follower import Follower, make_log

from tongtu.core import Request, RequestBatch
from tongtu.data.dataset import Dataset
from tongtu.data.splits import Cases, leave_one_out
from tongtu.data.wishes import item_categories
from tongtu.errors import DataError
from tongtu.evaluation.evaluate import evaluate
from tongtu.evaluation.variety import category_metrics
from tongtu.vocab import Vocab

KINDS = [["make-up", "lips"], ["make-up", "eyes"], ["hair"], None, ["make-up", "lips"], ["hair", "men"]]


def shop() -> Dataset:
    """Item 4 has no category."""
    items = Vocab([f"i{n}" for n in range(1, 7)])
    fields = pl.DataFrame({"categories": pl.Series(KINDS, dtype=pl.List(pl.String))})
    return Dataset("shop", Vocab(["u"]), items, np.array([1], np.int32), np.array([0, 1]), item_text=pl.Series("text", [""] * 6), item_fields=fields)


def cases(histories: list[list[int]], targets: list[int]) -> Cases:
    requests = RequestBatch.of([Request(history=np.array(one, np.int32)) for one in histories])
    return Cases(requests, np.array(targets, np.int32), np.arange(1, len(targets) + 1, dtype=np.int32))


def test_worked_by_hand() -> None:
    lists = np.array([[1, 2, 3], [1, 5, 0], [4, 3, 4], [0, 0, 0], [6, 1, 2]], np.int32)
    asked = cases([[1], [0, 3], [4], [2], [3, 3]], [6, 4, 4, 2, 5])
    found = category_metrics(lists, asked, item_categories(shop()), (2, 3))
    # lips and eyes share one of three; make-up and hair nothing
    assert found["category_diversity@3"] == pytest.approx([(2 / 3 + 1 + 1) / 3, 0, 0, 0, (1 + 1 + 2 / 3) / 3])
    assert found["category_diversity@2"] == pytest.approx([2 / 3, 0, 0, 0, 1])
    # interests: make-up, lips, hair, men; hair; none; make-up, eyes; hair, make-up, lips
    assert found["category_coverage@3"] == pytest.approx([3 / 4, 0, 0, 0, 1])
    assert found["category_coverage@2"] == pytest.approx([2 / 4, 0, 0, 0, 1])


def test_agrees_with_a_plain_count() -> None:
    log = make_log()
    split = leave_one_out(log)
    kinds = item_categories(log)
    lists = np.random.default_rng(0).integers(1, 41, (len(split.test), 10)).astype(np.int32)
    found = category_metrics(lists, split.test, kinds)
    for row, (request, target) in enumerate(zip(split.test.requests, split.test.target, strict=True)):
        sets = [set(kinds.of(int(code))) for code in lists[row]]
        far = [1 - len(a & b) / len(a | b) for a, b in combinations(sets, 2)]
        wanted = set().union(*(kinds.of(int(code)) for code in [*request.history, target]))
        assert found["category_diversity@10"][row] == pytest.approx(np.mean(far))
        assert found["category_coverage@10"][row] == pytest.approx(len(set().union(*sets) & wanted) / len(wanted))


def test_they_are_measured_where_a_field_is_named() -> None:
    log = make_log()
    split = leave_one_out(log)
    model = Follower().fit(split.train)
    plain, by_category = evaluate(model, split.test, split.train), evaluate(model, split.test, split.train, categories="categories")
    added = {f"category_{name}@{k}" for name in ("diversity", "coverage") for k in (5, 10)}
    assert set(by_category.metrics) - set(plain.metrics) == set(by_category.interval) - set(plain.interval) == added
    assert all(low <= by_category.metrics[name] <= high for name in added for low, high in [by_category.interval[name]])
    assert plain.metrics == {name: value for name, value in by_category.metrics.items() if name not in added}
    with pytest.raises(DataError, match="no item field 'brand'"):
        evaluate(model, split.test, split.train, categories="brand")
    with pytest.raises(DataError, match="categories"):
        evaluate(model, split.test, dataclasses.replace(split.train, item_fields=pl.DataFrame()), categories="categories")
