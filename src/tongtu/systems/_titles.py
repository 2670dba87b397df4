"""Item titles as documents: searched by BM25, and what several queries find set together in one list."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field
from scipy.sparse import csr_array

from tongtu.config import configuration
from tongtu.core import Codes
from tongtu.data.dataset import Dataset
from tongtu.data.item_text import clean, item_names
from tongtu.errors import DataError
from tongtu.systems._catalogue import Catalogue
from tongtu.systems.baselines.bm25 import BM25, Index, Language

TITLES = "titles.json"
"""Name of the file of a model folder that `written` is for."""
Marks = npt.NDArray[np.bool_]


@configuration
class Searching:
    """Settings of BM25 over titles.

    Attributes:
        k1, b: See `tongtu.systems.baselines.bm25.BM25.Config`.
        lucene: Every word counts; else one that stands in more than half of the titles counts nothing.
        stopwords: The language of the words that are left out, or None for none.
    """

    k1: Annotated[float, Field(gt=0)] = 1.2
    b: Annotated[float, Field(ge=0, le=1)] = 0.75
    lucene: bool = True
    stopwords: Language | None = "english"


class TitleSearch:
    """Titles that can be searched.

    Args:
        titles: One an item, in code order; "" for none.
        searching: How.
    """

    def __init__(self, titles: pl.Series, searching: Searching) -> None:
        self.titles, self.searching = titles, searching
        self._config = BM25.Config(k1=searching.k1, b=searching.b, idf="lucene" if searching.lucene else "robertson", stopwords=searching.stopwords)
        self.index = Index.of_texts(titles, self._config)

    @classmethod
    def of_data(cls, data: Dataset, longest: int, searching: Searching) -> Self:
        """The titles of a data set, which are the beginnings of its texts where it has no titles.

        Raises:
            DataError: If no title has a word.
        """
        made = cls(clean(item_names(data.item_text, data.item_fields, longest)).fill_null(""), searching)
        if not made.index.words:
            raise DataError(f"{data.name}: no item has a title or text, so there is nothing to search: import it with text columns")
        return made

    def after(self, found: Catalogue, given: pl.DataFrame, longest: int) -> Self:
        """The titles of another catalogue: what is known keeps its own, what is new has one in the column "title" of `given`, or begins its text with it."""
        new = found.items.encode(given["id"].cast(pl.String))
        titles = [self.titles[int(old) - 1] if old else "" for old in found.old[1:]]
        names = clean(item_names(given["text"].cast(pl.String).fill_null(""), given, longest)).fill_null("")
        for code, name in zip(new.tolist(), names, strict=True):
            if code and not found.old[code]:
                titles[code - 1] = name
        return type(self)(pl.Series("title", titles, dtype=pl.String), self.searching)

    def counted(self, texts: Sequence[str]) -> csr_array:
        """float32[n, words], how often each known word stands in each text."""
        return self.index.counted(texts, self._config)

    def words(self, texts: Sequence[str]) -> list[tuple[tuple[int, float], ...]]:
        """What the search sees of each text: its known words, each with how often it stands there, in one order."""
        counts = self.counted(texts)
        counts.sort_indices()
        ends = zip(counts.indptr[:-1], counts.indptr[1:], strict=True)
        return [tuple(zip(counts.indices[a:b].tolist(), counts.data[a:b].tolist(), strict=True)) for a, b in ends]

    def ranked(self, texts: Sequence[str], besides: Sequence[str], share: float, allowed: Sequence[Marks], most: int) -> list[Codes]:
        """The items that a word of each query reaches, best first, equal ones by rising code.

        Args:
            texts: The queries.
            besides: Further words of each query, which count `share` times as much.
            share: See there.
            allowed: bool[items.size] of each query, the items it may find.
            most: How many it may find.
        """
        query = self.counted(texts)
        if share and any(besides):
            query = query + np.float32(share) * self.counted(besides)
        scores = (query @ self.index.scores).tocsr()
        return [
            _best(scores.indices[a:b], scores.data[a:b], marks, most) for a, b, marks in zip(scores.indptr[:-1], scores.indptr[1:], allowed, strict=True)
        ]

    def written(self) -> str:
        """The titles as a file of a model folder."""
        return json.dumps(self.titles.to_list(), ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, text: str, searching: Searching) -> Self:
        """From such a file."""
        return cls(pl.Series("title", json.loads(text), dtype=pl.String), searching)


def merged(lists: Sequence[Iterable[int]], k: int, places: int) -> list[int]:
    """The first `k` items out of the lists of several queries, best query first, no item twice.

    The first `places` places are shared evenly, the first queries having one more where it does not come out even: each query in turn
    brings in its best items that no query before it has brought. What queries that run out leave free, the best query with items left fills. The
    next `places` places are shared in the same way, so that a longer list begins like a shorter one. Where there are more queries than
    places, so many places are shared as there are queries.
    """
    waiting = [iter(one) for one in lists]
    places = max(places, len(waiting))
    shares = [places // len(waiting) + (place < places % len(waiting)) for place in range(len(waiting))] if waiting else []
    taken: dict[int, None] = {}
    while len(taken) < k:
        goal = len(taken) + places
        for one, share in zip(waiting, shares, strict=True):
            _take(taken, one, len(taken) + share)
        for one in waiting:
            _take(taken, one, goal)
        if len(taken) < goal:
            break
    return list(taken)[:k]


def _take(taken: dict[int, None], waiting: Any, goal: int) -> None:
    """Bring in items that are not there yet, until there are `goal`."""
    while len(taken) < goal:
        item = next(waiting, None)
        if item is None:
            return
        taken.setdefault(item)


def _best(items: Codes, scores: npt.NDArray[np.float32], marks: Marks, most: int) -> Codes:
    kept = (scores > 0) & marks[items]
    items, scores = items[kept], scores[kept]
    best: Codes = items[np.lexsort((items, -scores))[:most]]
    return best
