"""User vectors: what a recommender promises of them where it has any."""

from __future__ import annotations

import numpy as np

from tongtu.core import PAD, Indexable, Represents, Request, RequestBatch, Scorer
from tongtu.testing.case import Case, close, require, unusual


def check_vectors(case: Case) -> None:
    """A user's vector is a row of finite numbers, follows from that user's own request, and not from the limits of the answer."""
    if not isinstance(case.system, Represents):
        return
    requests = [*case.requests, *unusual(case.data)]
    together = case.system.user_vectors(requests)
    shape = together.shape
    right = together.dtype == np.float32 and len(shape) == 2 and shape[0] == len(requests) and shape[1] > 0
    require(right, case, f"user_vectors must give float32[n, width], got {together.dtype} {shape}")
    require(bool(np.isfinite(together).all()), case, "user vectors must be finite")
    none = case.system.user_vectors([]).shape
    require(none == (0, shape[1]), case, f"no requests must give user vectors of shape (0, {shape[1]}), got {none}")
    alone = np.concatenate([case.system.user_vectors([request]) for request in requests])
    close(case, together, alone, "a user's vector must be the same alone and in a batch")
    close(case, together, case.system.user_vectors(requests[::-1])[::-1], "user vectors must not depend on the order of the requests")
    close(case, together, case.system.user_vectors(RequestBatch.of(requests)), "a RequestBatch must give the user vectors of the list of its requests")
    history = case.data.history(1)
    plain, limited = case.system.user_vectors([Request(history=history), Request(history=history, candidates=history[:1], exclude_seen=False)])
    close(case, limited, plain, "limits of the answer must not change a user's vector")
    strangers = case.system.user_vectors([Request(), Request(history=np.full(3, PAD, np.int32))])
    close(case, strangers[0], strangers[1], "a history of unknown items only must give the vector of an empty one")


def check_products(case: Case) -> None:
    """Where a recommender has query and item vectors, their products are its scores; a query of zeros is for those of whom nothing is known."""
    if not isinstance(case.system, Indexable):
        return
    require(isinstance(case.system, Scorer), case, "a recommender with query_vectors and item_vectors must have `score`")
    assert isinstance(case.system, Scorer)
    requests = [*case.requests, *unusual(case.data)]
    queries, items = case.system.query_vectors(requests), case.system.item_vectors()
    size = case.data.items.size
    right = queries.dtype == items.dtype == np.float32 and queries.shape == (len(requests), items.shape[1]) and len(items) == size
    require(right, case, f"query_vectors and item_vectors must give float32[n, width] and float32[{size}, width], got {queries.shape} and {items.shape}")
    history = [request.history for request in requests]
    known = np.array([bool((one != PAD).any()) for one in history])
    require(np.array_equal(queries.any(axis=1), known), case, "a query must be zeros just where no item of the history is known")
    scores = case.system.score([request for request, one in zip(requests, known, strict=True) if one], slice(1, size))
    close(case, queries[known] @ items[1:].T, scores, "products of query and item vectors must be the scores")
    alone = np.concatenate([case.system.query_vectors([request]) for request in requests])
    close(case, queries, alone, "a query vector must be the same alone and in a batch")
