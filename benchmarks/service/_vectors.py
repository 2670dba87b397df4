"""A recommender made of vectors, for measuring search alone."""

from __future__ import annotations

from typing import Any

from tongtu.core import RequestBatch, TopK
from tongtu.vocab import Vocab


class Given:
    """A recommender whose users' vectors are given: that of the request for user u is row u."""

    def __init__(self, vectors: Any, queries: Any) -> None:
        self.items, self.vectors, self.queries = Vocab([str(i) for i in range(1, len(vectors))]), vectors, queries

    def query_vectors(self, requests: Any) -> Any:
        return self.queries[RequestBatch.of(requests).user]

    def item_vectors(self) -> Any:
        return self.vectors

    def recommend(self, requests: Any, k: int) -> TopK:
        raise AssertionError("every user is known")
