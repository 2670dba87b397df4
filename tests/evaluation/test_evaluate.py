from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from follower import Follower, Lister, make_log
from hypothesis import given, settings
from hypothesis import strategies as st

from tongtu.core import PAD, FitOptions
from tongtu.data.dataset import Dataset
from tongtu.data.splits import Cases, leave_one_out
from tongtu.errors import DataError
from tongtu.evaluation.evaluate import evaluate, validator
from tongtu.evaluation.metrics import MISS
from tongtu.evaluation.slices import partitions
from tongtu.vocab import Vocab


def shuffled_vocab(data: Dataset, keep: int, seed: int = 0) -> tuple[Dataset, np.ndarray]:
    """The same log with only `keep` of its items, and these in another order; and the old code of each new one."""
    old = np.random.default_rng(seed).permutation(np.arange(1, data.items.size))[:keep]
    code = np.zeros(data.items.size, np.int32)
    code[old] = np.arange(1, keep + 1)
    events = data.keep_events(code[data.item] != PAD)
    return dataclasses.replace(events, items=Vocab(data.items.ids.gather(old - 1)), item=code[events.item], item_text=[""] * keep), old


def test_lists_and_scores_agree(log: Dataset) -> None:
    split = leave_one_out(log)
    model = Follower(Follower.Config(noise=0.01)).fit(split.train)  # noise: no ties
    scored, listed = evaluate(model, split.test, split.train), evaluate(Lister(model), split.test, split.train)
    assert np.array_equal(scored.lists, listed.lists)
    assert np.array_equal(np.where(scored.ranks > 50, MISS, scored.ranks), listed.ranks)
    assert scored.metrics == listed.metrics and scored.metrics["ndcg@10"] > 0.2


def test_ties_count_against_the_scorer(log: Dataset) -> None:
    split = leave_one_out(log)
    model = Follower().fit(split.train)
    model.table[:] = 1
    result = evaluate(model, split.test, split.train)
    unseen = len(log.items) - np.array([len(set(request.history)) for request in split.test.requests])
    assert np.array_equal(result.ranks, unseen)


def test_a_repeated_target_is_a_miss_unless_seen_items_may_be_recommended() -> None:
    log = make_log(repeats=True, items=6)
    for exclude in (True, False):
        split = leave_one_out(log, exclude_seen=exclude)
        seen = np.array([target in request.history for request, target in zip(split.test.requests, split.test.target, strict=True)])
        ranks = evaluate(Follower().fit(split.train), split.test, split.train).ranks
        assert seen.any()
        assert ((ranks == MISS) == (seen & exclude)).all()


def test_the_order_of_cases_changes_nothing_but_the_order(log: Dataset) -> None:
    split = leave_one_out(log)
    model = Follower().fit(split.train)
    order = np.random.default_rng(1).permutation(len(split.test))
    one, other = evaluate(model, split.test, split.train), evaluate(model, split.test.take(order), split.train)
    assert np.array_equal(one.ranks[order], other.ranks) and np.array_equal(one.lists[order], other.lists)
    assert one.metrics == pytest.approx(other.metrics)
    assert {way: {name: part["cases"] for name, part in parts.items()} for way, parts in one.slices.items()} == {
        way: {name: part["cases"] for name, part in parts.items()} for way, parts in other.slices.items()
    }


@settings(max_examples=10, deadline=None)
@given(keep=st.integers(12, 40), seed=st.integers(0, 1000))
def test_another_catalogue_is_asked_in_its_own_codes(keep: int, seed: int) -> None:
    log = make_log()
    split = leave_one_out(log)
    small, old = shuffled_vocab(split.train, keep, seed)
    model = Follower(Follower.Config(noise=0.01)).fit(small)
    found = evaluate(model, split.test, split.train)
    known = np.isin(split.test.target, old)
    assert found.counts["unknown_targets"] == (~known).sum()
    assert (found.ranks[~known] == MISS).all() and (found.ranks[known] <= keep).all()
    assert set(np.unique(found.lists)) <= {PAD, *old.tolist()}
    new = np.zeros(log.items.size, np.int32)
    new[old] = np.arange(1, keep + 1)
    requests = dataclasses.replace(split.test.requests, item=new[split.test.requests.item], user=None)
    there = evaluate(model, Cases(requests, new[split.test.target], split.test.user), small)
    assert np.array_equal(there.ranks[known], found.ranks[known])


def test_validator_gives_the_same_figures(log: Dataset) -> None:
    split = leave_one_out(log)
    model = Follower().fit(split.train, FitOptions())
    whole = validator(split.valid)(model)
    full = evaluate(model, split.valid, split.train).metrics
    assert whole == {name: pytest.approx(full[name]) for name in ("recall@10", "ndcg@10", "mrr@10")}
    few = validator(split.valid, max_users=5, seed=3)(model)
    assert few == validator(split.valid, max_users=5, seed=3)(model)
    assert few != whole


def test_slices_part_the_cases(log: Dataset) -> None:
    split = leave_one_out(log)
    result = evaluate(Follower().fit(split.train), split.test, split.train)
    assert set(result.slices) == {"history length", "target popularity", "target's training events", "gender"}  # every zip occurs once: no slice
    for parts in result.slices.values():
        assert sum(part["cases"] for part in parts.values()) == len(split.test)
        mean = sum(part["cases"] * part["ndcg@10"] for part in parts.values()) / len(split.test)
        assert mean == pytest.approx(result.metrics["ndcg@10"])
        assert all(low <= part["ndcg@10"] <= high for part in parts.values() for low, high in [part["interval"]["ndcg@10"]])
    names, part = partitions(split.test, split.train)["target popularity"]
    counts = split.train.item_counts[split.test.target]
    assert (counts[part == names.index("new")] == 0).all()
    assert counts[part == names.index("head")].min() >= counts[part == names.index("tail")].max()
    names, part = partitions(split.test, split.train)["target's training events"]
    assert {names[p] for p, n in zip(part, counts, strict=True) if 1 <= n <= 4} <= {"1-4"} and {names[p] for p in part[counts == 0]} <= {"0"}
    names, part = partitions(split.test, split.train)["history length"]
    assert {names[p] for p, n in zip(part, split.test.requests.lengths, strict=True) if 5 <= n <= 9} == {"5-9"}


def test_nothing_to_evaluate_is_said(log: Dataset) -> None:
    split = leave_one_out(log)
    none = split.test.take(np.zeros(0, np.int64))
    with pytest.raises(DataError, match="no case"):
        evaluate(Follower().fit(split.train), none, split.train)
    with pytest.raises(DataError, match="no validation case"):
        validator(none)
