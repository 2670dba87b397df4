"""Which items a request may be answered with, as marks, for a search that must never leave them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tongtu.core import PAD, Offsets, RequestBatch, TopK

Marks = npt.NDArray[np.bool_]


def allowed_items(requests: RequestBatch, size: int) -> Marks:
    """bool[n, size], the item codes that each request may be answered with: its candidates, or all, less what it has seen."""
    allowed = np.ones((len(requests), size), np.bool_)
    if requests.candidates is not None:
        for marks, codes in zip(allowed, requests.candidates, strict=True):
            if codes is not None:
                marks[:] = False
                marks[codes] = True
    row, place = requests.events()
    left_out = requests.exclude_seen[row]
    allowed[row[left_out], requests.item[place[left_out]]] = False
    allowed[:, PAD] = False
    return allowed


def most_popular(counts: Offsets, allowed: Marks, k: int) -> TopK:
    """The `k` most frequent of the allowed items, of equal ones the first, with the logarithms of their counts as scores."""
    value = np.where(allowed, np.log1p(counts), -np.inf).astype(np.float32)
    best = np.argsort(-value, axis=1, kind="stable")[:, :k]
    items, scores = np.full((len(allowed), k), PAD, np.int32), np.full((len(allowed), k), -np.inf, np.float32)
    scores[:, : best.shape[1]] = np.take_along_axis(value, best, 1)
    items[:, : best.shape[1]] = np.where(np.isneginf(scores[:, : best.shape[1]]), PAD, best)
    return TopK(items, scores)
