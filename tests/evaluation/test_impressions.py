"""MIND's metrics by hand, and its protocol from files to figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mind_files import write_mind
from tongtu.core import FitOptions, Request
from tongtu.data.impressions import by_day
from tongtu.data.mind import read_mind
from tongtu.errors import ConfigError, DataError
from tongtu.evaluation.evaluate import evaluate, validator
from tongtu.evaluation.impressions import first_ranks, impression_metrics
from tongtu.evaluation.protocol import PROTOCOLS, protocol_from
from tongtu.systems.baselines.popular import Popular


def metrics(*impressions: tuple[list[float], list[int]]) -> dict[str, list[float]]:
    scores = np.concatenate([np.array(s, np.float32) for s, _ in impressions])
    clicked = np.concatenate([np.array(c, np.bool_) for _, c in impressions])
    offset = np.cumsum([0, *(len(s) for s, _ in impressions)])
    return {name: value.tolist() for name, value in impression_metrics(scores, clicked, offset).items()}


def test_two_clicks_by_hand() -> None:
    """Order: click, pass, pass, click. Pairs in order: 2 of 4. MRR: (1 + 1/4) / 2. NDCG: (1 + 1/log2 5) / (1 + 1/log2 3)."""
    found = metrics(([0.1, 0.9, 0.5, 0.7], [1, 1, 0, 0]))
    assert found["auc"] == [0.5]
    assert found["mrr"] == [0.625]
    whole = (1 + 1 / np.log2(5)) / (1 + 1 / np.log2(3))
    assert found["ndcg@5"] == found["ndcg@10"] == [pytest.approx(whole)]


def test_ties_count_half_for_auc_and_against_the_click_elsewhere() -> None:
    found = metrics(([0.5, 0.5, 0.1], [1, 0, 0]))
    assert found["auc"] == [0.75] and found["mrr"] == [0.5] and found["ndcg@5"] == [pytest.approx(1 / np.log2(3))]


def test_a_click_behind_the_cutoff_gains_nothing() -> None:
    found = metrics((list(range(7)), [1, 0, 0, 0, 0, 0, 0]))
    assert found["ndcg@5"] == [0] and found["ndcg@10"] == [pytest.approx(1 / np.log2(8))] and found["auc"] == [0]


def test_impressions_of_one_class_are_not_judged() -> None:
    found = metrics(([1, 2], [1, 1]), ([1, 2], [0, 1]), ([1, 2], [0, 0]))
    for values in found.values():
        assert np.isnan(values[0]) and np.isnan(values[2]) and values[1] == 1


def official(clicked: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]) -> dict[str, float]:
    """MIND's evaluation script, impression by impression, in its own words: sort, then sum."""
    order = np.argsort(scores)[::-1]
    hit = clicked[order].astype(float)
    mrr = (hit / (np.arange(len(hit)) + 1)).sum() / hit.sum()

    def dcg(labels: npt.NDArray[np.float64], k: int) -> float:
        return float(((2**labels[:k] - 1) / np.log2(np.arange(len(labels[:k])) + 2)).sum())

    ndcg = {f"ndcg@{k}": dcg(hit, k) / dcg(np.sort(hit)[::-1], k) for k in (5, 10)}
    auc = np.mean([a > b for a in scores[clicked] for b in scores[~clicked]])
    return {"auc": float(auc), "mrr": float(mrr), **ndcg}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=6), st.integers(0, 10_000))
