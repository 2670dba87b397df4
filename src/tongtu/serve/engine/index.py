"""The best items of a model whose scores are products of vectors: exactly, or by an approximate index where the catalogue is large.

A user's vector is kept for as long as others do not push it out, so that who asks again, say with other limits, costs one product.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from tongtu.core import PAD, Codes, Indexable, Recommender, Request, RequestBatch, Scores, TopK
from tongtu.ranking import top_k
from tongtu.serve.engine.approximate import Approximate

_STATES = 10_000
_ACROSS = 64 << 20  # bytes up to which a copy of the vectors lies by columns: one product then takes half the time, while others share the mapped rows
_SAMPLE = 256
_LONGEST_SAMPLE = 5


class VectorIndex:
    """Answers like the recommender it is made of, whose items it never scores one by one.

    Args:
        system: The recommender.
        vectors: float32[items.size, width], its item vectors.
        approximate: An index of them, or None to score them all.
    """

    def __init__(self, system: Any, vectors: Scores, approximate: Approximate | None = None) -> None:
        self.system, self.items = system, system.items
        self.approximate = approximate
        self._rows = vectors
        self._columns = np.ascontiguousarray(vectors.T) if vectors.nbytes <= _ACROSS else vectors.T
        self._length = np.maximum(np.sqrt(np.einsum("id,id->i", vectors, vectors)), np.finfo(np.float32).tiny)
        self._states: OrderedDict[tuple[object, ...], Scores] = OrderedDict()

    @classmethod
    def of(cls, system: Recommender, ann_above: int) -> Self | None:
        """The index of a recommender, None where its scores are no products.

        Args:
            system: The recommender.
            ann_above: Items from which on the index is approximate, if it can be without missing much.

        Raises:
            MissingExtra: If the package for that is absent.
        """
        if not isinstance(system, Indexable):
            return None
        vectors = np.require(system.item_vectors(), np.float32, ["C"])
        approximate = None
        if len(system.items) > ann_above:
            approximate = Approximate.of(vectors, system.query_vectors(_sample(len(system.items))))
        return cls(system, vectors, approximate)

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """See `Recommender`."""
        queries = self._queries(requests)
        known = queries.any(axis=1)
        if not known.any():
            return self.system.recommend(requests, k)  # type: ignore[no-any-return]
        if known.all():
            return self._best(requests, queries, k)
        items, scores = np.full((len(requests), k), PAD, np.int32), np.full((len(requests), k), -np.inf, np.float32)
        for here in (known, ~known):
            rows = np.flatnonzero(here)
            part = [requests[int(row)] for row in rows]
            top = self._best(part, queries[rows], k) if here is known else self.system.recommend(part, k)
            items[rows], scores[rows] = top.items, top.scores
        return TopK(items, scores)

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """See `Scorer`; zeros for requests of which nothing is known."""
        scores: Scores = self._queries(requests) @ self._columns[:, items]
        return scores

    def products(self, requests: Sequence[Request], codes: Codes) -> Scores:
        """float32[n, len(codes)], the scores of some items; 0 for requests of which nothing is known."""
        found: Scores = self._queries(requests) @ self._rows[codes].T
        return found

    def nearest(self, code: int, k: int) -> tuple[Codes, Scores]:
        """Codes and cosines of the `k` items whose vectors point most nearly in the direction of one item's, best first."""
        likeness = (self._rows[code] @ self._columns) / (self._length * self._length[code])
        likeness[[PAD, code]] = -np.inf
        best = np.argpartition(-likeness, min(k, len(likeness) - 1))[:k]
        best = best[np.lexsort((best, -likeness[best]))]
        best = best[np.isfinite(likeness[best])]
        return best.astype(np.int32), likeness[best]

    def directions(self, codes: Codes) -> Scores:
        """float32[n, width], the vectors of some items, brought to length 1."""
        vectors: Scores = self._rows[codes] / self._length[codes, None]
        return vectors

    def _best(self, requests: Sequence[Request], queries: Scores, k: int) -> TopK:
        if self.approximate is None:
            return top_k(self, requests, k)
        skipped = [np.unique(one.history) if one.exclude_seen else one.history[:0] for one in requests]
        codes, scores = self.approximate.search(queries, k + max(len(one) for one in skipped))
        items, best = np.full((len(requests), k), PAD, np.int32), np.full((len(requests), k), -np.inf, np.float32)
        for row, (request, skip) in enumerate(zip(requests, skipped, strict=True)):
            keep = (codes[row] != PAD) & ~np.isin(codes[row], skip)
            if request.candidates is not None or keep.sum() < min(k, len(self.items) - len(skip)):
                top = top_k(self, [request], k)
                items[row], best[row] = top.items[0], top.scores[0]
            else:
                found = codes[row][keep][:k]
                items[row, : len(found)], best[row, : len(found)] = found, scores[row][keep][:k]
        return TopK(items, best)

    def _queries(self, requests: Sequence[Request]) -> Scores:
        """float32[n, width], kept ones and those that are made now."""
        plain = list(requests)
        keys = [_key(one) for one in plain]
        missing = [row for row, key in enumerate(keys) if key not in self._states]
        queries = np.empty((len(plain), self._rows.shape[1]), np.float32)
        if missing:
            queries[missing] = self.system.query_vectors(RequestBatch.of([plain[row] for row in missing]))
        new = set(missing)
        for row, key in enumerate(keys):
            if row in new:
                self._states[key] = queries[row].copy()
            else:
                queries[row] = self._states[key]
                self._states.move_to_end(key)
        while len(self._states) > _STATES:
            self._states.popitem(last=False)
        return queries


def _key(request: Request) -> tuple[object, ...]:
    """All of a request that its user's vector may follow from."""
    return (
        request.history.tobytes(),
        None if request.times is None else request.times.tobytes(),
        None if request.ratings is None else request.ratings.tobytes(),
        request.now,
        request.user,
        tuple(sorted(request.attributes.items())),
        request.forget,
        request.wish,
    )


def _sample(items: int) -> list[Request]:
    """Short histories of items drawn at random, the same each time."""
    draw = np.random.default_rng(0)
    return [Request(history=draw.integers(1, items + 1, draw.integers(1, _LONGEST_SAMPLE + 1)).astype(np.int32)) for _ in range(_SAMPLE)]
