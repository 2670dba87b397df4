"""LLMRank: a language model, as it is, ranks a few candidates behind the user's history.

Paper: Hou et al., "Large Language Models are Zero-Shot Rankers for Recommender Systems" (ECIR 2024, arXiv 2305.08845).

How ours differs: candidates are labelled [A], [B] instead of numbered from zero, and titles are quoted, so that no title can pass for a label
or an order; a bootstrapping round has a permutation of its own for each request (the authors' code shares one); an answer that
cannot be read is asked for again without a look at the target (theirs asks again where the target is missing); and besides
written lists there is `answer = "likelihood"`: candidates are ranked by how likely their titles are as the answer, which never
leaves the list and reads the prompt once. There `likelihood = "calibrated"` takes away what a title is worth without any history
(Zhao et al., ICML 2021; Holtzman et al., EMNLP 2021): common words are likely everywhere.

Paper, ML-1M, 200 users, 20 random candidates, gpt-3.5-turbo, recency prompt: NDCG@1/5/10/20 .233/.421/.488/.537; random order: .050/.147/.227/.352.
Ours, SmolLM2-135M by likelihood, other candidates and ten films told: .120/.285/.355/.439 (docs/prompting.md).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import PAD, Codes, FitOptions, Recommender, Request, TopK
from tongtu.data.dataset import Dataset
from tongtu.llm.cached import CachedModel
from tongtu.llm.model import ask
from tongtu.llm.wording import LONGEST_WISH, labels, numbered, quoted
from tongtu.systems._retriever import RETRIEVER, Shortlist, fitted_retriever, generator, shortlists
from tongtu.systems.prompted._asking import answered, opened
from tongtu.systems.prompted._ranking import Judge, Judged, Question, Ranking, by_worth, choice, model_facts, titles_of, told_names, top_lists
from tongtu.systems.prompted._templates import HISTORY
from tongtu.vocab import Vocab

_FAKE, _ORDER = 1, 2  # what random numbers are drawn for


@configuration
class LLMRankConfig(Ranking):
    """Settings of LLMRank: those of `Ranking`, and these.

    Attributes:
        prompt: The history in order; with a sentence on the newest ("recency"); or the newest as an example ("in-context").
        history: What of it is told: all "as it is", "shuffled", a "fake" one of random items, or "none": controls of the paper.
        rounds: Bootstrapping: how often the model is asked, each time in another order of the candidates; 1 keeps the order given, and is enough
            where the candidates are not shown.
        unparsed: Candidates that a written list leaves out are a "miss", or follow "last".
    """

    prompt: Literal["sequential", "recency", "in-context"] = "sequential"
    history: Literal["as it is", "shuffled", "fake", "none"] = "as it is"
    rounds: Annotated[int, Field(ge=1)] = 1
    unparsed: Literal["miss", "last"] = "miss"


class LLMRank:
    """LLMRank; see the module's text.

    Args:
        config: Settings.
        model: The language model, instead of the one that `config.llm` names.
    """

    Config: ClassVar[type[LLMRankConfig]] = LLMRankConfig
    hears_wishes: ClassVar[bool] = True
    items: Vocab
    item_text: pl.Series
    retriever: Recommender

    def __init__(self, config: LLMRankConfig | None = None, model: CachedModel | None = None) -> None:
        self.config = config or LLMRankConfig()
        self.provenance: dict[str, Any] = {}
        self._given = model
        self._judge: Judge | None = None

    @cached_property
    def model(self) -> CachedModel:
        """The language model, opened when it is asked first."""
        return self._given or opened(self.config)

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Fit the retriever; the language model learns nothing.

        Raises:
            DataError: If there are no events, or no item has a name to be told by.
        """
        started = time.perf_counter()
        names = told_names(data)
        self.retriever = fitted_retriever(self.config.retriever, self.config.retriever_settings, data, options)
        self.items, self.item_text, self._judge = data.items, names, None
        parameters = getattr(self.retriever, "provenance", {}).get("parameters")
        self.provenance = {"seed": options.seed, "fit_seconds": time.perf_counter() - started, "parameters": parameters}
        self.provenance["language model"] = model_facts(self.model)
        return self

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request; notes tell tokens, seconds, what could not be read, and "degraded" where the retriever answered alone."""
        lists = shortlists(self.retriever, requests, self.config.candidates, k, self._seed)
        asked = [(request, one) for request, one in zip(requests, lists, strict=True) if len(one.shown)]
        judged = answered(asked, self._judged, self.config.fallback)
        return top_lists(lists, judged, k, lambda one, worth: by_worth(one, worth, self.config.unparsed == "last"))

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder with the retriever in it; the language model is named, not kept."""
        hub.save(path, self, {}, parts={RETRIEVER: self.retriever})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder; the language model is opened when it is first asked."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.provenance = folder.items, dict(folder.facts["provenance"])
        system.item_text = pl.Series("text", [""] * len(folder.items)) if folder.item_text is None else folder.item_text
        system.retriever = hub.open_model(folder.path / RETRIEVER)
        return system

    @property
    def _seed(self) -> int:
        return int(self.provenance["seed"])

    @property
    def _rounds(self) -> int:
        """How often the model is asked: another order changes nothing where the prompt shows none."""
        return self.config.rounds if self.config.shown or self.config.answer != "likelihood" else 1

    def _judged(self, asked: Sequence[tuple[Request, Shortlist]]) -> list[Judged]:
        """What the model thinks of each request's candidates, in the order of `Shortlist.order`, over all rounds."""
        questions = [self._question(request, one, number) for request, one in asked for number in range(self._rounds)]
        self._judge = self._judge or Judge(self.model, self.config, self._titles)
        rounds = self._judge(questions, self._seed)
        found = []
        for row, (_, one) in enumerate(asked):
            part = slice(row * self._rounds, (row + 1) * self._rounds)
            place = {int(code): at for at, code in enumerate(one.order)}
            worth = np.full((self._rounds, len(one.order)), np.nan)
            for number, (question, judged) in enumerate(zip(questions[part], rounds[part], strict=True)):
                worth[number, [place[int(code)] for code in question.codes]] = judged.worth
            said = ~np.isnan(worth)
            mean = np.where(said.any(axis=0), np.where(said, worth, 0.0).sum(axis=0) / self._rounds, np.nan)
            names = dict.fromkeys(name for judged in rounds[part] for name in judged.notes)
            found.append(Judged(mean, {name: sum(judged.notes.get(name, 0.0) for judged in rounds[part]) for name in names}))
        return found

    def _question(self, request: Request, one: Shortlist, number: int) -> Question:
        codes = one.order
        if self._rounds > 1:
            codes = generator(request, self._seed, _ORDER, number).permutation(codes)
        titles, names = self._titles(codes), labels(len(codes))
        prompt = ask("\n\n".join([self._told(request), *choice(self.config, titles, names)]))
        return Question(prompt, codes, titles, names)

    def _told(self, request: Request) -> str:
        """The history as the prompt tells it."""
        history = request.history[request.history != PAD][-self.config.max_history :]
        if self.config.history == "shuffled":
            history = generator(request, self._seed, _FAKE).permutation(history)
        elif self.config.history == "fake":
            history = generator(request, self._seed, _FAKE).integers(1, self.items.size, len(history)).astype(np.int32)
        elif self.config.history == "none":
            history = history[:0]
        titles, words = self._titles(history), dataclasses.asdict(self.config.words)
        wish = f"\n\nI wish for this: {quoted(request.wish, LONGEST_WISH)}" if request.wish else ""
        if not titles:
            return HISTORY["none"].format(**words) + wish
        kind = "sequential" if len(titles) == 1 and self.config.prompt == "in-context" else self.config.prompt
        return HISTORY[kind].format(history=numbered(titles), earlier=numbered(titles[:-1]), last=quoted(titles[-1]), **words) + wish

    def _titles(self, codes: Codes) -> list[str]:
        return titles_of(self.item_text, self.items, codes, self.config.words.thing)
