"""BM25: an item is as good as its text matches the texts of the history.

Paper: Robertson & Zaragoza, "The probabilistic relevance framework: BM25 and beyond", Foundations and Trends in IR 2009.
Idea: the query is the texts of what the user met last, the documents are the texts of all items; a word counts more the rarer
it is, less the more often it stands in the same text already, and less in a long text. Hou et al., "Large language models are
zero-shot rankers" (ECIR 2024), take candidates from it.

Ours differs: older events of a history weigh less (`decay = 1` weighs all alike); a wish is part of the query, as one more newest
item, or all of it (`asks = "wish"`, which is product search); a word that stands in more than half of the texts counts nothing
instead of less than nothing; and items that no word reaches follow in the order of popularity, which is also the answer to an
empty history. The index is that of bm25s (Lu, arXiv 2407.03618), which leaves out the constant factor k1 + 1.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array, diags_array

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import FitOptions, Request, RequestBatch, Scores, TopK
from tongtu.errors import DataError
from tongtu.ranking import top_k
from tongtu.systems._catalogue import with_items
from tongtu.systems.baselines._histories import history_matrix, popularity_share, require_events

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from tongtu.core import Offsets
    from tongtu.data.dataset import Dataset
    from tongtu.vocab import Vocab

Language = Literal["english", "german", "dutch", "french", "spanish", "portuguese", "italian", "russian", "swedish", "norwegian", "chinese"]


class BM25:
    """Lexical retrieval, held as two sparse matrices: how often each word stands in each item's text, and what it adds to each item's score."""

    @configuration
    class Config:
        """Settings of BM25.

        Attributes:
            asks: What makes the query: "both" history and wish; "wish" alone, where it has a word that stands in the catalogue, else the history;
                or the "history" alone, whatever is wished for.
            last: How many of the newest events make the query.
            decay: Weight of an event of the history against the one after it.
            k1: How soon a word that stands again in the same text stops to count more.
            b: How much long texts are held back: 0 not at all, 1 wholly.
            idf: "robertson" counts a word in more than half of the texts as nothing, "lucene" lets every word count.
            stopwords: The language of the words that are left out, as bm25s has them ("english", "german", ...), or None for none.
        """

        asks: Literal["both", "wish", "history"] = "both"
        last: int = Field(10, ge=1)
        decay: float = Field(0.9, gt=0, le=1)
        k1: float = Field(1.2, gt=0)
        b: float = Field(0.75, ge=0, le=1)
        idf: Literal["robertson", "lucene"] = "robertson"
        stopwords: Language | None = "english"

    items: Vocab
    item_text: pl.Series | None

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.provenance: dict[str, Any] = {}

    @property
    def hears_wishes(self) -> bool:
        """Whether a wish is part of the query; see `core.Hears`."""
        return self.config.asks != "history"

    def fit(self, data: Dataset, options: FitOptions | None = None) -> Self:
        """Index all item texts; of the events only their number is learned.

        Raises:
            DataError: If there are no events, or no text has a word.
        """
        options = options or FitOptions()
        started = time.perf_counter()
        require_events(data)
        self.items, self.item_text, self._counts = data.items, data.item_text, data.item_counts
        self._index = Index.of_texts(data.item_text, self.config)
        if not self._index.words:
            raise DataError(f"{data.name}: no item has a text, so there is nothing to search: import it with text columns")
        self.provenance = {"seed": options.seed, "fit_seconds": time.perf_counter() - started, "parameters": int(self._index.scores.nnz)}
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """BM25 float32[n, width], positive where a word reaches the item; below zero, by popularity, elsewhere."""
        batch = RequestBatch.of(requests)
        newest = dataclasses.replace(batch, start=np.maximum(batch.start, batch.stop - self.config.last))
        query = history_matrix(newest, self.items.size, self.config.decay) @ self._index.counts
        if batch.wish is not None and self.hears_wishes:
            told = self._index.counted([wish or "" for wish in batch.wish], self.config)
            if self.config.asks == "wish":
                query = diags_array((told.sum(axis=1) == 0).astype(np.float32)) @ query
            query = query + told
        reached: Scores = (query @ self._index.scores[:, items]).toarray()
        return np.where(reached > 0, reached, popularity_share(self._counts)[items] - 1)

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def with_items(self, items: pl.DataFrame, keep: bool = True) -> Self:
        """The same recommender for other items, whose texts are indexed now; see `core.Extends`."""
        found = with_items(self.items, self.item_text, items, keep)
        other = copy.copy(self)
        other.items, other.item_text, other._counts = found.items, found.text, self._counts[found.old]
        other._counts[0] = 0
        other._index = Index.of_texts(found.text, self.config)
        other.provenance = dict(self.provenance)
        return other

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder."""
        hub.save(path, self, {**self._index.arrays(), "popularity": self._counts})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.item_text, system._counts = folder.items, folder.item_text, folder.arrays["popularity"]
        system._index = Index.of_arrays(folder.arrays, folder.items.size)
        system.provenance = dict(folder.facts["provenance"])
        return system


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
    """The words of a catalogue.

    Attributes:
        words: Each word's place.
        counts: float32[items.size, words], how often each word stands in each item's text.
        scores: float32[words, items.size], what each word of a query adds to each item's score.
    """

    words: Mapping[str, int]
    counts: csr_array
    scores: csr_array

    @classmethod
    def of_texts(cls, texts: pl.Series, config: BM25.Config) -> Self:
        """Index one text an item."""
        import bm25s

        found = bm25s.tokenize(texts.fill_null("").to_list(), stopwords=config.stopwords or [], show_progress=False)
        size = len(texts) + 1
        if not found.vocab:
            return cls({}, csr_array((size, 0), dtype=np.float32), csr_array((0, size), dtype=np.float32))
        engine = bm25s.BM25(k1=config.k1, b=config.b, method=config.idf)
        engine.index(found, create_empty_token=False, show_progress=False)
        table = engine.scores  # columns by word, of rows by item: read as rows by word. `PAD` is no document, so items come one later
        scores = csr_array((table["data"], table["indices"] + 1, table["indptr"]), shape=(len(found.vocab), size))
        return cls(dict(found.vocab), _counted([[], *found.ids], len(found.vocab)), scores)

    def counted(self, texts: Sequence[str], config: BM25.Config) -> csr_array:
        """float32[n, words], how often each word stands in each of n texts; unknown words are left out."""
        import bm25s

        tokens = bm25s.tokenize(list(texts), stopwords=config.stopwords or [], return_ids=False, show_progress=False)
        return _counted([[self.words[word] for word in text if word in self.words] for text in tokens], len(self.words))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """For `tongtu.hub.save`; the words stand one a line, as UTF-8."""
        parts = {"words": np.frombuffer("\n".join(self.words).encode(), np.uint8)}
        for name, matrix in (("counts", self.counts), ("scores", self.scores)):
            parts |= {f"{name}.value": matrix.data, f"{name}.column": matrix.indices, f"{name}.offset": matrix.indptr}
        return parts

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], size: int) -> Self:
        """From the arrays of a model folder."""
        words = arrays["words"].tobytes().decode().split("\n") if len(arrays["words"]) else []
        shapes = {"counts": (size, len(words)), "scores": (len(words), size)}
        matrices = {
            name: csr_array((arrays[f"{name}.value"], arrays[f"{name}.column"], arrays[f"{name}.offset"]), shape=shape) for name, shape in shapes.items()
        }
        return cls({word: place for place, word in enumerate(words)}, **matrices)


def _counted(texts: Sequence[Sequence[int]], words: int) -> csr_array:
    """float32[texts, words] from the places of each text's words."""
    length: Offsets = np.fromiter(map(len, texts), np.int64, len(texts))
    place = np.fromiter((word for text in texts for word in text), np.int64, int(length.sum()))
    counts = csr_array((np.ones(len(place), np.float32), place, np.concatenate([np.zeros(1, np.int64), np.cumsum(length)])), shape=(len(texts), words))
    counts.sum_duplicates()
    return counts
