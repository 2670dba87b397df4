"""LLMRank: a language model, as it is, ranks a few candidates behind the user's history.

Paper: Hou et al., "Large Language Models are Zero-Shot Rankers for Recommender Systems" (ECIR 2024, arXiv 2305.08845).

How ours differs: candidates are labelled [A], [B] instead of numbered from zero, and titles are quoted, so that no title can pass for a label
or an order; a bootstrapping round has a permutation of its own for each request (the authors' code shares one); an answer that
cannot be read is asked for again without a look at the target (theirs asks again where the target is missing); and besides
written lists there is `answer = "likelihood"`: candidates are ranked by how likely their titles are as the answer, which never
leaves the list and reads the prompt once. There `calibrated` takes away what a title is worth without any history
(Zhao et al., ICML 2021; Holtzman et al., EMNLP 2021): common words are likely everywhere.

Paper, ML-1M, 200 users, 20 random candidates, gpt-3.5-turbo, recency prompt: NDCG@1/5/10/20 .233/.421/.488/.537; random order: .050/./.227/.352.
Ours: see docs/prompting.md.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import PAD, Codes, FitOptions, Recommender, Request, TopK
from tongtu.data.dataset import Dataset
from tongtu.data.item_text import item_names
from tongtu.errors import DataError, LanguageModelError
from tongtu.llm.cached import CachedModel
from tongtu.llm.grounding import ground
from tongtu.llm.model import Completion, Message, Prompt, Sampling, ask
from tongtu.llm.wording import labelled, labels, numbered, quoted
from tongtu.systems.prompted._asking import Asking, answered, opened
from tongtu.systems.prompted._retriever import RETRIEVER, Shortlist, fitted_retriever, generator, shortlists
from tongtu.systems.prompted._templates import AGAIN, ANSWER, CANDIDATES, HISTORY, VERSION, Words
from tongtu.vocab import Vocab

_PRIOR_BLOCK = 64  # titles whose likelihood without history is asked together: fixed blocks, so that the cache knows them again
_FAKE, _ORDER = 1, 2  # what random numbers are drawn for

Worth = npt.NDArray[np.float64]


@configuration
class LLMRankConfig(Asking):
    """Settings of LLMRank: those of `Asking`, and these.

    Attributes:
        answer: "likelihood" of each candidate's title, or a "list" that the model writes.
        prompt: The history in order; with a sentence on the newest ("recency"); or the newest as an example ("in-context").
        history: What of it is told: all "as it is", "shuffled", a "fake" one of random items, or "none": controls of the paper.
        max_history: The newest events told.
        candidates: How many the model ranks.
        retriever: Who proposes them: a system's name or a model folder; candidates of the request are taken instead where they are so few.
        retriever_settings: Of a system.
        shown: Whether the candidates stand in the prompt; a list needs it.
        calibrated: Whether a title's likelihood without history is taken away from the one behind it.
        rounds: Bootstrapping: how often the model is asked, each time in another order of the candidates; 1 keeps the order given.
        unparsed: Candidates that a written list leaves out are a "miss", or follow "last".
        retries: How often an answer in which no candidate is named is asked for again.
        words: How the things are called.
    """

    answer: Literal["likelihood", "list"] = "likelihood"
    prompt: Literal["sequential", "recency", "in-context"] = "sequential"
    history: Literal["as it is", "shuffled", "fake", "none"] = "as it is"
    max_history: Annotated[int, Field(ge=1)] = 20
    candidates: Annotated[int, Field(ge=1, le=500)] = 20
    retriever: str = "popular"
    retriever_settings: dict[str, Any] = Field(default_factory=dict)
    shown: bool = False
    calibrated: bool = True
    rounds: Annotated[int, Field(ge=1)] = 1
    unparsed: Literal["miss", "last"] = "miss"
    retries: Annotated[int, Field(ge=0)] = 1
    words: Words = Field(default_factory=Words)


@dataclasses.dataclass(frozen=True)
class Question:
    """One round of one request: the prompt, and the candidates in the order in which they stand there."""

    prompt: Prompt
    codes: Codes
    titles: list[str]
    names: list[str]


@dataclasses.dataclass
class Judged:
    """What the model thinks of the candidates of one round: worth float64[n], NaN where it does not say; and what it cost."""

    worth: Worth
    notes: dict[str, float]


class LLMRank:
    """LLMRank; see the module's text.

    Args:
        config: Settings.
        model: The language model, instead of the one that `config.llm` names.
    """

    Config: ClassVar[type[LLMRankConfig]] = LLMRankConfig
    items: Vocab
    item_text: pl.Series
    retriever: Recommender

    def __init__(self, config: LLMRankConfig | None = None, model: CachedModel | None = None) -> None:
        self.config = config or LLMRankConfig()
        self.provenance: dict[str, Any] = {}
        self._given = model
        self._prior: dict[int, float] = {}

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
        names = item_names(data.item_text, data.item_fields)
        if data.n_events and not (names != "").any():
            raise DataError(f"{data.name}: no item has a title or text to tell a language model: import it with --items FILE --text COLUMN")
        self.retriever = fitted_retriever(self.config.retriever, self.config.retriever_settings, data, options)
        self.items, self.item_text, self._prior = data.items, names, {}
        parameters = getattr(self.retriever, "provenance", {}).get("parameters")
        self.provenance = {
            "seed": options.seed,
            "fit_seconds": time.perf_counter() - started,
            "parameters": parameters,
            "language model": {"name": self.model.name, "fingerprint": self.model.fingerprint, "prompts": VERSION},
        }
        return self

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request; notes tell tokens, seconds, what could not be read, and "degraded" where the retriever answered alone."""
        lists = shortlists(self.retriever, requests, self.config.candidates, k, self._seed)
        asked = [(request, one) for request, one in zip(requests, lists, strict=True) if len(one.shown)]
        found = iter(answered(asked, self._judged, self.config.fallback))
        items = np.full((len(lists), k), PAD, np.int32)
        scores = np.full((len(lists), k), -np.inf, np.float32)
        notes: list[Mapping[str, Any]] = []
        for row, one in enumerate(lists):
            judged = next(found) if len(one.shown) else Judged(np.zeros(0), {})
            if isinstance(judged, LanguageModelError):
                codes, worth = one.shown, -np.arange(len(one.shown), dtype=np.float64)
                notes.append({"degraded": str(judged)})
            else:
                codes, worth = self._ranked(one, judged.worth)
                notes.append(judged.notes)
            codes = np.concatenate([codes, one.rest])[:k]
            below = (worth[-1] if len(worth) else 0.0) - 1.0 - np.arange(len(one.rest))
            items[row, : len(codes)], scores[row, : len(codes)] = codes, np.concatenate([worth, below])[:k]
        return TopK(items, scores, notes)

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

    def _ranked(self, one: Shortlist, worth: Worth) -> tuple[Codes, Worth]:
        """Candidates by what they are worth, best first; equal ones as the retriever has them."""
        place = {int(code): at for at, code in enumerate(one.shown)}
        tie = np.array([place[int(code)] for code in one.order])
        silent = np.isnan(worth)
        if self.config.unparsed == "miss":
            kept = ~silent
        else:
            kept, worth = np.ones(len(worth), np.bool_), np.where(silent, np.nanmin(worth, initial=1.0) - 1.0, worth)
        order = np.lexsort((tie[kept], -worth[kept]))
        return one.order[kept][order], worth[kept][order]

    def _judged(self, asked: Sequence[tuple[Request, Shortlist]]) -> list[Judged]:
        """What the model thinks of each request's candidates, in the order of `Shortlist.order`, over all rounds."""
        questions = [self._question(request, one, number) for request, one in asked for number in range(self.config.rounds)]
        rounds = self._by_likelihood(questions) if self.config.answer == "likelihood" else self._by_list(questions)
        found = []
        for row, (_, one) in enumerate(asked):
            part = slice(row * self.config.rounds, (row + 1) * self.config.rounds)
            place = {int(code): at for at, code in enumerate(one.order)}
            worth = np.full((self.config.rounds, len(one.order)), np.nan)
            for number, (question, judged) in enumerate(zip(questions[part], rounds[part], strict=True)):
                worth[number, [place[int(code)] for code in question.codes]] = judged.worth
            said = ~np.isnan(worth)
            mean = np.where(said.any(axis=0), np.where(said, worth, 0.0).sum(axis=0) / self.config.rounds, np.nan)
            names = dict.fromkeys(name for judged in rounds[part] for name in judged.notes)
            found.append(Judged(mean, {name: sum(judged.notes.get(name, 0.0) for judged in rounds[part]) for name in names}))
        return found

    def _question(self, request: Request, one: Shortlist, number: int) -> Question:
        codes = one.order
        if self.config.rounds > 1:
            codes = generator(request, self._seed, _ORDER, number).permutation(codes)
        titles, names = self._titles(codes), labels(len(codes))
        prompt = ask("\n\n".join([self._told(request), *self._choice(titles, names)]))
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
        wish = f"\n\nI wish for this: {quoted(request.wish)}" if request.wish else ""
        if not titles:
            return HISTORY["none"].format(**words) + wish
        kind = "sequential" if len(titles) == 1 and self.config.prompt == "in-context" else self.config.prompt
        return HISTORY[kind].format(history=numbered(titles), earlier=numbered(titles[:-1]), last=quoted(titles[-1]), **words) + wish

    def _choice(self, titles: list[str], names: list[str]) -> list[str]:
        """What the model is to choose from, and how."""
        words: dict[str, Any] = dataclasses.asdict(self.config.words) | {"n": len(titles), "first": names[0], "second": names[-1]}
        shown = self.config.shown or self.config.answer == "list"
        parts = [CANDIDATES.format(candidates=labelled(titles, names), **words)] if shown else []
        return [*parts, ANSWER[self.config.answer].format(**words)]

    def _titles(self, codes: Codes) -> list[str]:
        names = self.item_text.gather(codes.astype(np.int64) - 1)
        return [str(name) or f"{self.config.words.thing} {self.items.ids[int(code) - 1]}" for code, name in zip(codes, names, strict=True)]

    def _by_likelihood(self, questions: Sequence[Question]) -> list[Judged]:
        found = self.model.log_likelihood([one.prompt for one in questions], [one.titles for one in questions])
        if self.config.calibrated:
            self._learn_prior(np.unique(np.concatenate([one.codes for one in questions])) if questions else np.zeros(0, np.int32))
        judged = []
        for question, likely in zip(questions, found, strict=True):
            worth = likely.mean.astype(np.float64)
            if self.config.calibrated:
                worth = worth - np.array([self._prior[int(code)] for code in question.codes])
            judged.append(Judged(worth, {"prompt_tokens": likely.prompt_tokens + int(likely.tokens.sum()), "completion_tokens": 0, "seconds": likely.seconds}))
        return judged

    def _learn_prior(self, codes: Codes) -> None:
        """Mean log-likelihoods of titles without any history, for whole blocks of the catalogue."""
        missing = np.unique([(int(code) - 1) // _PRIOR_BLOCK for code in codes if int(code) not in self._prior])
        words = dataclasses.asdict(self.config.words)
        prompt = ask("\n\n".join([HISTORY["none"].format(**words), ANSWER["likelihood"].format(**words)]))
        blocks = [np.arange(1 + b * _PRIOR_BLOCK, min(1 + (b + 1) * _PRIOR_BLOCK, self.items.size), dtype=np.int32) for b in missing.astype(np.int64)]
        for block, likely in zip(blocks, self.model.log_likelihood([prompt] * len(blocks), [self._titles(block) for block in blocks]), strict=True):
            self._prior |= dict(zip(block.tolist(), likely.mean.astype(np.float64).tolist(), strict=True))

    def _by_list(self, questions: Sequence[Question]) -> list[Judged]:
        sampling = Sampling(temperature=self.config.temperature, max_tokens=self.config.max_tokens, seed=self._seed)
        prompts = [one.prompt for one in questions]
        answers = self.model.complete(prompts, sampling)
        judged = [self._read(one, answer) for one, answer in zip(questions, answers, strict=True)]
        for _ in range(self.config.retries):
            rows = [row for row, one in enumerate(judged) if np.isnan(one.worth).all() and len(one.worth)]
            for row in rows:
                prompts[row] = (*prompts[row], Message("assistant", answers[row].text), Message("user", AGAIN))
            for row, answer in zip(rows, self.model.complete([prompts[row] for row in rows], sampling), strict=True):
                before, answers[row] = judged[row].notes, answer
                judged[row] = self._read(questions[row], answer)
                judged[row].notes |= {name: before[name] + judged[row].notes[name] for name in ("prompt_tokens", "completion_tokens", "seconds", "asked again")}
                judged[row].notes["asked again"] += 1
        return judged

    def _read(self, question: Question, answer: Completion) -> Judged:
        """A written list: the first named is worth 1, the last of n 1/n."""
        n = len(question.titles)
        named = ground(answer.text, question.titles, question.names)
        worth = np.full(n, np.nan)
        worth[list(named.places)] = 1 - np.arange(len(named.places)) / max(n, 1)
        notes = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.tokens, "seconds": answer.seconds, "asked again": 0}
        return Judged(worth, notes | {"unnamed": n - len(named.places), "outside": named.outside, "repeated": named.repeated})
