"""How a language model ranks a few candidates: by the likelihood of their titles, or as a written list of labels.

Shared by the systems that ask for rankings; what the prompt says before the candidates is theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from tongtu.config import configuration
from tongtu.core import PAD, Codes, TopK
from tongtu.data.dataset import Dataset
from tongtu.data.item_text import item_names
from tongtu.errors import DataError, LanguageModelError
from tongtu.llm.cached import CachedModel
from tongtu.llm.grounding import ground
from tongtu.llm.model import Completion, Message, Prompt, Sampling, ask
from tongtu.llm.wording import labelled, labels
from tongtu.systems._retriever import Shortlist
from tongtu.systems.prompted._asking import Asking
from tongtu.systems.prompted._templates import AGAIN, ANSWER, CANDIDATES, HISTORY, VERSION, Words
from tongtu.vocab import Vocab

_PRIORS_AT_ONCE = 64

Worth = npt.NDArray[np.float64]


@configuration
class Ranking(Asking):
    """Settings of a ranking by a language model: those of `Asking`, and these.

    Attributes:
        answer: "likelihood" of each candidate's title; a "list" that the model writes, one label a line; or the same as "json", with a schema that
            servers which offer schemas hold the model to.
        max_history: The newest events told.
        candidates: How many the model ranks.
        retriever: Who proposes them: a system's name or a model folder; candidates of the request are taken instead where they are so few.
        retriever_settings: Of a system.
        shown: Whether the candidates stand in the prompt; a list needs it.
        likelihood: What ranks: the log-likelihood of a whole title ("sum"), of a token of it ("mean"), or what the history adds to the mean ("calibrated").
        retries: How often an answer in which no candidate is named is asked for again.
        words: How the things are called.
    """

    answer: Literal["likelihood", "list", "json"] = "likelihood"
    max_history: Annotated[int, Field(ge=1)] = 20
    candidates: Annotated[int, Field(ge=1, le=500)] = 20
    retriever: str = "popular"
    retriever_settings: dict[str, Any] = Field(default_factory=dict)
    shown: bool = False
    likelihood: Literal["sum", "mean", "calibrated"] = "sum"
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
    """What the model thinks of the candidates of one question: worth float64[n], NaN where it does not say; and what it cost."""

    worth: Worth
    notes: dict[str, float]


class Judge:
    """A language model that says what candidates are worth.

    Args:
        model: The language model.
        config: Settings.
        titles: Of item codes.
        by_title: Whether a written title counts where there is no label; else labels alone do.
    """

    def __init__(self, model: CachedModel, config: Ranking, titles: Callable[[Codes], list[str]], by_title: bool = True) -> None:
        self.model, self.config = model, config
        self._titles, self._by_title = titles, by_title
        self._prior: dict[int, float] = {}

    def __call__(self, questions: Sequence[Question], seed: int) -> list[Judged]:
        """What it thinks, one entry a question; `seed` is that of drawn answers.

        Raises:
            LanguageModelError: If the model does not answer.
        """
        return self._by_likelihood(questions) if self.config.answer == "likelihood" else self._by_list(questions, seed)

    def _by_likelihood(self, questions: Sequence[Question]) -> list[Judged]:
        found = self.model.log_likelihood([one.prompt for one in questions], [one.titles for one in questions])
        if self.config.likelihood == "calibrated":
            self._learn_prior(np.unique(np.concatenate([one.codes for one in questions])) if questions else np.zeros(0, np.int32))
        judged = []
        for question, likely in zip(questions, found, strict=True):
            worth = (likely.summed if self.config.likelihood == "sum" else likely.mean).astype(np.float64)
            if self.config.likelihood == "calibrated":
                worth = worth - np.array([self._prior[int(code)] for code in question.codes])
            judged.append(Judged(worth, {"prompt_tokens": likely.prompt_tokens + int(likely.tokens.sum()), "completion_tokens": 0, "seconds": likely.seconds}))
        return judged

    def _learn_prior(self, codes: Codes) -> None:
        """Mean log-likelihoods of titles without any history."""
        missing = np.array([code for code in codes if int(code) not in self._prior], np.int32)
        words = dataclasses.asdict(self.config.words)
        prompt = ask("\n\n".join([HISTORY["none"].format(**words), ANSWER["likelihood"].format(**words)]))
        blocks = [missing[start : start + _PRIORS_AT_ONCE] for start in range(0, len(missing), _PRIORS_AT_ONCE)]
        for block, likely in zip(blocks, self.model.log_likelihood([prompt] * len(blocks), [self._titles(block) for block in blocks]), strict=True):
            self._prior |= dict(zip(block.tolist(), likely.mean.astype(np.float64).tolist(), strict=True))

    def _by_list(self, questions: Sequence[Question], seed: int) -> list[Judged]:
        prompts = [one.prompt for one in questions]
        answers = self._written(prompts, questions, seed)
        judged = [self._read(one, answer) for one, answer in zip(questions, answers, strict=True)]
        for _ in range(self.config.retries):
            rows = [row for row, one in enumerate(judged) if np.isnan(one.worth).all() and len(one.worth)]
            for row in rows:
                prompts[row] = (*prompts[row], Message("assistant", answers[row].text), Message("user", AGAIN))
            for row, answer in zip(rows, self._written([prompts[row] for row in rows], [questions[row] for row in rows], seed), strict=True):
                before, answers[row] = judged[row].notes, answer
                judged[row] = self._read(questions[row], answer)
                judged[row].notes |= {name: before[name] + judged[row].notes[name] for name in ("prompt_tokens", "completion_tokens", "seconds", "asked again")}
                judged[row].notes["asked again"] += 1
        return judged

    def _written(self, prompts: Sequence[Prompt], questions: Sequence[Question], seed: int) -> list[Completion]:
        """What the model writes to prompts about questions; under a schema it may name the labels that there are."""
        sizes = np.array([len(one.names) if self.config.answer == "json" else 0 for one in questions], np.int64)
        answers: dict[int, Completion] = {}
        for size in np.unique(sizes):
            rows = np.flatnonzero(sizes == size).tolist()
            schema = _schema(int(size)) if size else None
            sampling = Sampling(temperature=self.config.temperature, max_tokens=self.config.max_tokens, seed=seed, schema=schema)
            answers |= dict(zip(rows, self.model.complete([prompts[row] for row in rows], sampling), strict=True))
        return [answers[row] for row in range(len(prompts))]

    def _read(self, question: Question, answer: Completion) -> Judged:
        """A written list: the first named is worth 1, the last of n 1/n."""
        n = len(question.titles)
        named = ground(answer.text, question.titles if self._by_title else [""] * n, question.names)
        worth = np.full(n, np.nan)
        worth[list(named.places)] = 1 - np.arange(len(named.places)) / max(n, 1)
        notes = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.tokens, "seconds": answer.seconds, "asked again": 0}
        return Judged(worth, notes | {"unnamed": n - len(named.places), "outside": named.outside, "repeated": named.repeated})


def _schema(n: int) -> dict[str, Any]:
    """Of a ranking of `n` labels, as a JSON schema."""
    ranking = {"type": "array", "items": {"type": "string", "enum": labels(n)}}
    return {"type": "object", "properties": {"ranking": ranking}, "required": ["ranking"], "additionalProperties": False}


def choice(config: Ranking, titles: list[str], names: list[str]) -> list[str]:
    """What the model is to choose from, and how: the last parts of a prompt."""
    words: dict[str, Any] = dataclasses.asdict(config.words) | {"n": len(titles), "first": names[0], "second": names[-1]}
    shown = config.shown or config.answer != "likelihood"
    parts = [CANDIDATES.format(candidates=labelled(titles, names), **words)] if shown else []
    return [*parts, ANSWER[config.answer].format(**words)]


def titles_of(text: pl.Series, items: Vocab, codes: Codes, thing: str) -> list[str]:
    """Titles of item codes; one that has none is called by its id."""
    names = text.gather(codes.astype(np.int64) - 1)
    return [str(name) or f"{thing} {items.ids[int(code) - 1]}" for code, name in zip(codes, names, strict=True)]


def told_names(data: Dataset) -> pl.Series:
    """What items are called in prompts.

    Raises:
        DataError: If no item has a name.
    """
    names = item_names(data.item_text, data.item_fields)
    if data.n_events and not (names != "").any():
        raise DataError(f"{data.name}: no item has a title or text to tell a language model: import it with --items FILE --text COLUMN")
    return names


def model_facts(model: CachedModel) -> dict[str, Any]:
    """What a model folder remembers of the language model."""
    return {"name": model.name, "fingerprint": model.fingerprint, "prompts": VERSION}


def by_worth(one: Shortlist, worth: Worth, silent_last: bool) -> tuple[Codes, Worth]:
    """Candidates by what they are worth, best first; equal ones as they were shown, so that who says nothing gets no credit for the retriever's order.

    Args:
        one: The candidates; `worth` is in the order of `one.order`.
        worth: float64[n], NaN where the model does not say.
        silent_last: Whether candidates it says nothing of come last; else they are left out.
    """
    silent = np.isnan(worth)
    if silent_last:
        kept, worth = np.ones(len(worth), np.bool_), np.where(silent, np.nanmin(worth, initial=1.0) - 1.0, worth)
    else:
        kept = ~silent
    order = np.argsort(-worth[kept], kind="stable")
    return one.order[kept][order], worth[kept][order]


def top_lists(
    lists: Sequence[Shortlist], judged: Sequence[Judged | LanguageModelError], k: int, rank: Callable[[Shortlist, Worth], tuple[Codes, Worth]]
) -> TopK:
    """The answer to requests: candidates as `rank` has them, then what follows all of them; the retriever's order and "degraded" where the model failed.

    Args:
        lists: Candidates of each request.
        judged: What the model thinks of those of each request that has any.
        k: Length of a list.
        rank: Candidates best first, and what they are worth.
    """
    found = iter(judged)
    items = np.full((len(lists), k), PAD, np.int32)
    scores = np.full((len(lists), k), -np.inf, np.float32)
    notes: list[Mapping[str, Any]] = []
    for row, one in enumerate(lists):
        said = next(found) if len(one.shown) else Judged(np.zeros(0), {})
        if isinstance(said, LanguageModelError):
            codes, worth = one.shown, -np.arange(len(one.shown), dtype=np.float64)
            notes.append({"degraded": str(said)})
        else:
            codes, worth = rank(one, said.worth)
            notes.append(said.notes)
        rest = one.rest if len(codes) == len(one.shown) else one.rest[:0]  # it stands behind all candidates, and moves up for none that is missed
        codes = np.concatenate([codes, rest])[:k]
        below = (worth[-1] if len(worth) else 0.0) - 1.0 - np.arange(len(rest))
        items[row, : len(codes)], scores[row, : len(codes)] = codes, np.concatenate([worth, below])[:k]
    return TopK(items, scores, notes)
