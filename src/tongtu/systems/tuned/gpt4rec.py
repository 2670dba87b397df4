"""GPT4Rec: a language model writes what it expects the user to look for, and a search engine finds it.

Paper: Li et al., "GPT4Rec: A Generative Framework for Personalized Recommendation and User Interests Interpretation" (2023, arXiv 2304.03879).
Idea: a causal language model learns to go on from the titles of a history with the next one. Asked by beam search it writes several titles, each a
search query for one of the user's interests; BM25 over the catalogue's titles answers each, and the list takes K/m items from each of m queries. No
item has a number or vector of its own, so what is new is found at once, and the queries can be read.

How ours differs:
- No code of the paper is public: the prompt is ours, a title a line, and so are the details of the merge (`tongtu.systems._titles.merged`).
- One row teaches all titles of a history, each from those before it; `learns = "next"` teaches one title behind a prompt, as encoders need it.
- The search is our own beam search (`tongtu.decode.free`): a prompt is read once. Queries that say the same to the search count once, and more
  texts than queries may be followed (`beams`).
- K is `places`, and a longer list goes on in the same way: its first ten do not depend on how many more are asked for.
- The model starts from nothing by default; the paper tunes GPT-2. A wish adds its words to every query, and asks alone where nothing is known.
- Items of the history are left out where the request says so. What no query reaches follows by popularity, which is the answer to an empty history.

Paper, Beauty (5-core, 10 % of users held out): Recall@5 .0653, as GLoSS quotes it.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration, plain
from tongtu.core import PAD, Codes, FitOptions, Offsets, Request, RequestBatch, TopK
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError, DataError
from tongtu.systems._catalogue import with_items
from tongtu.systems._titles import TITLES, Searching, TitleSearch, merged
from tongtu.systems.baselines._histories import require_events
from tongtu.systems.prompted._templates import Words
from tongtu.systems.tuned._gpt4rec_queries import Asked, QueryWriter
from tongtu.systems.tuned._gpt4rec_titles import Lines, Redrawing, Shelf
from tongtu.systems.tuned._p5_limits import allowed_items
from tongtu.train.loop import MONITOR, train
from tongtu.train.settings import Training
from tongtu.tuning.examples import TextExamples
from tongtu.tuning.network import LanguageNet
from tongtu.tuning.objective import Answer
from tongtu.tuning.opening import open_network
from tongtu.tuning.saving import arrays_of, reopen, texts_of
from tongtu.tuning.settings import Tuning
from tongtu.vocab import Vocab

_HEAD = "All the {things} that one person has {acted}, a {thing} a line, the newest last:"


@configuration
class GPT4RecConfig:
    """Settings of GPT4Rec.

    Attributes:
        tuning: Which language model, and how much of it learns.
        training: How to train.
        learns: "titles", each title of a history from those before it, for causal models; "next", one title behind a prompt that is not learned.
        per_user: Of "next": titles drawn of each user, anew for each epoch.
        histories: Rows of "titles", or users of "next", that an epoch learns from, drawn anew for each; None for all.
        max_history: The newest titles told.
        queries: How many are written for each request.
        beams: Unfinished queries that are followed at once; None for as many as there are queries.
        length_penalty: See `tongtu.decode.free.free_search`.
        places: Places of a list that the queries share evenly; see `tongtu.systems._titles.merged`.
        search: Of BM25.
        k1_tried, b_tried: BM25's settings that are tried on validation, each with each, once the language model has learned; none for those of `search`.
        wish: How much words of a wish count beside those of a query; at 0 wishes are not heard.
        longest: Letters of a title.
        words: How the things are called.
        models: A folder that keeps fitted models: a fit with the same data, training and seed takes the one that is there, however it is asked and searched
            with; its epoch is chosen with the default of what only asks.
    """

    tuning: Tuning = Field(default_factory=lambda: Tuning(model="llama:tiny", max_target=32))
    training: Training = Field(
        default_factory=lambda: Training(
            epochs=20, patience=3, tokens=8_192, learning_rate=2e-3, weight_decay=0.01, warmup_steps=100, schedule="linear", clip=1.0
        )
    )
    learns: Literal["titles", "next"] = "titles"
    per_user: Annotated[int, Field(ge=1)] = 1
    histories: Annotated[int, Field(ge=1)] | None = None
    max_history: Annotated[int, Field(ge=1)] = 15
    queries: Annotated[int, Field(ge=1, le=200)] = 10
    beams: Annotated[int, Field(ge=1, le=200)] | None = None
    length_penalty: Annotated[float, Field(ge=0)] = 0.0
    places: Annotated[int, Field(ge=1)] = 10
    search: Searching = Field(default_factory=Searching)
    k1_tried: tuple[float, ...] = ()
    b_tried: tuple[float, ...] = ()
    wish: Annotated[float, Field(ge=0)] = 1.0
    longest: Annotated[int, Field(ge=8, le=500)] = 100
    words: Words = Field(default_factory=Words)
    models: str | None = None


_ASKED = ("queries", "beams", "length_penalty", "places", "search", "k1_tried", "b_tried", "wish", "models")  # what a trained network does not depend on


class GPT4Rec:
    """GPT4Rec; see the module's text."""

    Config: ClassVar[type[GPT4RecConfig]] = GPT4RecConfig
    items: Vocab
    item_text: pl.Series
    net: LanguageNet
    titles: TitleSearch
    _shelf: Shelf
    _counts: Offsets

    def __init__(self, config: GPT4RecConfig | None = None) -> None:
        self.config = config or GPT4RecConfig()
        self.provenance: dict[str, Any] = {}
        self._kept: dict[bytes, Asked] | None = None

    @property
    def hears_wishes(self) -> bool:
        """Whether a wish's words are searched with; see `core.Hears`."""
        return self.config.wish > 0

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Tune the language model on the histories' titles, then choose BM25's settings; with `options.validate`, the best epoch's weights are kept.

        Raises:
            DataError: If there are no events, no titles, or nothing to learn from.
            ConfigError: If the model cannot learn all titles of a history at once.
        """
        require_events(data)
        if self.config.models is None:
            self._learn(data, options)
        else:
            self._take(Path(self.config.models), data, options)
        self._choose_search(options)
        return self

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request; scores tell no more than the places. Notes tell what was searched for, and the tokens it took."""
        batch = RequestBatch.of(requests)
        asked, allowed = self._asked(batch), allowed_items(batch, self.items.size)
        wishes = [wish or "" for wish in batch.wish] if batch.wish is not None and self.hears_wishes else [""] * len(batch)
        searched = [one.queries or ((wish,) if wish.strip() else ()) for one, wish in zip(asked, wishes, strict=True)]
        row = [row for row, queries in enumerate(searched) for _ in queries]
        besides = [wishes[place] if asked[place].queries else "" for place in row]
        lists = iter(self.titles.ranked([query for queries in searched for query in queries], besides, self.config.wish, [allowed[place] for place in row], k))
        items = np.full((len(batch), k), PAD, np.int32)
        for place, queries in enumerate(searched):
            found = merged([next(lists).tolist() for _ in queries], k, self.config.places)
            items[place, : len(found)] = found
            self._fill(items[place], len(found), allowed[place])
        scores = np.where(items == PAD, -np.inf, -np.arange(k, dtype=np.float32)).astype(np.float32)
        return TopK(items, scores, [_notes(one, queries) for one, queries in zip(asked, searched, strict=True)])

    def write(self, requests: Sequence[Request], task: str = "queries") -> list[str]:
        """The queries for each request, one a line, the likeliest first.

        Raises:
            ConfigError: If there is no such task.
        """
        if task != "queries":
            raise ConfigError(f"no text {task!r} to write: choose queries")
        return ["\n".join(one.queries) for one in self._asked(RequestBatch.of(requests))]

    def with_items(self, items: pl.DataFrame, keep: bool = True) -> Self:
        """The same recommender for other items, whose titles are searched from now on; see `core.Extends`. A column "title" is heeded."""
        found = with_items(self.items, self.item_text, items, keep)
        other = copy.copy(self)
        other.items, other.item_text, other._counts = found.items, found.text, np.where(found.old == PAD, 0, self._counts[found.old])
        other._set_titles(self.titles.after(found, items, self.config.longest))
        other.provenance, other._kept = dict(self.provenance), None
        return other

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder."""
        facts = {"search": plain(self.titles.searching)}
        hub.save(path, self, {**arrays_of(self.net), "counts": self._counts}, facts, texts={**texts_of(self.net), TITLES: self.titles.written()})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.provenance, system._counts = folder.items, dict(folder.facts["provenance"]), folder.arrays["counts"]
        system.item_text = pl.Series("text", [""] * len(folder.items)) if folder.item_text is None else folder.item_text
        system.net = reopen(system.config.tuning, folder)
        system._set_titles(TitleSearch.read(folder.texts[TITLES], Searching(**folder.facts["search"])))
        return system

    def _learn(self, data: Dataset, options: FitOptions) -> None:
        started, config = time.perf_counter(), self.config
        titles = TitleSearch.of_data(data, config.longest, config.search)
        self.items, self.item_text, self._counts = data.items, data.item_text, data.item_counts
        self.net = open_network(config.tuning, [self._head, *titles.titles], seed=options.seed)
        if self.net.seq2seq and config.learns == "titles":
            raise ConfigError(f"{config.tuning.model} reads with an encoder, which learns what comes next alone: set learns to next, or choose a causal model")
        self._set_titles(titles)
        lines = Lines.of(self._shelf, data)
        per_user = config.per_user if config.learns == "next" else None
        whole = per_user is None and config.histories is None
        examples: TextExamples | Redrawing = lines.whole() if whole else Redrawing(lines, per_user, config.histories)
        if not len(examples.epoch(options.seed, 0) if isinstance(examples, Redrawing) else examples):
            raise DataError(f"{data.name}: no user has two events with titles, so there is no next title to learn: collect more, or filter less")
        measure = None if (validate := options.validate) is None else lambda: validate(self)
        done = train(self.net, Answer(), examples, config.training, options, measure)
        self.provenance = {
            "seed": options.seed,
            "fit_seconds": time.perf_counter() - started,
            "parameters": sum(parameter.numel() for parameter in self.net.parameters()),
            "epochs": done.epochs,
            "curves": done.curves,
        }

    def _take(self, folder: Path, data: Dataset, options: FitOptions) -> None:
        """Take the trained network that `folder` holds, and train it if it is not there."""
        default = type(self.config)()
        config = dataclasses.replace(self.config, **{name: getattr(default, name) for name in _ASKED})
        facts = json.dumps([plain(config), data.fingerprint, options.seed], sort_keys=True)
        kept = folder / f"gpt4rec-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"
        if not kept.is_dir():
            type(self)(config).fit(data, options).save_pretrained(kept)
        whole = type(self).from_pretrained(kept)
        self.items, self.item_text, self._counts, self.net = data.items, data.item_text, whole._counts, whole.net
        self._set_titles(TitleSearch(whole.titles.titles, self.config.search))
        self.provenance = {**whole.provenance, "taken_from": str(kept)}

    def _choose_search(self, options: FitOptions) -> None:
        """Try BM25's settings on validation. Queries do not depend on them and are written once."""
        config, started = self.config, time.perf_counter()
        tried = [(k1, b) for k1 in config.k1_tried or (config.search.k1,) for b in config.b_tried or (config.search.b,)]
        if options.validate is None or len(tried) == 1:
            return
        self._kept = {}
        found: list[dict[str, float]] = []
        for k1, b in tried:
            self.titles = TitleSearch(self.titles.titles, dataclasses.replace(config.search, k1=k1, b=b))
            found.append({"k1": k1, "b": b, MONITOR: float(options.validate(self)[MONITOR])})
        best = max(found, key=lambda one: one[MONITOR])
        self.titles = TitleSearch(self.titles.titles, dataclasses.replace(config.search, k1=best["k1"], b=best["b"]))
        self._kept = None
        self.provenance |= {"search": best, "searches": found, "fit_seconds": self.provenance["fit_seconds"] + time.perf_counter() - started}

    @property
    def _head(self) -> str:
        return _HEAD.format(**dataclasses.asdict(self.config.words))

    def _set_titles(self, titles: TitleSearch) -> None:
        self.titles = titles
        self._shelf = Shelf.of(self.net.wording, titles.titles.to_list(), self._head, self.config.max_history)

    def _asked(self, batch: RequestBatch) -> list[Asked]:
        """Distinct queries for each request, the likeliest first; none where no title of the history is known."""
        config = self.config
        beams = max(config.queries, config.beams or 0)
        write = QueryWriter(self.net, self._shelf, self.titles, config.queries, beams, config.length_penalty, self._kept)
        return write([request.history for request in batch])

    def _fill(self, items: Codes, place: int, allowed: npt.NDArray[np.bool_]) -> None:
        """Fill the row `items` from `place` on with the most popular of the allowed items that are not there yet."""
        if place == len(items):
            return
        left = allowed.copy()
        left[items] = False
        codes = np.flatnonzero(left)
        best = codes[np.argsort(-self._counts[codes], kind="stable")][: len(items) - place]
        items[place : place + len(best)] = best


def _notes(asked: Asked, searched: Sequence[str]) -> dict[str, Any]:
    if not searched:
        return {"reason": "no known title in the history: popularity"}
    return {"queries": len(searched), "searched": list(searched), "prompt_tokens": asked.read, "completion_tokens": asked.written}
