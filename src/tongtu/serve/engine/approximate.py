"""Approximate search for the items with the largest products, by an inverted file (faiss).

Item vectors are put into lists around centres, and a query looks into the lists of its nearest centres. How many is found when the index
is made: as few as find, for queries of the model's own, all but a small part of what exact search finds.

Sources: Jegou, Douze & Schmid, "Product quantization for nearest neighbor search" (TPAMI 2011), its inverted file without the quantization.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Self

import numpy as np

from tongtu.core import PAD, Codes, Scores
from tongtu.errors import MissingExtra

RECALL, AT = 0.98, 20
_POINTS = 40  # training vectors for each centre
_ROUNDS = 8
_WORTH = 8  # of so many lists one may be searched; beyond that exact search is as fast

log = logging.getLogger("tongtu.serve.index")


class Approximate:
    """An inverted file over item vectors; make one by `of`."""

    def __init__(self, index: Any, recall: float, seconds: float) -> None:
        self._index, self.recall, self.seconds = index, recall, seconds

    @classmethod
    def of(cls, vectors: Scores, queries: Scores, least: float = RECALL) -> Self | None:
        """An index that finds `least` of the best 20, or None where one that does would search too much to be worth it.

        Args:
            vectors: float32[V, width]; the row of `PAD` is left out.
            queries: float32[n, width], to measure it by.
            least: The recall, on average over the queries.

        Raises:
            MissingExtra: If faiss is not installed.
        """
        try:
            import faiss
        except ImportError:
            raise MissingExtra("approximate search", "ann") from None
        started = time.perf_counter()
        faiss.omp_set_num_threads(1)
        items = np.ascontiguousarray(vectors[1:], np.float32)
        lists = max(int(2 * len(items) ** 0.5), 1)
        width = items.shape[1]
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.niter, index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = _ROUNDS, _POINTS, 1
        index.train(items)
        index.add(items)
        queries = np.ascontiguousarray(queries[queries.any(axis=1)], np.float32)
        best = _exact(items, queries)
        index.nprobe, recall = 1, 0.0
        while index.nprobe <= max(lists // _WORTH, 1):
            _, found = index.search(queries, best.shape[1])
            recall = _recall(found, best)
            if recall >= least:
                return cls(index, recall, time.perf_counter() - started)
            index.nprobe = max(index.nprobe + 1, int(index.nprobe * 1.5))
        log.warning("an approximate index of %d items finds %.3f of the best at most: they are searched exactly", len(items), recall)
        return None

    @property
    def lists(self) -> tuple[int, int]:
        """How many lists a query looks into, and how many there are."""
        return int(self._index.nprobe), int(self._index.nlist)

    def search(self, queries: Scores, k: int) -> tuple[Codes, Scores]:
        """Codes int32[n, k] and products float32[n, k], best first; short rows end in `PAD` and -inf."""
        scores, places = self._index.search(np.ascontiguousarray(queries, np.float32), k)
        codes = (places + 1).astype(np.int32)  # faiss says -1 where there is nothing, and the first row is code 1
        return codes, np.where(codes == PAD, -np.inf, scores).astype(np.float32)


def _exact(items: Scores, queries: Scores) -> Codes:
    """int32[n, 20], the rows of the best items."""
    k = min(AT, len(items))
    rows = [np.argpartition(-(items @ query), k - 1)[:k] for query in queries]
    return np.array(rows, np.int32).reshape(len(queries), k)


def _recall(found: Any, best: Codes) -> float:
    return float(np.mean([np.isin(right, got).mean() for got, right in zip(found, best, strict=True)])) if len(best) else 1.0
