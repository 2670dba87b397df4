"""A small log, and a recommender that is not one of Tongtu's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from tongtu.config import configuration
from tongtu.core import FitOptions, Request, RequestBatch, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.files import new_folder
from tongtu.ranking import top_k
from tongtu.vocab import Vocab


def make_log(users: int = 60, items: int = 40, seed: int = 0, repeats: bool = False) -> Dataset:
    """A log in which popular items are met more often and item i is often followed by i + 1; users have a gender, items two categories, and times rise."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(users):
        length = int(rng.integers(3, 12))
        start = int(items * rng.random() ** 2)
        walk = (start + np.cumsum(rng.integers(1, 3, length))) % items + 1
        rows.append(walk if repeats else walk[np.sort(np.unique(walk, return_index=True)[1])])
    lengths = np.array([len(row) for row in rows])
    event = np.concatenate(rows).astype(np.int32)
    time = 1_000_000 + rng.permutation(len(event)) // 2
    owner = np.repeat(np.arange(users), lengths)
    return Dataset(
        name="walks",
        users=Vocab([f"u{n}" for n in range(users)]),
        items=Vocab([f"i{n}" for n in range(items)]),
        item=event,
        offset=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        time=time[np.lexsort((time, owner))],
        item_text=pl.Series("text", [f"item number {n}" for n in range(items)]),
        item_fields=pl.DataFrame({"categories": [[f"hall {'ABCD'[n % 4]}", f"shelf {'LMNOP'[n % 5]}"] for n in range(items)]}),
        user_attributes=pl.DataFrame({"gender": ["F" if n % 3 else "M" for n in range(users)], "zip": [str(n) for n in range(users)]}),
    )


class Follower:
    """Counts which item follows which: the next item's score is how often it came after the last one, and a little noise of the seed."""

    @configuration
    class Config:
        noise: float = 0.0

    items: Vocab

    def __init__(self, config: Any = None) -> None:
        self.config = config or self.Config()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008
        size = data.items.size
        self.items = data.items
        inner = data.event_user[1:] == data.event_user[:-1]
        pair = (data.item[:-1].astype(np.int64) * size + data.item[1:])[inner]
        self.table = np.bincount(pair, minlength=size * size).reshape(size, size).astype(np.float32)
        self.table += np.random.default_rng(options.seed).random((size, size), np.float32) * self.config.noise
        self.provenance = {"seed": options.seed, "fit_seconds": 0.0, "parameters": size * size}
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        batch = RequestBatch.of(requests)
        last = np.where(batch.lengths > 0, batch.item[np.maximum(batch.stop - 1, 0)], 0)
        return self.table[last][:, items]

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        return top_k(self, requests, k)

    def save_pretrained(self, path: Path) -> None:
        with new_folder(path) as folder:
            np.save(folder / "table.npy", self.table)
            (folder / "items.json").write_text(json.dumps(self.items.ids.to_list()))

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        system = cls()
        system.table = np.load(path / "table.npy")
        system.items = Vocab(json.loads((path / "items.json").read_text()))
        return system


class Lister:
    """A recommender that only gives lists: those of another one."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.items, self.config = inner, inner.items, inner.config

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        found: TopK = self.inner.recommend(requests, k)
        return found


class Table:
    """Scores read from a table float32[users, items + 1]: request i is asked by user i + 1."""

    def __init__(self, scores: Any) -> None:
        self.scores = np.asarray(scores, np.float32)
        self.items = Vocab([f"i{c}" for c in range(1, self.scores.shape[1])])

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        user = RequestBatch.of(requests).user
        assert user is not None
        return self.scores[user - 1, items]
