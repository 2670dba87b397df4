"""A language model as teacher: it puts taste and wishes of some users into words, from which the tuned model learns to understand such words."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from tongtu.errors import LanguageModelError
from tongtu.llm.cached import CachedModel
from tongtu.llm.model import Completion, Prompt, Sampling, ask
from tongtu.llm.wording import numbered, printable, quoted
from tongtu.systems.prompted._asking import answered
from tongtu.systems.prompted._templates import Words
from tongtu.systems.tuned._instruct_data import Known, Taught
from tongtu.systems.tuned._taste import taste

VERSION = 1
_TOLD, _REVIEW, _LONGEST, _SHORTEST = 15, 600, 200, 8
_TOKENS = 60

_TASTE = (
    "Somebody has {acted} these {things}, the newest last:\n{history}\n\n"
    "Say in one sentence of at most 25 words what this person likes: kinds, moods, makers. Name none of the {things}."
)
_FROM_REVIEW = (
    "Somebody wrote this about a {thing}:\n{review}\n\n"
    "What did this person wish for before they had it? Say it as they would have said it then, in one sentence that begins with I. Do not name the {thing}."
)
_FROM_TASTE = (
    "Somebody likes this: {taste}. Now this person wishes for a {thing} of this kind: {kind}.\n\n"
    "Say the wish as the person would say it, loosely, in one sentence that begins with I, so that it follows from what they like. Do not name any {thing}."
)


def teach(model: CachedModel, known: Known, words: Words, users: int, seed: int) -> Taught:
    """What the teacher writes of so many users, drawn by `seed`: a taste from what came before one of their events, and the wish behind that event.

    A taste that names an item of the history, and a wish that names its target, are thrown away, as is whatever the model does not answer.

    Raises:
        BudgetError: If more would have to be spent than was allowed.
    """
    data = known.data
    rng = np.random.default_rng([seed, users])
    able = np.flatnonzero(data.lengths > 1)
    chosen = np.sort(rng.permutation(able)[:users])
    place = data.offset[chosen] + 1 + (rng.random(len(chosen)) * (data.lengths[chosen] - 1)).astype(np.int64)
    before = [data.item[max(start, at - _TOLD) : at].tolist() for start, at in zip(data.offset[chosen].tolist(), place.tolist(), strict=True)]
    told = {"thing": words.thing, "things": words.things, "act": words.act, "acted": words.acted}
    asked = [ask(_TASTE.format(history=numbered([known.facts.names[code] for code in codes]), **told)) for codes in before]
    tastes = _written(model, asked, seed)
    tastes = [text if not any(known.wants.names(text, code) for code in codes) else "" for text, codes in zip(tastes, before, strict=True)]
    wishes = _wishes(model, known, told, (place.tolist(), before, tastes), seed)
    return Taught(
        {int(user) + 1: (int(at), text) for user, at, text in zip(chosen, place, tastes, strict=True) if text},
        {int(at): text for at, text in zip(place, wishes, strict=True) if text},
    )


def _wishes(
    model: CachedModel, known: Known, told: dict[str, str], events: tuple[list[int], list[list[int]], list[str]], seed: int
) -> list[str]:
    """A wish for each event, "" where there is nothing to make one of; `events` holds their places, what came before, and the tastes."""
    prompts: dict[int, Prompt] = {}
    for row, (at, codes, liked) in enumerate(zip(*events, strict=True)):
        code = int(known.data.item[at])
        review, likes = known.wants.review(at), liked or taste(known.facts, codes)
        kind = known.wants.specific(code, 0.0)
        if review:
            prompts[row] = ask(_FROM_REVIEW.format(review=quoted(review, _REVIEW), **told))
        elif likes and kind:
            prompts[row] = ask(_FROM_TASTE.format(taste=quoted(likes, _LONGEST), kind=quoted(kind, _LONGEST), **told))
    found = dict(zip(prompts, _written(model, list(prompts.values()), seed), strict=True))
    wishes = [found.get(row, "") for row in range(len(events[0]))]
    return ["" if known.wants.names(text, int(known.data.item[at])) else text for at, text in zip(events[0], wishes, strict=True)]


def _written(model: CachedModel, prompts: Sequence[Prompt], seed: int) -> list[str]:
    """One short line an answer, "" where there is none."""
    sampling = Sampling(max_tokens=_TOKENS, seed=seed)
    said: list[Completion | LanguageModelError] = answered(list(prompts), lambda some: model.complete(some, sampling), True) if prompts else []
    return ["" if isinstance(one, LanguageModelError) else _line(one.text) for one in said]


def _line(text: str) -> str:
    """The first line of an answer without quotes around it; "" where it is too short or too long to be a sentence."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    line = json.loads(quoted(printable(first).strip("\"'“”*- "), _LONGEST + 1))
    return line if _SHORTEST <= len(line) <= _LONGEST else ""
