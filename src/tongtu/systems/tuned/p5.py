"""P5: recommendation as language. One encoder-decoder learns ratings, next items, explanations, headlines and choices from prompts.

Papers: Geng et al., "Recommendation as Language Processing" (RecSys 2022); Xu et al., "OpenP5" (SIGIR 2024); Hua et al., "How to Index Item IDs for
Recommendation Foundation Models" (SIGIR-AP 2023).
Idea: users, items and texts are all words; every task is a prompt with an answer, and one loss trains all of them. Recommending is a beam
search behind "user_12 had item_1001 , item_1045 and comes to".

How ours differs:
- Items are numbered by the training part alone (`tongtu.semantic.indexing`). P5's own numbers follow the whole log, so that a history tells the next
  one; `index = {kind = "legacy_p5", log = ...}` does the same, to show what that is worth.
- Every family is drawn from the training part, so what the next-item test holds out is in no prompt about ratings, reviews or explanations.
- Answers come from a trie of the catalogue, less what is excluded: no answer is illegal and none stands twice (P5 searches freely and drops what is no number).
- The vectors of whole words are added in questions as in training (P5's own code leaves them out of questions).
- The words of the prompts are ours; each exists with and without a user's number, so that users who were never met are asked about alike.
- The model starts from nothing by default, with a tokenizer learned from the prompts; the papers tune T5. The loss is a mean over tokens, not answers.
- Explanations are sentences of reviews; the papers extract features first. A rating is the mean over all ratings as answers, 5.0 included.

Paper, Beauty, P5-small: HR@5 .0503, NDCG@5 .0370 with the leak; .0163 and .0107 without it, as TIGER's authors ran it again (NeurIPS 2023).
Ours, a tiny T5 from nothing, 18 minutes on one core, collaborative ids: HR@5 .0190, NDCG@5 .0121 (docs/tuned.md).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import PAD, Codes, FitOptions, Offsets, Request, RequestBatch, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.decode.beam import beam_search
from tongtu.decode.trie import Trie
from tongtu.errors import ConfigError, DataError, ModelError
from tongtu.semantic.indexing import Indexing, ItemIndex, make_index
from tongtu.systems.baselines._histories import require_events
from tongtu.systems.tuned._p5_examples import Drawing, Pairs
from tongtu.systems.tuned._p5_limits import allowed_items, most_popular
from tongtu.systems.tuned._p5_prompts import Writing
from tongtu.systems.tuned._p5_templates import FAMILIES, VERSION, Family, Template, templates
from tongtu.train.loop import train
from tongtu.train.settings import Training
from tongtu.tuning.examples import Redrawn
from tongtu.tuning.network import LanguageNet
from tongtu.tuning.objective import Answer
from tongtu.tuning.opening import open_network
from tongtu.tuning.saving import arrays_of, reopen, texts_of
from tongtu.tuning.settings import Tuning
from tongtu.vocab import Vocab

_READ = 50_000  # texts from which a tokenizer learns
_MOST_BEAMS = 1_000
_LOGITS_AT_ONCE = 1 << 24
_ROWS = 64
_INDEX = "index.json"
_NOTHING: Mapping[str, str] = {}


@configuration
class P5Config:
    """Settings of P5.

    Attributes:
        index: How items are written.
        families: What is learned; families whose texts or ratings the data lacks are left out.
        drawing: How many prompts an epoch draws, and what stands in them.
        tuning: Which language model, and how much of it learns.
        training: How to train.
        beams: Unfinished answers that are followed at once; a longer list takes as many as it is long, up to 1,000.
        length_penalty: See `tongtu.decode.beam.beam_search`.
        template: Ask in words that training has "seen", or in others.
    """

    index: Indexing = Field(default_factory=Indexing)
    families: tuple[Family, ...] = FAMILIES
    drawing: Drawing = Field(default_factory=Drawing)
    tuning: Tuning = Field(default_factory=Tuning)
    training: Training = Field(
        default_factory=lambda: Training(epochs=10, patience=3, tokens=8_192, weight_decay=0.01, warmup_steps=100, schedule="linear", clip=1.0)
    )
    beams: Annotated[int, Field(ge=1, le=_MOST_BEAMS)] = 20
    length_penalty: Annotated[float, Field(ge=0)] = 0.0
    template: Literal["seen", "unseen"] = "seen"


class P5:
    """P5; see the module's text."""

    Config: ClassVar[type[P5Config]] = P5Config
    items: Vocab
    item_text: pl.Series
    index: ItemIndex
    counts: Offsets
    users: npt.NDArray[np.bool_]
    families: tuple[Family, ...]
    stars: tuple[str, ...]
    _writing: Writing
    net: LanguageNet

    def __init__(self, config: P5Config | None = None) -> None:
        self.config = config or P5Config()
        self.provenance: dict[str, Any] = {}
        self._trie: Trie | None = None

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Write items as the index says, and learn all families that the data has; with `options.validate`, the best epoch's weights are kept.

        Raises:
            DataError: If there is nothing to learn from, or the index needs what the data lacks.
        """
        started, config = time.perf_counter(), self.config
        require_events(data)
        self.items, self.item_text, self.counts = data.items, data.item_text, data.item_counts
        self.users = np.concatenate([[False], data.lengths > 0])
        self._take_index(make_index(config.index, data, options.seed))
        pairs = Pairs(data, self.index, config.drawing, config.families)
        self.families, self.stars = pairs.families, pairs.stars if "rating" in pairs.families else ()
        first = pairs(options.seed)
        if not first:
            raise DataError(f"{data.name}: nothing can be drawn from it, as no user has two events: collect more, or filter less")
        texts = [*self.index.texts, *(text for pair in first[: _READ // 2] for text in pair)]
        self.net = open_network(config.tuning, texts, self.index.tokens, options.seed)
        measure = None if (validate := options.validate) is None else lambda: validate(self)
        done = train(self.net, Answer(), Redrawn(self.net.wording, pairs), config.training, options, measure)
        self.provenance = {
            "seed": options.seed,
            "fit_seconds": time.perf_counter() - started,
            "parameters": sum(parameter.numel() for parameter in self.net.parameters()),
            "epochs": done.epochs,
            "curves": done.curves,
            "index": dict(self.index.facts),
            "families": list(self.families),
            "templates": VERSION,
        }
        return self

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request by their log-probabilities as the answer; popularity without a known item, and the notes say so."""
        batch = RequestBatch.of(requests)
        items, scores = np.full((len(batch), k), PAD, np.int32), np.full((len(batch), k), -np.inf, np.float32)
        prompts = [self._question(request) for request in batch]
        asked = sorted((row for row, prompt in enumerate(prompts) if prompt), key=lambda row: len(prompts[row]))
        beams = min(max(self.config.beams, k), len(self.items), _MOST_BEAMS)
        width = min(k, len(self.items))
        for rows in self._blocks(asked, beams):
            found = self._search([prompts[row] for row in rows], allowed_items(batch.take(rows), self.items.size), beams, width)
            items[rows, :width], scores[rows, :width] = found.items, found.scores
        unknown = np.array([row for row, prompt in enumerate(prompts) if not prompt], np.int64)
        popular = most_popular(self.counts, allowed_items(batch.take(unknown), self.items.size), k)
        items[unknown], scores[unknown] = popular.items, popular.scores
        return TopK(items, scores, [{} if prompt else {"reason": "no known item in the history: popularity"} for prompt in prompts])

    def rate(self, requests: Sequence[Request], items: Codes) -> Scores:
        """float32[n], the rating that each request's user will give to the item beside it: the mean over all ratings as answers.

        Raises:
            ModelError: If the model has not learned ratings.
        """
        self._require("rating")
        template = self._template("rating", "stars")
        prompts = [self._prompt(template, request, item=int(item)) for request, item in zip(requests, items, strict=True)]
        value = np.array([float(one) for one in self.stars])
        likely = self.net.log_likelihood(prompts, [self.stars] * len(prompts))
        chance = [np.exp(one - one.max()) for one in likely]
        return np.array([float(one @ value / one.sum()) for one in chance], np.float32)

    def write(self, requests: Sequence[Request], task: str) -> list[str]:
        """A text for each request: an "explanation" of its first candidate, or of the best item where it has none; or a "headline" over the text in its wish.

        Raises:
            ModelError: If the model has not learned it.
            ConfigError: If there is no such task.
        """
        if task == "headline":
            self._require("review")
            template = self._template("review", "headline")
            review = [self._writing.short(request.wish or "", self.config.drawing.words) for request in requests]
            return self.net.generate([self._prompt(template, request, told={"review": text}) for request, text in zip(requests, review, strict=True)])
        if task != "explanation":
            raise ConfigError(f"no text {task!r} to write: choose explanation or headline")
        self._require("explanation")
        template = self._template("explanation", "text")
        best = self.recommend(requests, 1).items[:, 0].tolist()
        return self.net.generate([self._prompt(template, request, item=item) for request, item in zip(requests, best, strict=True)])

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder."""
        index = {"texts": self.index.texts, "tokens": self.index.tokens, "facts": dict(self.index.facts)}
        arrays = {**arrays_of(self.net), "counts": self.counts, "users": self.users}
        facts = {"families": list(self.families), "stars": list(self.stars)}
        hub.save(path, self, arrays, facts, texts={**texts_of(self.net), _INDEX: json.dumps(index, ensure_ascii=False) + "\n"})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.provenance = folder.items, dict(folder.facts["provenance"])
        system.item_text = pl.Series("text", [""] * len(folder.items)) if folder.item_text is None else folder.item_text
        system.counts, system.users = folder.arrays["counts"], folder.arrays["users"]
        system.families, system.stars = tuple(folder.facts["families"]), tuple(folder.facts["stars"])
        index = json.loads(folder.texts[_INDEX])
        system._take_index(ItemIndex(tuple(index["texts"]), tuple(index["tokens"]), index["facts"]))
        system.net = reopen(system.config.tuning, folder)
        return system

    def _take_index(self, index: ItemIndex) -> None:
        self.index, self._trie = index, None
        self._writing = Writing(index, self.config.drawing.separators, self.config.drawing.max_history)

    def _blocks(self, rows: Sequence[int], beams: int) -> Iterator[Offsets]:
        """So many rows at once as their logits have room."""
        size = max(1, min(_ROWS, _LOGITS_AT_ONCE // (beams * len(self.net.tokenizer))))
        return (np.array(rows[first : first + size], np.int64) for first in range(0, len(rows), size))

    def _search(self, prompts: Sequence[str], allowed: npt.NDArray[np.bool_], beams: int, k: int) -> TopK:
        """The best `k` of the allowed items behind each prompt."""
        device = self.net.device
        if self._trie is None or self._trie.item.device != device:
            self._trie = Trie.of(self.net.tokens_of(self.index.texts), self.net.end).to(device)
        with torch.inference_mode():
            found = beam_search(self.net.decoder(prompts), self._trie, beams, k, torch.from_numpy(allowed).to(device), self.config.length_penalty)
        return TopK(found.items.cpu().numpy(), found.scores.cpu().numpy())

    def _template(self, family: Family, form: str) -> Template:
        return templates(family, form, self.config.template == "seen")[0]

    def _require(self, family: Family) -> None:
        if family not in self.families:
            raise ModelError(f"this model has not learned the family {family!r}: fit it on data with what that needs, and name it in families")

    def _question(self, request: Request) -> str:
        """The prompt for the next item, or "" where no item of the history is known."""
        known = (request.history != PAD).any()
        return self._prompt(self._template("sequential", "item"), request) if known else ""

    def _prompt(self, template: Template, request: Request, item: int = PAD, told: Mapping[str, str] = _NOTHING) -> str:
        user = request.user or 0
        named = self.config.drawing.told > 0 and 0 < user < len(self.users) and bool(self.users[user])
        history = self._writing.written(request.history)
        return self._writing.question(template)(user if named else 0, history, self._writing.texts[item], told=told)
