"""InstructRec: a language model tuned on instructions that are made of a user's log: who the user is, what they want now, what is to be done.

Paper: Zhang et al., "Recommendation as Instruction Following: A Large Language Model Empowered Recommendation Approach" (2023, arXiv 2305.07001).
Idea: an instruction = preference (none, titles of the history, taste in words) x intention (none, vague, specific) x task (yes or no, one of two,
any item, one of a list), so that one model does sequential recommendation, product search and personal search, and hears free text.

How ours differs: no code or data of the paper is public, so the templates are ours, and so are the rules by which taste comes from categories,
brands and title words, and wishes from categories and sentences of reviews; a teacher model may add words of its own for some users (theirs is
GPT-3.5, for all). Words that a wish shares with its target's title are cut. Instructions are drawn anew each epoch. Theirs is Flan-T5-XL, ours is by
default a small T5 that starts from nothing. Candidates come from a fitted recommender or the request and are ranked by the likelihood of their
titles; titles of several items are made different.

Paper, Amazon Games and CDs: better than GPT-3.5 and its other baselines, most of all where the intention is told (no table was at hand).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
import torch
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration, plain
from tongtu.core import PAD, Codes, FitOptions, Recommender, Request, TopK
from tongtu.data.dataset import Dataset
from tongtu.data.wishes import CATEGORIES
from tongtu.llm.ledger import Budget
from tongtu.llm.wording import LONGEST_WISH, quoted
from tongtu.systems._retriever import RETRIEVER, Shortlist, fitted_retriever, shortlists
from tongtu.systems.baselines._histories import require_events
from tongtu.systems.prompted._asking import Asking, opened
from tongtu.systems.prompted._ranking import Judged, Worth, by_worth, top_lists
from tongtu.systems.prompted._templates import Words
from tongtu.systems.tuned._instruct_data import Instructing, Instructions, Known, Taught
from tongtu.systems.tuned._instruct_templates import VERSION, asking
from tongtu.systems.tuned._teacher import teach
from tongtu.train.loop import train
from tongtu.train.settings import Training
from tongtu.tuning.examples import Redrawn
from tongtu.tuning.network import LanguageNet
from tongtu.tuning.objective import Answer
from tongtu.tuning.opening import open_network
from tongtu.tuning.saving import arrays_of, reopen, texts_of
from tongtu.tuning.settings import Tuning
from tongtu.vocab import Vocab

_READ = 50_000  # instructions from which a tokenizer learns

Sense = Literal["history", "wish"]
_EVERYTHING: tuple[Sense, ...] = ("history", "wish")


@configuration
class InstructRecConfig(Instructing):
    """Settings of InstructRec: those of `Instructing`, and these.

    Attributes:
        tuning: Which language model, and how much of it learns.
        training: How to train.
        teacher: A language model (see `tongtu.llm.model`) that puts taste and wishes of some users into words, or None: rules alone.
        teacher_users: How many.
        budget: The most that the teacher may cost.
        retriever: Who proposes candidates: a system's name or a model folder; candidates of the request are taken instead where they are so few.
        retriever_settings: Of a system.
        candidates: How many the model ranks.
        shown: Whether the candidates stand in the prompt; else they are ranked as answers out of everything.
        likelihood: What ranks: the log-likelihood of a whole title ("sum"), a token's share of it ("mean"), or what history and wish add to the
            sum ("calibrated").
        max_history: The newest events told.
        hears: What is told of a request; a model is trained alike whatever it hears. A request of which nothing is heard gets the retriever's order.
        models: A folder that keeps fitted models: a fit with the same data, settings and seed takes the one that is there, whatever it hears; its epoch
            is chosen hearing everything.
        categories: Item field from which tastes and wishes are made.
        longest: Letters of a title.
        words: How the things are called.
    """

    tuning: Tuning = Field(default_factory=Tuning)
    training: Training = Field(
        default_factory=lambda: Training(epochs=20, patience=3, tokens=2_048, learning_rate=2e-3, schedule="linear", warmup_steps=100, clip=1.0)
    )
    teacher: str | None = None
    teacher_users: Annotated[int, Field(ge=1)] = 200
    budget: Budget = Field(default_factory=Budget)
    retriever: str = "sasrec"
    retriever_settings: dict[str, Any] = Field(default_factory=dict)
    candidates: Annotated[int, Field(ge=1, le=500)] = 20
    shown: bool = False
    likelihood: Literal["sum", "mean", "calibrated"] = "sum"
    max_history: Annotated[int, Field(ge=1)] = 10
    hears: tuple[Sense, ...] = _EVERYTHING
    models: str | None = None
    categories: str = CATEGORIES
    longest: Annotated[int, Field(ge=8, le=200)] = 60
    words: Words = Field(default_factory=Words)


class InstructRec:
    """InstructRec; see the module's text."""

    Config: ClassVar[type[InstructRecConfig]] = InstructRecConfig
    items: Vocab
    item_text: pl.Series
    retriever: Recommender
    net: LanguageNet

    def __init__(self, config: InstructRecConfig | None = None) -> None:
        self.config = config or InstructRecConfig()
        self.provenance: dict[str, Any] = {}
        self._prior: dict[int, float] = {}

    @property
    def hears_wishes(self) -> bool:
        """See `Hears`."""
        return "wish" in self.config.hears

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Fit the retriever, make instructions of every event of `data`, and tune the language model on them.

        Raises:
            DataError: If there are no events, or no item has a title or text.
            BudgetError: If the teacher would cost more than was allowed.
        """
        started, config = time.perf_counter(), self.config
        require_events(data)
        if config.models is not None:
            return self._shared(Path(config.models), data, options)
        known = Known.of(data, config.categories, config.words.thing, config.longest)
        taught = self._taught(known, options.seed)
        instructions = Instructions(known, config, config.words, config.max_history, options.seed, taught)
        self.retriever = fitted_retriever(config.retriever, config.retriever_settings, data, options)
        self.items, self.item_text, self._prior = data.items, pl.Series("text", known.facts.names[1:]), {}
        texts = [*known.facts.names[1:], *(text for pair in instructions.draw(0)[:_READ] for text in pair)]
        self.net = open_network(config.tuning, texts, seed=options.seed)
        self.provenance = {"seed": options.seed}
        validate = options.validate
        measure = None if validate is None else lambda: self._measured(validate)
        done = train(self.net, Answer(), Redrawn(self.net.wording, instructions.draw), config.training, options, measure)
        self._prior = {}
        self.provenance |= {
            "fit_seconds": time.perf_counter() - started,
            "parameters": sum(parameter.numel() for parameter in self.net.parameters()),
            "epochs": done.epochs,
            "curves": done.curves,
            "templates": VERSION,
            "taught": {"tastes": len(taught.tastes), "wishes": len(taught.wishes)},
        }
        return self

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request; notes tell tokens and seconds, and what was heard of the request."""
        lists = shortlists(self.retriever, requests, self.config.candidates, k, int(self.provenance["seed"]))
        shown = [(request, one) for request, one in zip(requests, lists, strict=True) if len(one.shown)]
        judged = [self._judged(request, one) for request, one in shown]
        return top_lists(lists, judged, k, lambda one, worth: by_worth(one, worth, silent_last=True))

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder with the retriever in it."""
        hub.save(path, self, arrays_of(self.net), texts=texts_of(self.net), parts={RETRIEVER: self.retriever})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.provenance = folder.items, dict(folder.facts["provenance"])
        system.item_text = pl.Series("text", [""] * len(folder.items)) if folder.item_text is None else folder.item_text
        system.net = reopen(system.config.tuning, folder)
        system.retriever = hub.open_model(folder.path / RETRIEVER)
        return system

    def _shared(self, folder: Path, data: Dataset, options: FitOptions) -> Self:
        """Take the model that hears everything, which is fitted if `folder` does not hold it."""
        config = dataclasses.replace(self.config, hears=_EVERYTHING, models=None)
        facts = json.dumps([plain(config), VERSION, data.fingerprint, options.seed], sort_keys=True)
        kept = folder / f"instructrec-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"
        if not kept.is_dir():
            type(self)(config).fit(data, options).save_pretrained(kept)
        whole = type(self).from_pretrained(kept)
        self.items, self.item_text, self.retriever, self.net, self._prior = whole.items, whole.item_text, whole.retriever, whole.net, {}
        self.provenance = {**whole.provenance, "taken_from": str(kept)}
        return self

    def _taught(self, known: Known, seed: int) -> Taught:
        if self.config.teacher is None:
            return Taught()
        model = opened(Asking(llm=self.config.teacher, budget=self.config.budget))
        return teach(model, known, self.config.words, self.config.teacher_users, seed)

    def _measured(self, validate: Callable[[Recommender], Mapping[str, float]]) -> Mapping[str, float]:
        self._prior = {}
        return validate(self)

    def _judged(self, request: Request, one: Shortlist) -> Judged:
        """What the candidates of a request are worth, in the order of `Shortlist.order`."""
        started = time.perf_counter()
        heard = self._heard(request)
        if not heard:
            place = {int(code): at for at, code in enumerate(one.shown)}
            return Judged(np.array([-place[int(code)] for code in one.order], np.float64), {"prompt_tokens": 0, "completion_tokens": 0, "seconds": 0.0})
        titles = self._titles(one.order)
        prompt = self._prompt(heard, titles)
        worth, tokens = self._likelihood(prompt, titles)
        if self.config.likelihood == "calibrated":
            worth = worth - self._priors(one.order)
        notes = {"prompt_tokens": tokens, "completion_tokens": 0, "seconds": time.perf_counter() - started}
        return Judged(worth, notes)

    def _likelihood(self, prompt: str, titles: list[str]) -> tuple[Worth, int]:
        """float64[n] of titles as answers, and the tokens that were read."""
        with torch.inference_mode():
            (summed,) = self.net.log_likelihood([prompt], [titles])
        tokens = np.array([len(one) + 1 for one in self.net.tokens_of(titles)])
        worth = summed.astype(np.float64)
        if self.config.likelihood == "mean":
            worth /= tokens
        return worth, len(self.net.wording.prompts([prompt])[0]) + int(tokens.sum())

    def _priors(self, codes: Codes) -> Worth:
        """Log-likelihoods of titles as answers where nothing is told of anybody."""
        missing = np.array([code for code in codes if int(code) not in self._prior], np.int32)
        if len(missing):
            worth, _ = self._likelihood(self._prompt({}, []), self._titles(missing))
            self._prior |= dict(zip(missing.tolist(), worth.tolist(), strict=True))
        return np.array([self._prior[int(code)] for code in codes])

    def _heard(self, request: Request) -> dict[str, str]:
        """What of a request is told, as it stands in the prompt."""
        history = request.history[request.history != PAD][-self.config.max_history :]
        heard = {}
        if "history" in self.config.hears and len(history):
            heard["history"] = ", ".join(quoted(title, len(title)) for title in self._titles(history))
        if "wish" in self.config.hears and request.wish and request.wish.strip():
            heard["specific"] = quoted(request.wish, LONGEST_WISH)
        return heard

    def _prompt(self, heard: Mapping[str, str], titles: Sequence[str]) -> str:
        words = dataclasses.asdict(self.config.words)
        listed = self.config.shown and bool(heard)
        candidates = {"candidates": ", ".join(quoted(title, len(title)) for title in titles)} if listed else {}
        template = asking("history" in heard, "specific" in heard, listed)
        return template.prompt.format(**words, **heard, **candidates)

    def _titles(self, codes: Codes) -> list[str]:
        titles: list[str] = self.item_text.gather(codes.astype(np.int64) - 1).to_list()
        return titles
