"""Filtered: any recommender's list, with the items first whose categories are those the user wishes for.

Paper: none; it is the filter on categories that shops offer beside their search, and the least that a system which understands
wishes has to beat.
Idea: the wish is read against the names of the catalogue's categories, the longest name first. An item fits by the share of the
found categories that it has; items that fit better stand before others, and among equals the order is the retriever's.

A wish in which no category is found, and a request without one, get the retriever's list as it is. The retriever is asked with
the wish as well, and may make of it what it can.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import PAD, Codes, FitOptions, Recommender, Request, Scores, TopK
from tongtu.data.wishes import CATEGORIES, Categories, Phrases, item_categories
from tongtu.systems._retriever import RETRIEVER, fitted_retriever

if TYPE_CHECKING:
    import polars as pl

    from tongtu.data.dataset import Dataset
    from tongtu.vocab import Vocab


class Filtered:
    """A retriever and the categories of its items."""

    @configuration
    class Config:
        """Settings of the filter.

        Attributes:
            retriever: Whose list it is: a system's name, or the folder of a model fitted on the same data.
            retriever_settings: Of a system that is fitted here.
            depth: How far down the retriever's list fitting items are looked for.
            field: The item field with the categories.
        """

        retriever: str = "ease"
        retriever_settings: dict[str, Any] = Field(default_factory=dict)
        depth: int = Field(1000, ge=1)
        field: str = CATEGORIES

    hears_wishes: ClassVar[bool] = True
    items: Vocab
    item_text: pl.Series | None
    retriever: Recommender

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions | None = None) -> Self:
        """Fit the retriever and note the categories.

        Raises:
            DataError: If there are no events, or no categories.
        """
        options = options or FitOptions()
        started = time.perf_counter()
        self._categories = item_categories(data, self.config.field)
        self.retriever = fitted_retriever(self.config.retriever, self.config.retriever_settings, data, options)
        self.items, self.item_text = data.items, data.item_text
        parameters = getattr(self.retriever, "provenance", {}).get("parameters")
        self.provenance = {"seed": options.seed, "fit_seconds": time.perf_counter() - started, "parameters": parameters}
        return self

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request; the note "categories" tells how many were found in the wish.

        Scores are the retriever's where no category is found; else the share of the categories that an item has, and a little more that falls along the list.
        """
        wished = [self._phrases.found(request.wish) if request.wish else [] for request in requests]
        top = self.retriever.recommend(requests, max(k, self.config.depth) if any(wished) else k)
        items, scores = top.items[:, :k].copy(), top.scores[:, :k].copy()
        for row, asked in enumerate(wished):
            if asked:
                items[row], scores[row] = self._first(asked, top.items[row], k)
        told: Sequence[Mapping[str, Any]] = top.notes or [{}] * len(wished)
        counted = [{**notes, "categories": len(asked)} for notes, asked in zip(told, wished, strict=True)]
        return TopK(items, scores, counted if any(request.wish for request in requests) else top.notes)

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder with the retriever in it."""
        names = np.frombuffer("\n".join(self._categories.names).encode(), np.uint8)
        arrays: dict[str, npt.NDArray[Any]] = {"names": names, "category": self._categories.category, "offset": self._categories.offset}
        hub.save(path, self, arrays, parts={RETRIEVER: self.retriever})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.item_text, system.provenance = folder.items, folder.item_text, dict(folder.facts["provenance"])
        arrays = folder.arrays
        system._categories = Categories(tuple(arrays["names"].tobytes().decode().split("\n")), arrays["category"], arrays["offset"])
        system.retriever = hub.open_model(folder.path / RETRIEVER)
        return system

    @cached_property
    def _phrases(self) -> Phrases:
        return Phrases(self._categories.names)

    def _first(self, asked: Sequence[int], ranked: Codes, k: int) -> tuple[Codes, Scores]:
        """The `k` first of the retriever's items when those that have more of the asked categories stand before the others."""
        has = self._has(asked)[ranked]
        order = np.lexsort((np.arange(len(ranked)), -has, ranked == PAD))[:k]
        found = ranked[order]
        below = 0.5 / (1 + np.arange(len(order)))  # falls along the list and stays within (0, 1/2]: it never outweighs a category
        return found, np.where(found == PAD, -np.inf, (has[order] + below) / len(asked)).astype(np.float32)

    def _has(self, asked: Sequence[int]) -> npt.NDArray[np.int64]:
        """int64[items.size], how many of the asked categories each item has."""
        member = np.isin(self._categories.category, np.asarray(asked))
        counted = np.concatenate([np.zeros(1, np.int64), np.cumsum(member)])[self._categories.offset]
        return np.concatenate([np.zeros(1, np.int64), np.diff(counted)])
