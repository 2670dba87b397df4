"""Popular in the group: what users with the same attributes met most often, backed off to larger groups where few of them are known.

Idea: the chance of an item among users who agree in all attributes, smoothed towards the mean of its chances among those who agree in one,
and these towards everybody's; `shrink` events of the larger group count as much as what the smaller one met. Who tells some attributes
gets the groups of those, and who tells none gets what is popular.

Ours differs from `popular` with `attribute` in that several attributes count, and that small groups are not taken at their word.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import FitOptions, Request, RequestBatch, Scores, TopK
from tongtu.data.attributes import AttributeCodes, AttributeReader
from tongtu.ranking import top_k
from tongtu.systems.baselines._histories import first_events, require_events

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from tongtu.data.dataset import Dataset
    from tongtu.vocab import Vocab

_PARTS = ("data", "indices", "indptr")


class GroupPopular:
    """Popularity by all attributes at once; see the module's text."""

    @configuration
    class Config:
        """Settings of popularity by group.

        Attributes:
            attributes: User attributes that make groups; None takes all that most users have.
            buckets: Parts into which an attribute with many numbers is cut.
            shrink: Events of the larger group that count as much as those of the smaller.
            first: Only each user's first so many events count, which is what new users meet; None counts all.
        """

        attributes: tuple[str, ...] | None = None
        buckets: Annotated[int, Field(ge=2)] = 10
        shrink: Annotated[float, Field(gt=0)] = 1000.0
        first: Annotated[int, Field(ge=1)] | None = None

    items: Vocab
    item_text: pl.Series | None

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions | None = None) -> Self:
        """Count."""
        started = time.perf_counter()
        require_events(data)
        self.items, self.item_text = data.items, data.item_text
        self.reader = AttributeReader.learn(data, self.config.attributes, self.config.buckets)
        data = first_events(data, self.config.first)
        profile, sizes = self.reader.of_users(data), self.reader.sizes
        self._profiles, group = np.unique(profile, axis=0, return_inverse=True)
        nobody = np.append((self._profiles == 0).all(axis=1), True)  # behind the groups, the one that nobody is in
        self._groups = _counts(data, group.reshape(-1), len(nobody), nobody)
        first = np.cumsum([0, *sizes[:-1]])
        self._values = _counts(data, profile + first, sum(sizes), np.isin(np.arange(sum(sizes)), first))
        self._overall = (data.item_counts / data.n_events).astype(np.float32)
        self.provenance = {
            "seed": options.seed if options else 0,
            "fit_seconds": time.perf_counter() - started,
            "parameters": self._groups.nnz + self._values.nnz + len(self._overall),
        }
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Smoothed chances float32[n, width] of the items with codes in `items`."""
        profiles, row = np.unique(self.reader.of_requests(RequestBatch.of(requests)), axis=0, return_inverse=True)
        scores: Scores = self._chances(profiles, items)[row.reshape(-1)]
        return scores

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder."""
        tables = {**_saved("groups", self._groups), **_saved("values", self._values)}
        hub.save(path, self, {**tables, "profiles": self._profiles, "overall": self._overall}, {"attributes": self.reader.facts()})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.item_text = folder.items, folder.item_text
        system.reader = AttributeReader.restore(folder.facts["attributes"])
        system._profiles, system._overall = folder.arrays["profiles"], folder.arrays["overall"]
        system._groups, system._values = _restored(folder, "groups"), _restored(folder, "values")
        system.provenance = dict(folder.facts["provenance"])
        return system

    def _chances(self, profiles: AttributeCodes, items: slice) -> Scores:
        """Chances [profiles, width]: everybody's, refined by each attribute, their mean refined by all attributes together."""
        everybody = self._overall[None, items]
        first = np.cumsum([0, *self.reader.sizes[:-1]])
        by_value = [self._refined(self._values, place + codes, everybody, items) for place, codes in zip(first, profiles.T, strict=True)]
        place = {tuple(profile): row for row, profile in enumerate(self._profiles.tolist())}
        group = np.array([place.get(tuple(profile), len(place)) for profile in profiles.tolist()])
        return self._refined(self._groups, group, np.mean(by_value, axis=0), items)

    def _refined(self, counts: csr_array, row: npt.NDArray[np.int64], larger: Scores, items: slice) -> Scores:
        """The chances of a group's items, smoothed towards those of a larger group."""
        met, shrink = counts[row], np.float32(self.config.shrink)
        chances: Scores = (met[:, items].toarray() + shrink * larger) / (met.sum(axis=1)[:, None] + shrink)
        return chances


def _counts(data: Dataset, rows: AttributeCodes, size: int, unknown: npt.NDArray[np.bool_]) -> csr_array:
    """float32[size, items.size], the events of the users of each row; `rows` [users, m] says in which rows a user counts. Rows of `unknown` stay empty."""
    columns = rows.reshape(len(rows), -1).shape[1]
    row = rows.reshape(len(rows), columns)[data.event_user - 1].T.reshape(-1)
    item = np.tile(data.item, columns)
    known = ~unknown[row]
    counts = csr_array((np.ones(int(known.sum()), np.float32), (row[known], item[known])), shape=(size, data.items.size))
    counts.sum_duplicates()
    return counts


def _saved(name: str, table: csr_array) -> dict[str, npt.NDArray[Any]]:
    return {f"{name}.{part}": getattr(table, part) for part in _PARTS}


def _restored(folder: hub.ModelFolder, name: str) -> csr_array:
    offsets = folder.arrays[f"{name}.indptr"]
    return csr_array(tuple(folder.arrays[f"{name}.{part}"] for part in _PARTS), shape=(len(offsets) - 1, folder.items.size))
