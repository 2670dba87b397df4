"""TIGER: items are written as semantic ids, a few codes made from their texts, and the next item is generated code by code.

Papers: Rajput et al., "Recommender Systems with Generative Retrieval" (NeurIPS 2023); for `dense`, Yang et al., "Unifying Generative and Dense
Retrieval for Sequential Recommendation" (LIGER, 2024).
Idea: items whose texts are alike share codes, so that what is learned of one is learned of all; the answer is searched along a trie of the
catalogue, not compared with every item.

How ours differs:
- The encoder reads from left to right, item by item (`encoder = "causal"`), so that one pass over a history serves all its targets; T5's, as in the
  paper, reads both ways and must read every prefix anew (`encoder = "bidirectional"`). Attention on what was read knows how long ago it was.
- Each level has its own codes and its softmax is over these alone; inputs and outputs share one table. LayerNorm, no dropout within attention.
- Ids are residual k-means by default, of any text encoder; the paper's RQ-VAE is `ids.kind = "rqvae"`.
- What may not be answered is left out of the trie, so every list is full, legal and without repetitions. Hits are items: where ids are not repaired
  (`ids.repair = "none"`), items of one id stand side by side and share its score, in the order of the catalogue.
- Who has no known item in the history gets what is popular. Users are told to the network only with `users`, and a tenth of the time not.

Paper, Beauty: Recall@10 .0648, NDCG@10 .0384. Ours: docs/tuned.md.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import PAD, FitOptions, Offsets, Request, RequestBatch, TopK
from tongtu.data.dataset import Dataset
from tongtu.decode.beam import beam_search
from tongtu.decode.trie import Trie
from tongtu.errors import DataError
from tongtu.nn.answer import arrays_of, blocks, load_arrays, trimmed
from tongtu.nn.batch import Batch, request_batch
from tongtu.nn.code_beams import CodeBeams
from tongtu.nn.codes import CodeBodyConfig, CodeNet
from tongtu.nn.next_codes import CodedSequences, NextCodes
from tongtu.semantic.collaborative import met_vectors
from tongtu.semantic.ids import SemanticIds
from tongtu.semantic.settings import SemanticConfig
from tongtu.systems._catalogue import with_items
from tongtu.systems.baselines._histories import require_events
from tongtu.systems.behaviour import sequence
from tongtu.systems.encoded._catalogue import catalogue_vectors, reader_of, same_encoder
from tongtu.systems.tuned._p5_limits import Marks, allowed_items, most_popular
from tongtu.text.encoder import Vectors, open_encoder
from tongtu.train.batches import training_prefixes, training_sequences
from tongtu.train.settings import Training
from tongtu.vocab import Vocab

_MET_WIDTH = 64  # of the vectors of who met an item, to which an RQ-VAE may align ids
_MOST_BEAMS = 1_000
_BEAMS_AT_ONCE = 8_192


@configuration
class Dense:
    """Items told apart by their texts too, and lists in that order (LIGER).

    Attributes:
        weight: Of this loss beside that of the codes.
        temperature: By which cosines of states and texts are divided.
        reads: Whether the encoder is given text vectors besides codes.
    """

    weight: Annotated[float, Field(gt=0)] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 0.07
    reads: bool = True


@configuration
class TIGERConfig(CodeBodyConfig):
    """Settings of TIGER: those of its network (`CodeBodyConfig`), its ids, and how it learns.

    Attributes:
        vectors: Who reads the item texts, see `tongtu.text.encoder.open_encoder`.
        ids: How vectors become ids.
        users: Vectors that users share by hashing (the paper has 2,000); 0 leaves users out.
        dense: With it, the best `beams` items by code and all items without events are put in order by text.
        training: How to train.
        beams: Unfinished ids that are followed at once; a longer list takes as many as it is long, up to 1,000.
    """

    vectors: str = "minilm"
    ids: SemanticConfig = Field(default_factory=SemanticConfig)
    users: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    dense: Dense | None = None
    training: Training = Field(default_factory=lambda: Training(epochs=60, patience=5, tokens=512, learning_rate=3e-3, warmup_steps=200, average=0.99))
    beams: Annotated[int, Field(ge=1, le=_MOST_BEAMS)] = 50


class TIGER:
    """TIGER; see the module's text."""

    Config: ClassVar[type[TIGERConfig]] = TIGERConfig
    items: Vocab
    item_text: pl.Series | None
    counts: Offsets
    users: npt.NDArray[np.bool_]
    vectors: Vectors
    ids: SemanticIds
    net: CodeNet
    reader: Mapping[str, Any]

    def __init__(self, config: TIGERConfig | None = None) -> None:
        self.config = config or TIGERConfig()
        self.provenance: dict[str, Any] = {}
        self._trie: Trie | None = None

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Make the ids, and learn to write the next one; with `options.validate`, the best epoch's weights are kept.

        Raises:
            DataError: If there is nothing to learn from, or no item has a text.
        """
        started, config = time.monotonic(), self.config
        require_events(data)
        encoder = open_encoder(config.vectors)
        self.vectors, self.reader = catalogue_vectors(encoder, data.item_text, options.quiet), reader_of(encoder)
        if not self.vectors.any():
            raise DataError(f"{data.name}: no item has a text to make its id from: import it with --items FILE --text COLUMN")
        met = met_vectors(data, _MET_WIDTH, options.seed) if config.ids.rqvae.align else None
        self.ids, self._trie = SemanticIds.fit(self.vectors, config.ids, options.seed, met, options.quiet), None
        self.users = np.concatenate([[False], data.lengths > 0])
        cut = training_sequences(data, config.max_length + 1, "all") if config.encoder == "causal" else training_prefixes(data, config.max_length + 1)
        examples = CodedSequences(cut.item, cut.stop, cut.length, user=cut.user, known_by=(self.ids.codes, self.vectors))
        dense = config.dense or Dense()
        objective: Any = NextCodes(config.encoder != "causal", dense.weight if config.dense else 0.0, dense.temperature, data.item_counts)
        sequence.learn(self, data, options, self._network, objective, examples, config.training)
        self.provenance |= {"fit_seconds": time.monotonic() - started, "text": dict(self.reader), "ids": dict(self.ids.facts)}
        return self

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request by the log-probabilities of their ids, or with `dense` by text.

        A request without a known item is answered by popularity, and its notes say so.
        """
        batch = RequestBatch.of(requests)
        items, scores = np.full((len(batch), k), PAD, np.int32), np.full((len(batch), k), -np.inf, np.float32)
        histories = self._histories(batch)
        for rows in self._blocks(histories, max(self.config.beams, k)):
            found = self._found(trimmed_with_users(histories, rows), allowed_items(batch.take(rows.numpy()), self.items.size), k)
            items[rows, : found.items.shape[1]], scores[rows, : found.items.shape[1]] = found.items, found.scores
        unknown = np.flatnonzero((histories.length == 0).numpy())
        popular = most_popular(self.counts, allowed_items(batch.take(unknown), self.items.size), k)
        items[unknown], scores[unknown] = popular.items, popular.scores
        notes = [{"reason": "no known item in the history: popularity"} if empty else {} for empty in (histories.length == 0).tolist()]
        return TopK(items, scores, notes)

    def with_items(self, items: pl.DataFrame, keep: bool = True) -> Self:
        """The same model for other items, without a refit: their texts are read, and they get ids of their own.

        Args:
            items: Columns "id" and "text".
            keep: Adds the items that are not there yet; else the new model answers for exactly these items, and one that has the
                id and the text of a known item is that item.
        """
        found = with_items(self.items, self.item_text, items, keep)
        vectors = self.vectors[found.old]
        if found.new.any():
            encoder = same_encoder(self.config.vectors, self.reader)
            vectors[1:][found.new] = catalogue_vectors(encoder, found.text.filter(pl.Series(found.new)), quiet=True)[1:]
        other = copy.copy(self)
        other.items, other.item_text, other.vectors, other.counts = found.items, found.text, vectors, self.counts[found.old]
        other.counts[PAD] = 0
        other.ids, other._trie = self.ids.with_items(vectors, found.old.astype(np.int32)), None
        other.net = other._network()
        other.net.load_state_dict(self.net.state_dict())
        other.net.eval()
        other.provenance = dict(self.provenance)
        return other

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder; it opens without the encoder, which is needed only for new texts."""
        arrays = {**arrays_of(self.net), **self.ids.arrays(), "counts": self.counts, "users": self.users, "vectors": self.vectors}
        hub.save(path, self, arrays, {"text": dict(self.reader), "ids": dict(self.ids.facts)})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.item_text, system.provenance = folder.items, folder.item_text, dict(folder.facts["provenance"])
        system.counts, system.users, system.vectors = folder.arrays["counts"], folder.arrays["users"], folder.arrays["vectors"]
        system.reader = folder.facts["text"]
        system.ids = SemanticIds.of_arrays(folder.arrays, system.config.ids, folder.facts["ids"])
        system.net = system._network()
        load_arrays(system.net, folder.arrays, path)
        return system

    def _network(self) -> CodeNet:
        config = self.config
        text, reads = (self.vectors, config.dense.reads) if config.dense else (None, False)
        return CodeNet(config, self.ids.codes, self.ids.sizes, config.users, text, reads)

    def _histories(self, requests: RequestBatch) -> Batch:
        """What the network reads of each request; users it was not trained on are told to nobody."""
        batch = request_batch(requests, self.config.max_length)
        if requests.user is None:
            return batch
        user = np.where(requests.user < len(self.users), requests.user, PAD)
        return dataclasses.replace(batch, user=torch.from_numpy(np.where(self.users[user], user, PAD)))

    def _blocks(self, histories: Batch, beams: int) -> Iterator[torch.Tensor]:
        """Rows with a history, those of like length together, so many at once as their beams have room."""
        known = torch.argsort(histories.length, stable=True)
        known = known[histories.length[known] > 0]
        for place in blocks(histories.length[known]):
            yield from torch.split(known[place], max(1, _BEAMS_AT_ONCE // beams))

    def _found(self, batch: Batch, allowed: Marks, k: int) -> TopK:
        """The best of the allowed items behind each history."""
        device = self.net.table.weight.device
        if self._trie is None or self._trie.item.device != device:
            sequences: Any = self.ids.codes[1:].astype(np.int64)
            self._trie = Trie.of(sequences).to(device)
        beams = min(max(self.config.beams, k), len(self.items), _MOST_BEAMS)
        width = min(beams if self.config.dense else k, len(self.items))
        with torch.inference_mode():
            batch = batch.to(device)
            states = self.net.read(batch)
            found = beam_search(CodeBeams(self.net, batch, states), self._trie, beams, width, torch.from_numpy(allowed).to(device))
            top = TopK(found.items.cpu().numpy(), found.scores.cpu().numpy())
            return top if self.config.dense is None else self._by_text(top, batch, states, allowed, k)

    def _by_text(self, found: TopK, batch: Batch, states: torch.Tensor, allowed: Marks, k: int) -> TopK:
        """What was found by code, and the allowed items without events, in the order of their likeness to what is wished for."""
        assert self.config.dense is not None
        wish = self.net.wishes(batch.length[:, None] - 1, states)[:, 0]
        likeness = (wish @ self.net.likenesses(torch.arange(self.items.size, device=wish.device)).T / self.config.dense.temperature).cpu().numpy()
        eligible = allowed & (self.counts == 0)
        eligible[np.arange(len(allowed))[:, None], found.items] = True
        eligible[:, PAD] = False
        likeness[~eligible] = -np.inf
        best = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(likeness, best, 1)
        return TopK(np.where(np.isneginf(scores), PAD, best).astype(np.int32), scores)


def trimmed_with_users(batch: Batch, rows: torch.Tensor) -> Batch:
    """Some rows, as wide as their longest history, and whose they are."""
    return dataclasses.replace(trimmed(batch, rows), user=None if batch.user is None else batch.user[rows])
