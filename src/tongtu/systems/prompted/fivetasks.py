"""FiveTasks: one frozen chat model, five tasks of recommendation, only the prompts change.

Paper: Liu, Liu, Lv, Zhou & Zhang, "Is ChatGPT a Good Recommender? A Preliminary Study" (arXiv 2304.10149).
Idea: a prompt has three parts (what to do; what is known of the user, in titles and not in ids; how to answer), and what the
model writes is brought back to a rating, to items or to a text. Few-shot prompts add examples of the user's own past.

How ours differs:
- The prompts are our own; titles and reviews stand in them as quoted data, never as a part of the instructions.
- Lists are asked for as lines, candidates by label; lines, labels, JSON and Python lists are all read (`tongtu.llm.grounding`).
- A title is brought back to the catalogue exactly, else by the likeliest spelling from 0.85 on, and otherwise it is no item and counted;
  the paper takes the nearest item by BERT, however far it is. Of equal titles the first of the catalogue is meant.
- A trailing article is shown in front ("The Usual Suspects"), as people and models write it.
- There is no second try at an answer that cannot be read. It is a miss: the training mean as a rating, an empty list, an empty text.
- Examples of direct recommendation show the choice without its candidates, and explanations show the history with and without examples.
- Any model, any data. A study of it (`tongtu study`) keeps every prompt and answer, with counts of what was made up or said twice.

The paper's figures on Beauty with gpt-3.5-turbo, as secondary sources give them: rating RMSE 1.42, MAE 1.19 without examples and 1.0751, 0.6977
with them (matrix factorisation 1.1973, 0.9461); sequential HR@5 near 0 without and 0.0135 with examples; direct far below BPR.
Ours with SmolLM2-135M on ml-100k, 50 users: RMSE 1.94 and 1.91 (user mean 1.11), sequential HR@10 0, direct NDCG@10 0.227 and 0.105 of
20 candidates (chance 0.227, Popular 0.498); docs/five-tasks.md has all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Self

import numpy as np
import polars as pl
from pydantic import Field

from tongtu.config import configuration
from tongtu.data.dataset import Dataset
from tongtu.llm.grounding import ground
from tongtu.llm.model import Completion, LanguageModel, Prompt, Sampling, ask
from tongtu.llm.opening import open_language_model
from tongtu.llm.tasks import TASKS, Event, EventCase, Task, TaskAnswer
from tongtu.llm.wording import labelled, labels, numbered, quoted
from tongtu.systems.prompted._parsing import rating_in, text_in
from tongtu.systems.prompted._task_templates import TEMPLATES

_ARTICLE = re.compile(r"^(.+), (The|An?)$")
_BEFORE = 3  # items that an example of a choice shows before it
_MAX_TOKENS: dict[str, int] = {"rating": 24, "sequential": 128, "direct": 112, "explanation": 48, "summary": 20}


class FiveTasks:
    """A language model with the prompts and readers of the five tasks."""

    @configuration
    class Config:
        """Settings of FiveTasks.

        Attributes:
            llm: Which language model; see `tongtu.llm.model`.
            item, items, event: How the domain speaks: a "film", "films", that a person "watched".
            history: The newest items that a prompt shows.
            top: Items that a list is asked for.
            explanation_words, summary_words: How long texts should be.
            review_characters: Of a review that is to be summed up; examples show a quarter of it.
            max_tokens: Of an answer, by task, where it differs from the default.
            temperature, seed: See `tongtu.llm.model.Sampling`.
        """

        llm: str = "smollm2"
        item: str = "product"
        items: str = "products"
        event: str = "bought"
        history: int = Field(10, ge=1, le=32)
        top: int = Field(10, ge=1)
        explanation_words: int = Field(10, ge=1)
        summary_words: int = Field(4, ge=1)
        review_characters: int = Field(600, ge=40)
        max_tokens: dict[Task, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
        temperature: float = Field(0.0, ge=0)
        seed: int = 0

    def __init__(self, config: Config | None = None, model: LanguageModel | None = None) -> None:
        self.config = config or self.Config()
        self.model = model or open_language_model(self.config.llm)
        self._build: dict[Task, Callable[[EventCase], dict[str, Any]]] = {
            "rating": self._rating,
            "sequential": self._sequential,
            "direct": self._direct,
            "explanation": self._explanation,
            "summary": self._summary,
        }

    @property
    def versions(self) -> Mapping[Task, str]:
        """The version of each task's prompt."""
        return {task: TEMPLATES[task].version for task in TASKS}

    def fit(self, train: Dataset) -> Self:
        """Take the catalogue's titles and the scale of the ratings; the model stays as it is."""
        titles = train.item_fields["title"].cast(pl.String).fill_null("") if "title" in train.item_fields.columns else train.item_text
        self._titles = [_ARTICLE.sub(r"\2 \1", title) for title in _named(titles, train)]
        self._texts = _named(train.item_text, train)
        ratings = train.ratings
        known = np.zeros(0) if ratings is None else ratings[~np.isnan(ratings)]
        self.low, self.high = (float(known.min()), float(known.max())) if len(known) else (1.0, 5.0)
        return self

    def prompt(self, task: Task, case: EventCase, shots: int = 0) -> Prompt:
        """The question of a task about a case.

        Args:
            task: Which.
            case: What is asked about; only its history, and of its target what the task gives away, stand in the prompt.
            shots: Examples out of the history, at most; 0 is the zero-shot prompt.
        """
        template, config = TEMPLATES[task], self.config
        top = config.top if task != "direct" or case.candidates is None else min(config.top, len(case.candidates))
        words: dict[str, Any] = {"item": config.item, "items": config.items, "event": config.event, "k": top, "label": "A"}
        words |= {"low": f"{self.low:g}", "high": f"{self.high:g}", "words": config.summary_words if task == "summary" else config.explanation_words}
        words |= self._build[task](case)
        examples = [template.example.format(**example) for example in self._examples(task, case, shots)]
        description, above, behaviour, form = (part.format(**words) for part in (template.description, template.examples, template.behaviour, template.form))
        return ask("\n".join([description, *([above, *examples] if examples else []), behaviour, form]))

    def answer(self, task: Task, cases: Sequence[EventCase], shots: int = 0) -> list[TaskAnswer]:
        """Ask about each case and read what was written.

        Raises:
            LanguageModelError: If the model cannot be reached, refuses or would cost too much.
        """
        prompts = [self.prompt(task, case, shots) for case in cases]
        tokens = self.config.max_tokens.get(task, _MAX_TOKENS[task])
        written = self.model.complete(prompts, Sampling(temperature=self.config.temperature, max_tokens=tokens, seed=self.config.seed))
        return [self._read(task, case, prompt, one) for case, prompt, one in zip(cases, prompts, written, strict=True)]

    def _read(self, task: Task, case: EventCase, prompt: Prompt, one: Completion) -> TaskAnswer:
        answered = partial(
            TaskAnswer, "\n".join(m.text for m in prompt), one.text, prompt_tokens=one.prompt_tokens, tokens=one.tokens, seconds=one.seconds
        )
        if task == "rating":
            return answered(rating_in(one.text, self.low, self.high))
        if task in ("explanation", "summary"):
            return answered(text_in(one.text))
        if task == "direct":
            assert case.candidates is not None
            codes = case.candidates.tolist()
            found = ground(one.text, [self._titles[code] for code in codes], labels(len(codes)))
        else:
            codes = list(range(1, len(self._titles)))
            found = ground(one.text, self._titles[1:])
        items, entries = [codes[place] for place in found.places], len(found.places) + found.outside + found.repeated
        seen = set(case.seen.tolist()) if task == "sequential" else set()
        kept = tuple(item for item in items if item not in seen)
        return answered(
            kept[: self.config.top] if entries else None,
            entries=entries,
            outside=found.outside,
            repeated=found.repeated,
            seen=len(items) - len(kept),
        )

    def _history(self, case: EventCase) -> list[Event]:
        return list(case.history[-self.config.history :])

    def _rating(self, case: EventCase) -> dict[str, Any]:
        return {"subject": quoted(self._texts[case.target.item])}

    def _sequential(self, case: EventCase) -> dict[str, Any]:
        return {"history": numbered([self._titles[event.item] for event in self._history(case)])}

    def _direct(self, case: EventCase) -> dict[str, Any]:
        """The history stands in the order of item codes, which is that of the catalogue: it tells nothing of time."""
        assert case.candidates is not None
        history = sorted(event.item for event in self._history(case))
        candidates = labelled([self._titles[code] for code in case.candidates.tolist()], labels(len(case.candidates)))
        return {"history": "\n".join(f"- {quoted(self._titles[item])}" for item in history), "candidates": candidates}

    def _explanation(self, case: EventCase) -> dict[str, Any]:
        return {**self._sequential(case), "subject": quoted(self._titles[case.target.item]), "stars": _number(case.target.rating)}

    def _summary(self, case: EventCase) -> dict[str, Any]:
        return {"subject": quoted(case.target.review, self.config.review_characters)}

    def _examples(self, task: Task, case: EventCase, shots: int) -> list[dict[str, str]]:
        """At most `shots` events of the history with their outcomes, the newest last."""
        past, short = case.history, self.config.review_characters // 4
        found: list[dict[str, str]] = []
        for place in reversed(range(len(past))):
            if len(found) == shots:
                break
            event = past[place]
            title = quoted(self._titles[event.item])
            if task == "rating" and event.rating is not None:
                found.append({"subject": quoted(self._texts[event.item]), "output": _number(event.rating)})
            elif task in ("sequential", "direct") and place:
                before = ", ".join(quoted(self._titles[other.item]) for other in past[max(place - _BEFORE, 0) : place])
                found.append({"history": before, "output": title})
            elif task == "explanation" and event.review and event.rating is not None:
                found.append({"subject": title, "stars": _number(event.rating), "output": quoted(event.review, short)})
            elif task == "summary" and event.review and event.summary:
                found.append({"subject": quoted(event.review, short), "output": quoted(event.summary)})
        return found[::-1]


def _named(texts: pl.Series, train: Dataset) -> list[str]:
    """A title for each item code, `PAD` included; an item without one is called by its id."""
    named = [text or f"item {name}" for text, name in zip(texts.to_list(), train.items.ids.to_list(), strict=True)]
    return ["", *named]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
