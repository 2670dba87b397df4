"""Chat-REC, one turn of it: a recommender proposes candidates, and a language model chooses among them, for a profile, a history and a wish.

Paper: Gao et al., "Chat-REC: Towards Interactive and Explainable LLMs-Augmented Recommender System" (2023, arXiv 2303.14524). Whole
conversations with it, around any recommender, are `tongtu.systems.prompted.conversation`.

How ours differs: the authors gave no code and match titles; here the model chooses by labels that we inject, and a title never counts, so
an edited title loses nothing and a hostile one wins nothing. Besides written lists there is `answer = "likelihood"`, as in LLMRank.
The model decides the first `top` places alone; the other candidates follow in the recommender's order, as everything does where it fails.
Attributes that the user wants forgotten are not told.

Paper, ML-100K, top 5 of 20 candidates of LightGCN, text-davinci-003: precision .324 (LightGCN .303), recall .140 (.146), NDCG .380 (.343);
without the recommender's first NDCG .306; rating RMSE .785 (.933 without the language model). The films of ML-100K are older than
the models: they have read about them. Ours, SmolLM2-135M behind EASE, 200 users with one target each: recall@5 .110 (EASE .150), NDCG@5 .070 (.094);
docs/prompting.md. A conversation as it happened: docs/chat.md.
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
from tongtu.core import PAD, Codes, FitOptions, Recommender, Request, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.errors import DataError, LanguageModelError
from tongtu.llm.cached import CachedModel
from tongtu.llm.model import Sampling, ask
from tongtu.llm.wording import labels, quoted
from tongtu.systems._retriever import RETRIEVER, Shortlist, fitted_retriever, shortlists
from tongtu.systems.prompted._asking import answered, opened
from tongtu.systems.prompted._chat_templates import CHAT_VERSION, CHOOSE, RATING
from tongtu.systems.prompted._parsing import rating_in
from tongtu.systems.prompted._profile import profile
from tongtu.systems.prompted._ranking import Judge, Judged, Question, Ranking, Worth, by_worth, choice, model_facts, titles_of, told_names, top_lists
from tongtu.vocab import Vocab


@configuration
class ChatRECConfig(Ranking):
    """Settings of Chat-REC: those of `Ranking`, and these.

    Attributes:
        top: Places that the model decides; candidates behind them are in the recommender's order.
        order: How candidates are shown: as the "retriever" has them, or "shuffled", so that their place tells nothing.
        drop_first: Ablation of the paper: the recommender's best is not told to the model, and comes behind the other candidates.
    """

    top: Annotated[int, Field(ge=1)] = 5
    order: Literal["retriever", "shuffled"] = "retriever"
    drop_first: bool = False


class ChatREC:
    """Chat-REC; see the module's text.

    Args:
        config: Settings.
        model: The language model, instead of the one that `config.llm` names.
    """

    Config: ClassVar[type[ChatRECConfig]] = ChatRECConfig
    hears_wishes: ClassVar[bool] = True
    items: Vocab
    item_text: pl.Series
    retriever: Recommender

    def __init__(self, config: ChatRECConfig | None = None, model: CachedModel | None = None) -> None:
        self.config = config or ChatRECConfig()
        self.provenance: dict[str, Any] = {}
        self.scale: tuple[float, float, float] | None = None
        self._given = model
        self._judge: Judge | None = None

    @cached_property
    def model(self) -> CachedModel:
        """The language model, opened when it is asked first."""
        return self._given or opened(self.config)

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Fit the recommender behind; the language model learns nothing.

        Raises:
            DataError: If there are no events, or no item has a name to be told by.
        """
        started = time.perf_counter()
        names, ratings = told_names(data), data.ratings
        self.retriever = fitted_retriever(self.config.retriever, self.config.retriever_settings, data, options)
        self.items, self.item_text, self._judge = data.items, names, None
        known = None if ratings is None else ratings[np.isfinite(ratings)]
        self.scale = None if known is None or not len(known) else (float(known.min()), float(known.max()), float(known.mean(dtype=np.float64)))
        parameters = getattr(self.retriever, "provenance", {}).get("parameters")
        self.provenance = {"seed": options.seed, "fit_seconds": time.perf_counter() - started, "parameters": parameters}
        self.provenance["language model"] = model_facts(self.model) | {"chat prompts": CHAT_VERSION}
        return self

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request; notes tell tokens, seconds, what could not be read, and "degraded" where the recommender answered alone."""
        lists = shortlists(self.retriever, requests, self.config.candidates, k, self._seed)
        asked = [(request, one) for request, one in zip(requests, lists, strict=True) if len(one.shown)]
        return top_lists(lists, answered(asked, self._judged, self.config.fallback), k, self._ranked)

    def rate(self, requests: Sequence[Request], items: Codes) -> Scores:
        """Predicted ratings float32[n], one item a request; the user's mean (else that of the data) where the model gives no number.

        Raises:
            DataError: If the data had no ratings.
        """
        if self.scale is None:
            raise DataError("the data had no ratings, so none can be predicted: import it with a column of ratings")
        low, high, mean = self.scale
        expected = [mean if r.ratings is None or np.isnan(r.ratings).all() else float(np.nanmean(r.ratings)) for r in requests]
        said = answered(list(zip(requests, items.tolist(), strict=True)), self._rated, self.config.fallback)
        found = [None if isinstance(one, LanguageModelError) else rating_in(one, low, high) for one in said]
        return np.array([other if one is None else one for one, other in zip(found, expected, strict=True)], np.float32)

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder with the recommender in it; the language model is named, not kept."""
        hub.save(path, self, {}, {"scale": self.scale}, parts={RETRIEVER: self.retriever})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder; the language model is opened when it is first asked."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.provenance = folder.items, dict(folder.facts["provenance"])
        system.item_text = pl.Series("text", [""] * len(folder.items)) if folder.item_text is None else folder.item_text
        scale = folder.facts["scale"]
        system.scale = None if scale is None else (scale[0], scale[1], scale[2])
        system.retriever = hub.open_model(folder.path / RETRIEVER)
        return system

    @property
    def _seed(self) -> int:
        return int(self.provenance["seed"])

    def _told(self, one: Shortlist) -> Codes:
        """The candidates that the model sees, in its order."""
        order = one.shown if self.config.order == "retriever" else one.order
        return order[order != one.shown[0]] if self.config.drop_first and len(order) > 1 else order

    def _judged(self, asked: Sequence[tuple[Request, Shortlist]]) -> list[Judged]:
        """What the model thinks of each request's candidates, in the order of `Shortlist.order`."""
        questions = [self._question(request, self._told(one)) for request, one in asked]
        self._judge = self._judge or Judge(self.model, self.config, self._titles, by_title=False)
        found = self._judge(questions, self._seed)
        for (_, one), question, judged in zip(asked, questions, found, strict=True):
            place = {int(code): at for at, code in enumerate(question.codes)}
            judged.worth = np.array([judged.worth[place[int(code)]] if int(code) in place else np.nan for code in one.order])
        return found

    def _question(self, request: Request, codes: Codes) -> Question:
        titles, names = self._titles(codes), labels(len(codes))
        words = dataclasses.asdict(self.config.words) | {"first": names[0], "second": names[-1], "top": min(self.config.top, len(codes))}
        last = CHOOSE[self.config.answer].format(**words)
        parts = [profile(request, self._history(request), self.config.words), *choice(self.config, titles, names)[:-1], last]
        return Question(ask("\n\n".join(parts)), codes, titles, names)

    def _ranked(self, one: Shortlist, worth: Worth) -> tuple[Codes, Worth]:
        """The model's first `top`, and behind them the others as the recommender has them; the one that is not told comes last."""
        best = by_worth(one, worth, silent_last=False)[0][: self.config.top]
        others = one.shown[~np.isin(one.shown, best)]
        if self.config.drop_first and len(others):
            hidden = others == one.shown[0]
            others = np.concatenate([others[~hidden], others[hidden]])
        codes = np.concatenate([best, others])
        return codes, np.arange(len(codes), 0, -1, dtype=np.float64)

    def _rated(self, asked: Sequence[tuple[Request, int]]) -> list[str]:
        assert self.scale is not None
        low, high, _ = self.scale
        prompts = []
        for request, code in asked:
            title = quoted(self._titles(np.array([code], np.int32))[0]) if code != PAD else "unknown"
            question = RATING.format(title=title, low=f"{low:g}", high=f"{high:g}", **dataclasses.asdict(self.config.words))
            prompts.append(ask(f"{profile(request, self._history(request), self.config.words)}\n\n{question}"))
        sampling = Sampling(temperature=self.config.temperature, max_tokens=self.config.max_tokens, seed=self._seed)
        return [answer.text for answer in self.model.complete(prompts, sampling)]

    def _history(self, request: Request) -> list[tuple[str, float | None]]:
        """Titles of the newest events, with their ratings where the request has them."""
        rows = np.flatnonzero(request.history != PAD)[-self.config.max_history :]
        ratings = [None] * len(rows) if request.ratings is None else [None if np.isnan(r) else float(r) for r in request.ratings[rows]]
        return list(zip(self._titles(request.history[rows]), ratings, strict=True))

    def _titles(self, codes: Codes) -> list[str]:
        return titles_of(self.item_text, self.items, codes, self.config.words.thing)