def test_agrees_with_the_official_script(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [(rng.permutation(n).astype(np.float32), rng.permutation(np.arange(n) < rng.integers(1, n))) for n in lengths]
    offset = np.cumsum([0, *lengths])
    clicked, scores = np.concatenate([c for _, c in parts]), np.concatenate([s for s, _ in parts])
    found = impression_metrics(scores, clicked, offset)
    for number, (one, hits) in enumerate(parts):
        assert {name: value[number] for name, value in found.items()} == pytest.approx(official(hits, one))
    best = [1 + (s > s[c].max()).sum() for s, c in parts]
    assert first_ranks(scores, clicked, offset).tolist() == best


def test_the_last_day_is_the_test(tmp_path: Path) -> None:
    data, _ = read_mind("mind", write_mind(tmp_path), tmp_path, True)
    split = by_day(data)
    assert data.impressions is not None and data.impressions.time is not None and split.train.impressions is not None
    days = data.impressions.time // 86_400
    assert len(split.test) == (days == days.max()).sum() and len(split.valid) == (days == days.max() - 1).sum()
    assert len(split.train.impressions.user) == (days < days.max() - 1).sum()
    assert split.test.requests.lengths.tolist() == data.impressions.seen[days == days.max()].tolist()
    early = data.impressions.seen[(days < days.max() - 1) & (data.impressions.user == 1)]
    assert split.train.lengths[0] == early.max(initial=0)


class Teller:
    """Knows what will be clicked; tells scores or only lists."""

    def __init__(self, data: object, cases: object) -> None:
        self.items, self.config, self._cases = data.items, None, cases  # type: ignore[attr-defined]
        self._wanted = np.zeros(self.items.size, np.float32)
        np.add.at(self._wanted, cases.shown[cases.clicked], 1)  # type: ignore[attr-defined]

    def recommend(self, requests: list[Request], k: int) -> object:
        from tongtu.ranking import top_k

        return top_k(Scores(self), requests, k)


class Scores(Teller):
    def __init__(self, teller: Teller) -> None:
        self.items, self._wanted = teller.items, teller._wanted

    def score(self, requests: list[Request], items: slice) -> npt.NDArray[np.float32]:
        return np.tile(self._wanted[items] + np.linspace(0, 0.1, self.items.size, dtype=np.float32)[items], (len(requests), 1))


def test_scorers_and_list_makers_are_judged_alike(tmp_path: Path) -> None:
    data, _ = read_mind("mind", write_mind(tmp_path), tmp_path, True)
    split = by_day(data)
    lists = Teller(data, split.test)
    one, other = (evaluate(system, split.test, split.train) for system in (lists, Scores(lists)))  # type: ignore[arg-type]
    assert one.metrics == pytest.approx(other.metrics) and one.metrics["auc"] > 0.8
    assert set(one.interval) == {"auc", "mrr", "ndcg@5", "ndcg@10"}
    assert one.interval["auc"][0] <= one.metrics["auc"] <= one.interval["auc"][1]
    assert np.array_equal(one.ranks, other.ranks)
    assert validator(split.valid)(Scores(lists)).keys() == one.interval.keys()  # type: ignore[arg-type]


def test_an_item_the_model_does_not_know_comes_last(tmp_path: Path) -> None:
    data, _ = read_mind("mind", write_mind(tmp_path), tmp_path, True)
    split = by_day(data)
    other = Popular().fit(split.train, FitOptions())
    other.items = type(data.items)(data.items.ids[: len(data.items) // 2])
    other._counts = other._counts[:, : other.items.size]
    found = evaluate(other, split.test, split.train)
    assert found.counts["unknown_targets"] > 0 and 0 <= found.metrics["auc"] <= 1


def test_what_does_not_go_with_impressions_is_refused(tmp_path: Path) -> None:
    data, _ = read_mind("mind", write_mind(tmp_path), tmp_path, True)
    with pytest.raises(ConfigError, match="new_items does not go with impressions"):
        protocol_from({"name": "mind", "new_items": 0.1}).split(data)
    with pytest.raises(ConfigError, match="wish does not go with impressions, which have several targets"):
        protocol_from({"name": "mind", "wish": "vague"}).split(data)
    with pytest.raises(DataError, match=r"no impressions with times.*choose leave-one-out"):
        PROTOCOLS["mind"].split(data.keep_events(np.ones(data.n_events, np.bool_)))
    rule = PROTOCOLS["mind"]
    learned = rule.without_test(data)
    assert learned.impressions is not None and len(learned.impressions.user) > 0
    assert json.dumps(rule.fingerprint(data))
