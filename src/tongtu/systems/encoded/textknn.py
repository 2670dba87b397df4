"""Text nearest neighbours: an item is as good as the likeness of its text to the texts of the history.

Idea: a sentence encoder gives each item's text a vector, the user is the mean of the vectors of the newest items, and items are
ordered by the cosine with it. Nothing is trained. Hou et al., "Large language models are zero-shot rankers" (ECIR 2024), compare
with such a ranking by a language model's vectors and take candidates from it (there: BERT, with all of the history in one text).

Ours differs: items are encoded one by one, so the vectors of a catalogue are made once; older events weigh less (`decay = 1` weighs all
alike); a wish counts as one more newest item; and items without a text follow below all others in the order of popularity, which is
also the answer where nothing is known of the user.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import FitOptions, Request, RequestBatch, Scores, TopK
from tongtu.errors import DataError
from tongtu.ranking import top_k
from tongtu.systems._catalogue import with_items
from tongtu.systems.baselines._histories import history_matrix, popularity_share, require_events
from tongtu.systems.encoded._catalogue import catalogue_vectors, reader_of, same_encoder
from tongtu.text.encoder import ItemEncoder, Vectors, open_encoder

if TYPE_CHECKING:
    from tongtu.core import Offsets
    from tongtu.data.dataset import Dataset
    from tongtu.vocab import Vocab


class TextKNN:
    """Nearest neighbours by text, held as the vectors float32[items.size, width] of the catalogue."""

    @configuration
    class Config:
        """Settings of text nearest neighbours.

        Attributes:
            encoder: Who reads the item texts, see `tongtu.text.encoder.open_encoder`.
            last: How many of the newest events make the user's vector.
            decay: Weight of an event of the history against the one after it.
        """

        encoder: str = "minilm"
        last: int = Field(10, ge=1)
        decay: float = Field(0.9, gt=0, le=1)

    hears_wishes: ClassVar[bool] = True
    items: Vocab
    item_text: pl.Series | None
    vectors: Vectors
    counts: Offsets
    reader: Mapping[str, Any]

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.provenance: dict[str, Any] = {}
        self._open: ItemEncoder | None = None

    def fit(self, data: Dataset, options: FitOptions | None = None) -> Self:
        """Encode all item texts; of the events only their number is learned.

        Raises:
            DataError: If there are no events, or no item has a text.
        """
        options = options or FitOptions()
        started = time.perf_counter()
        require_events(data)
        self._open = open_encoder(self.config.encoder)
        self.items, self.item_text, self.counts, self.reader = data.items, data.item_text, data.item_counts, reader_of(self._open)
        self.vectors = catalogue_vectors(self._open, data.item_text, options.quiet)
        if not self.vectors.any():
            raise DataError(f"{data.name}: no item has a text, so there is nothing to read: import it with text columns")
        self.provenance = {"seed": options.seed, "fit_seconds": time.perf_counter() - started, "parameters": 0, "text": dict(self.reader)}
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Cosines float32[n, width]; below -1, by popularity, for items without text and for users of whom no text is known."""
        user = self._users(RequestBatch.of(requests))
        cosine = np.clip(user @ self.vectors[items].T, -1, 1)
        known = np.any(user, axis=1, keepdims=True) & np.any(self.vectors[items], axis=1)
        return np.where(known, cosine, popularity_share(self.counts)[items] - 2)

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def with_items(self, items: pl.DataFrame, keep: bool = True) -> Self:
        """The same recommender for other items; texts that are new are read now. See `core.Extends`."""
        found = with_items(self.items, self.item_text, items, keep)
        vectors = self.vectors[found.old]
        if found.new.any():
            vectors[1:][found.new] = catalogue_vectors(self._encoder(), found.text.filter(pl.Series(found.new)), quiet=True)[1:]
        other = copy.copy(self)
        other.items, other.item_text, other.vectors, other.counts = found.items, found.text, vectors, self.counts[found.old]
        other.counts[0] = 0
        other.provenance = dict(self.provenance)
        return other

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder; it opens without the encoder, which is needed only for wishes and new texts."""
        hub.save(path, self, {"counts": self.counts, "vectors": self.vectors}, {"text": dict(self.reader)})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.item_text, system.counts = folder.items, folder.item_text, folder.arrays["counts"]
        system.vectors, system.reader = folder.arrays["vectors"], folder.facts["text"]
        system.provenance = dict(folder.facts["provenance"])
        return system

    def _users(self, batch: RequestBatch) -> Vectors:
        """float32[n, width] of length 1; zeros where no text is known."""
        newest = dataclasses.replace(batch, start=np.maximum(batch.start, batch.stop - self.config.last))
        user: Vectors = history_matrix(newest, self.items.size, self.config.decay) @ self.vectors
        if batch.wish is not None:
            asked = [row for row, wish in enumerate(batch.wish) if wish]
            told = self._encoder().encode([batch.wish[row] or "" for row in asked])
            user[asked] += told / np.maximum(np.linalg.norm(told, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        length = np.linalg.norm(user, axis=1, keepdims=True)
        user /= np.maximum(length, np.finfo(np.float32).tiny)
        return user

    def _encoder(self) -> ItemEncoder:
        if self._open is None:
            self._open = same_encoder(self.config.encoder, self.reader)
        return self._open
