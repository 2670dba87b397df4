"""UserKNN: what the most similar users met, by history and by attributes, so that a user without history has neighbours too.

Paper: Herlocker et al., "An algorithmic framework for performing collaborative filtering" (SIGIR 1999), for neighbours by history.

How ours differs: similarity is the cosine of the histories plus `attribute_weight` times the share of the request's known attributes that agree,
the rarer a value the more; events count once and have no ratings; all users as similar as the last neighbour are neighbours. Users who are known
in another data set (`source_data`) are besides as similar as they are there, by their histories or by a model's vectors.
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
from tongtu.systems.baselines._elsewhere import users_elsewhere
from tongtu.systems.baselines._histories import first_events, history_matrix, popularity_share, user_item_matrix

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from tongtu.core import Codes, Offsets
    from tongtu.data.dataset import Dataset
    from tongtu.vocab import Vocab

_AT_ONCE = 1 << 23  # similarities held at a time
_PARTS = ("data", "indices", "indptr")


class UserKNN:
    """Nearest users by history and attributes; see the module's text."""

    @configuration
    class Config:
        """Settings of UserKNN.

        Attributes:
            neighbours: Users whose events are counted; more where the last ones are equally similar.
            attribute_weight: Of agreeing attributes beside the histories' cosine.
            attributes: User attributes to read; None takes all that most users have.
            buckets: Parts into which an attribute with many numbers is cut.
            source_data: Another data set, a folder or a public name: the cosine of what two users are there counts as much as that of their
                histories here. Users are the same where their ids are.
            source: A model folder fitted on that data set, whose vectors of users are compared; None compares their histories there.
            first: Only each neighbour's first so many events are counted, which is what new users meet; None counts all.
            popularity: How much the most popular item gets beside the similarities of its neighbours; a little decides between equals only.
        """

        neighbours: Annotated[int, Field(ge=1)] = 100
        attribute_weight: Annotated[float, Field(ge=0)] = 0.3
        attributes: tuple[str, ...] | None = None
        buckets: Annotated[int, Field(ge=2)] = 10
        source_data: str | None = None
        source: str | None = None
        first: Annotated[int, Field(ge=1)] | None = None
        popularity: Annotated[float, Field(gt=0)] = 1e-3

        def __post_init__(self) -> None:
            if self.source is not None and self.source_data is None:
                raise ValueError("source needs the data set it was fitted on: give source_data, or leave source out")

    items: Vocab
    item_text: pl.Series | None

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions | None = None) -> Self:
        """Keep every user's items and attributes."""
        started = time.perf_counter()
        met, given = user_item_matrix(data), first_events(data, self.config.first)
        self.items, self.item_text, self.counts = data.items, data.item_text, given.item_counts
        self.reader = AttributeReader.learn(data, self.config.attributes, self.config.buckets)
        active = np.flatnonzero(data.lengths)
        there = csr_array((data.users.size, 0), dtype=np.float32)
        if self.config.source_data is not None:
            there = users_elsewhere(data, self.config.source_data, self.config.source)
        self._set(met[active], user_item_matrix(given)[active], self.reader.of_users(data)[active], (there, active + 1))
        seed = options.seed if options else 0
        self.provenance = {"seed": seed, "fit_seconds": time.perf_counter() - started, "parameters": int(met.nnz + self._profile.size)}
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Summed similarities float32[n, width] of the neighbours who met each item; popularity decides between equals and where nobody is similar."""
        batch = RequestBatch.of(requests)
        profile, history, there = self.reader.of_requests(batch), history_matrix(batch, self.items.size), self._there[self._known(batch)]
        scores = np.repeat(np.float32(self.config.popularity) * popularity_share(self.counts)[None, items], len(batch), 0)
        rows = max(1, _AT_ONCE // self._met.shape[0])
        for first in range(0, len(batch), rows):
            part = slice(first, first + rows)
            near = self._nearest(self._similar(history[part], profile[part], there[part]))
            scores[part] += (csr_array(near) @ self._given[:, items]).toarray()
        return scores

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder."""
        arrays = {"item": self._met.indices, "offset": self._met.indptr, "profile": self._profile, "counts": self.counts, "users": self._users}
        if self.config.first is not None:
            arrays |= {"given.item": self._given.indices, "given.offset": self._given.indptr}
        there = {f"there.{part}": getattr(self._there, part) for part in _PARTS}
        hub.save(path, self, {**arrays, **there}, {"attributes": self.reader.facts(), "there": self._there.shape[1]})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.item_text, system.counts = folder.items, folder.item_text, folder.arrays["counts"]
        system.reader = AttributeReader.restore(folder.facts["attributes"])
        met = given = _ones(folder.arrays["item"], folder.arrays["offset"], system.items.size)
        if system.config.first is not None:
            given = _ones(folder.arrays["given.item"], folder.arrays["given.offset"], system.items.size)
        parts = [folder.arrays[f"there.{part}"] for part in _PARTS]
        there = csr_array(tuple(parts), shape=(len(parts[-1]) - 1, folder.facts["there"]))
        system._set(met, given, folder.arrays["profile"], (there, folder.arrays["users"]))
        system.provenance = dict(folder.facts["provenance"])
        return system

    def _set(self, met: csr_array, given: csr_array, profile: AttributeCodes, elsewhere: tuple[csr_array, Offsets]) -> None:
        self._met, self._given, self._profile, (there, users) = met, given, profile, elsewhere
        self._there, self._users = there, users
        self._there_by_width = csr_array(there[users].T)
        length: Offsets = np.diff(met.indptr)
        self._by_item = csr_array((met * (1 / np.sqrt(np.maximum(length, 1)))[:, None].astype(np.float32)).T)
        # how much it says to agree in a value: the logarithm of how rare it is
        self._says = [
            np.log(len(profile) / np.maximum(np.bincount(codes, minlength=size), 1)).astype(np.float32)
            for codes, size in zip(profile.T, self.reader.sizes, strict=True)
        ]

    def _known(self, requests: RequestBatch) -> Offsets:
        """int64[n], the rows of the other data set's users; row 0 is empty."""
        user = np.zeros(len(requests), np.int64) if requests.user is None else requests.user
        return np.where(user < self._there.shape[0], user, 0)

    def _similar(self, history: csr_array, profile: AttributeCodes, there: csr_array) -> Scores:
        """Similarities float32[n, users]."""
        length = np.sqrt(np.maximum(np.diff(history.indptr), 1)).astype(np.float32)
        similar: Scores = (history @ self._by_item).toarray() / length[:, None]
        if self.config.source_data is not None:
            similar += (there @ self._there_by_width).toarray()
        agree, known = np.zeros_like(similar), np.full((len(profile), 1), 1e-9, np.float32)
        for own, codes, says in zip(profile.T, self._profile.T, self._says, strict=True):
            worth = np.where(own > 0, says[own], 0)[:, None]
            agree += worth * (own[:, None] == codes)
            known += worth
        return similar + np.float32(self.config.attribute_weight) * agree / known

    def _nearest(self, similar: Scores) -> Scores:
        """The similarities of the nearest users, 0 for all others."""
        most = self.config.neighbours
        if most >= similar.shape[1]:
            return similar
        least: npt.NDArray[np.float32] = np.partition(similar, -most, axis=1)[:, -most, None]
        return np.where(similar >= least, similar, np.float32(0))


def _ones(item: Codes, offset: Offsets, size: int) -> csr_array:
    """Who met what, from its parts."""
    return csr_array((np.ones(len(item), np.float32), item, offset), shape=(len(offset) - 1, size))
