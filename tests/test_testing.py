"""The contract notices what it promises to notice: each class below breaks one promise."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tongtu.core import FitOptions, Recommender, Request, RequestBatch, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import taste_world
from tongtu.systems.baselines.itemknn import ItemKNN
from tongtu.systems.baselines.popular import Popular
from tongtu.testing import check_learns, check_recommender


class Sound(Popular):
    """Keeps every promise."""


class ForgetsToReturn(Popular):
    def fit(self, data: Dataset, options: FitOptions | None = None) -> Any:
        super().fit(data, options)


class KeepsNoFacts(Popular):
    def fit(self, data: Dataset, options: FitOptions | None = None) -> Any:
        super().fit(data, options).provenance.clear()
        return self


class SortsTheData(Popular):
    def fit(self, data: Dataset, options: FitOptions | None = None) -> Any:
        data.item.sort()
        return super().fit(data, options)


class Changes(Popular):
    """Changes its answers by `change`."""

    def change(self, items: Any, scores: Any, requests: Sequence[Request]) -> tuple[Any, Any]:
        return items, scores

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        answer = super().recommend(requests, k)
        return TopK(*self.change(answer.items.copy(), answer.scores.copy(), requests))


class WorstFirst(Changes):
    def change(self, items: Any, scores: Any, requests: Sequence[Request]) -> tuple[Any, Any]:
        return items[:, ::-1], scores[:, ::-1]


class WideScores(Changes):
    def change(self, items: Any, scores: Any, requests: Sequence[Request]) -> tuple[Any, Any]:
        return items, scores.astype(np.float64)


class RepeatsItself(Changes):
    def change(self, items: Any, scores: Any, requests: Sequence[Request]) -> tuple[Any, Any]:
        items[:, 1:2] = items[:, :1]
        return items, scores


class ShortAnswer(Changes):
    def change(self, items: Any, scores: Any, requests: Sequence[Request]) -> tuple[Any, Any]:
        real = (items > 0).all(axis=0)
        return items[:, real], scores[:, real]


class OtherScores(Changes):
    def change(self, items: Any, scores: Any, requests: Sequence[Request]) -> tuple[Any, Any]:
        return items, scores * np.float32(2)


class Silent(Changes):
    def change(self, items: Any, scores: Any, requests: Sequence[Request]) -> tuple[Any, Any]:
        empty = np.array([len(r.history) == 0 for r in requests], np.bool_)
        items[empty], scores[empty] = 0, -np.inf
        return items, scores


class Ignores(Popular):
    """Ignores one field of the request."""

    field = ""

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        default = getattr(Request(), self.field)
        return super().recommend([dataclasses.replace(r, **{self.field: default}) for r in requests], k)


class IgnoresCandidates(Ignores):
    field = "candidates"


class IgnoresHistory(Ignores):
    field = "history"


class AlwaysExcludes(Ignores):
    field = "exclude_seen"


class LooksAtNeighbours(ItemKNN):
    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        scores = super().score(requests, items)
        return scores - scores.mean(axis=0) * np.float32(0.1)


class Restless(Popular):
    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        batch = RequestBatch.of(requests)
        return super().score(batch, items) + np.random.default_rng().random((len(batch), 1)).astype(np.float32)


class Unseeded(Popular):
    def fit(self, data: Dataset, options: FitOptions | None = None) -> Any:
        super().fit(data, options)
        self._counts = self._counts + np.random.default_rng().random(self._counts.shape).astype(np.float32)
        return self


class SlicesWrongly(Popular):
    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        scores = super().score(requests, items)
        return scores / scores.max(initial=1)


class Represented(Popular):
    """Has a vector for each user: the counts of the items of their history, changed by `shift`."""

    def shift(self, vectors: Any, batch: RequestBatch) -> Any:
        return vectors

    def user_vectors(self, requests: Sequence[Request]) -> Scores:
        batch = RequestBatch.of(requests)
        row, place = batch.events()
        counts = np.zeros((len(batch), self.items.size), np.float32)
        np.add.at(counts, (row, batch.item[place]), 1)
        counts[:, 0] = 0
        shifted: Scores = self.shift(counts, batch)
        return shifted


class WideVectors(Represented):
    def shift(self, vectors: Any, batch: RequestBatch) -> Any:
        return vectors.astype(np.float64)


class EndlessVectors(Represented):
    def shift(self, vectors: Any, batch: RequestBatch) -> Any:
        return np.divide(vectors, vectors.sum(1, keepdims=True), where=vectors.sum(1, keepdims=True) > 0, out=np.full_like(vectors, np.nan))


class CentredVectors(Represented):
    def shift(self, vectors: Any, batch: RequestBatch) -> Any:
        return vectors - vectors.mean(axis=0) if len(vectors) else vectors


class VectorsOfLimits(Represented):
    def shift(self, vectors: Any, batch: RequestBatch) -> Any:
        return vectors * np.where(batch.exclude_seen, 1, 0.5).astype(np.float32)[:, None]


class VectorsOfLength(Represented):
    def shift(self, vectors: Any, batch: RequestBatch) -> Any:
        return vectors + batch.lengths.astype(np.float32)[:, None]


class VectorsStay(Represented):
    def save_pretrained(self, path: Path) -> None:
        super().save_pretrained(path)
        self.saved = True

    def shift(self, vectors: Any, batch: RequestBatch) -> Any:
        return vectors * np.float32(2 if hasattr(self, "saved") else 1)


class Pickles(Popular):
    def save_pretrained(self, path: Path) -> None:
        super().save_pretrained(path)
        (path / "more.json").write_bytes(pickle.dumps({}))


class Careless(Popular):
    @classmethod
    def from_pretrained(cls, path: Path) -> Any:
        (path / "MANIFEST.json").read_bytes()
        system = cls()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tongtu.hub.check_manifest", lambda *_, **__: None)
            opened = super().from_pretrained(path)
        system.__dict__.update(opened.__dict__)
        return system


class LearnsFromNothing(Popular):
    def fit(self, data: Dataset, options: FitOptions | None = None) -> Any:
        if data.n_events:
            return super().fit(data, options)
        self.items = data.items
        return self


BROKEN: list[tuple[type[Recommender], str]] = [
    (ForgetsToReturn, "must return the recommender itself"),
    (KeepsNoFacts, "provenance"),
    (WorstFirst, "PAD may stand only at the end|sorted"),
    (WideScores, "scores float32"),
    (RepeatsItself, "twice"),
    (ShortAnswer, "arrays of shape"),
    (OtherScores, "the scores that `score` gives"),
    (Silent, r"must get an answer|must be listed, got \[\]"),
    (IgnoresCandidates, "all and nothing else must be listed"),
    (IgnoresHistory, "no item of the history"),
    (AlwaysExcludes, "exclude_seen=False"),
    (LooksAtNeighbours, "alone and in a batch"),
    (Restless, "alone and in a batch|same answer twice|scores that `score` gives"),
    (Unseeded, "same seed"),
    (SlicesWrongly, "must agree with the whole"),
    (WideVectors, "user_vectors must give float32"),
    (EndlessVectors, "user vectors must be finite"),
    (CentredVectors, "the same alone and in a batch"),
    (VectorsOfLimits, "must not change a user's vector"),
    (VectorsOfLength, "the vector of an empty one"),
    (VectorsStay, "identical user vectors"),
    (Pickles, "must list more.json|could be a pickle"),
    (Careless, "must be refused with ModelError"),
    (LearnsFromNothing, "without events must be refused"),
]


@pytest.mark.parametrize("kind", [Sound, Represented])
def test_a_sound_recommender_passes(kind: type[Recommender]) -> None:
    check_recommender(kind)


@pytest.mark.parametrize(("kind", "told"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_promise_is_told(kind: type[Recommender], told: str) -> None:
    with pytest.raises(AssertionError, match=told) as caught:
        check_recommender(kind)
    assert str(caught.value).startswith(kind.__name__)


def test_the_data_cannot_be_written_during_a_fit() -> None:
    with pytest.raises(ValueError, match="read-only"):
        check_recommender(SortsTheData)


def test_popular_does_not_beat_itself() -> None:
    with pytest.raises(AssertionError, match=r"Popular reaches NDCG@10 .* must reach 1.5 times"):
        check_learns(Popular, lambda seed: taste_world(users=60, items=30, seed=seed))
    with pytest.raises(AssertionError, match="intervals must not meet"):
        check_learns(Popular, lambda seed: taste_world(users=60, items=30, seed=seed), factor=1.0)
    assert check_learns(partial(ItemKNN, ItemKNN.Config(neighbours=20)), lambda seed: taste_world(seed=seed))[0] > 0.3
