"""Instructions of InstructRec: what is known of the user (preference) x what they want now (intention) x what is to be done (task).

    preference   none; implicit: titles of the history; explicit: taste in words
    intention    none; vague: a broad sentence; specific: like a search for it
    task         pointwise: yes or no; pairwise: one of two; matching: write the item; reranking: one of those listed; writing: words instead of an item

Some are turned around: from the item to the words that led to it. Some reason: the answer says taste and wish before the item.
In prompts all texts of others stand quoted. `VERSION` goes up with every change of a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import Literal

VERSION = 1

Preference = Literal["none", "implicit", "explicit"]
Intention = Literal["none", "vague", "specific"]
Task = Literal["pointwise", "pairwise", "matching", "reranking", "writing"]
Form = Literal["pointwise", "pairwise", "matching", "reranking", "turned", "reasoned"]
FORMS: tuple[Form, ...] = ("pointwise", "pairwise", "matching", "reranking", "turned", "reasoned")


@dataclass(frozen=True)
class Template:
    """One instruction.

    Attributes:
        preference, intention, task: What it is made of; of a turned one, the preference and intention that it gives or asks for.
        prompt, answer: With slots: history, taste, vague, specific, item (the item that is asked about), target, first, second, candidates, verdict, and
            those of `Words`.
        form: By which its share among the instructions is set.
    """

    preference: Preference
    intention: Intention
    task: Task
    prompt: str
    answer: str
    form: Form

    @cached_property
    def slots(self) -> frozenset[str]:
        """What prompt and answer need."""
        return slots(self.prompt) | slots(self.answer)


def slots(text: str) -> frozenset[str]:
    """The slots of a text."""
    return frozenset(name for _, name, _, _ in Formatter().parse(text) if name)


_TOLD: dict[Preference, tuple[str, ...]] = {
    "none": ("",),
    "implicit": ("So far I have {acted}, the newest last: {history}.", "In this order I have {acted}: {history}.", "These {things} are behind me: {history}."),
    "explicit": ("My taste: {taste}.", "A user whose taste is {taste}.", "I usually like {taste}."),
}
_WANTED: dict[Intention, tuple[str, ...]] = {
    "none": ("",),
    "vague": ("My wish: {vague}.", "What the user says: {vague}.", "I am looking for something: {vague}."),
    "specific": ("My wish: {specific}.", "Search: {specific}.", "I am looking for exactly this: {specific}."),
}
_ASKED: dict[Task, tuple[str, ...]] = {
    "pointwise": ("Will I {act} {item}? Answer yes or no.", "Does {item} suit this user? Answer yes or no.", "Is {item} right? Answer yes or no."),
    "pairwise": ("Which of two, {first} or {second}?", "I hesitate between {first} and {second}. Which {thing}?", "Choose {first} or {second}."),
    "matching": ("Which {thing} comes next?", "Name a {thing} for this user.", "Recommend one of all {things}."),
    "reranking": ("Choose among {candidates}.", "Left are {candidates}. Which is the best?", "Which of these {things} comes next: {candidates}?"),
}
_ANSWER: dict[Task, str] = {"pointwise": "{verdict}", "pairwise": "{target}", "matching": "{target}", "reranking": "{target}"}

# Which wording of each part an instruction takes; where nothing is known of the user, an answer tells what is likely for anybody.
_PLAIN: tuple[tuple[Preference, Intention, Task, int, int, int], ...] = (
    ("implicit", "none", "pointwise", 0, 0, 0),
    ("implicit", "none", "pointwise", 2, 0, 1),
    ("explicit", "none", "pointwise", 1, 0, 1),
    ("none", "vague", "pointwise", 0, 1, 1),
    ("none", "specific", "pointwise", 0, 1, 2),
    ("implicit", "vague", "pointwise", 1, 2, 2),
    ("implicit", "specific", "pointwise", 0, 0, 2),
    ("explicit", "vague", "pointwise", 2, 0, 0),
    ("explicit", "specific", "pointwise", 0, 2, 0),
    ("implicit", "none", "pairwise", 0, 0, 0),
    ("implicit", "none", "pairwise", 1, 0, 2),
    ("explicit", "none", "pairwise", 0, 0, 1),
    ("none", "vague", "pairwise", 0, 2, 0),
    ("none", "specific", "pairwise", 0, 1, 2),
    ("implicit", "vague", "pairwise", 2, 0, 1),
    ("implicit", "specific", "pairwise", 1, 2, 1),
    ("explicit", "specific", "pairwise", 2, 0, 2),
    ("none", "none", "matching", 0, 0, 0),
    ("implicit", "none", "matching", 0, 0, 0),
    ("implicit", "none", "matching", 1, 0, 1),
    ("implicit", "none", "matching", 2, 0, 2),
    ("explicit", "none", "matching", 1, 0, 1),
    ("none", "vague", "matching", 0, 0, 0),
    ("none", "vague", "matching", 0, 1, 1),
    ("none", "specific", "matching", 0, 0, 0),
    ("none", "specific", "matching", 0, 1, 1),
    ("implicit", "vague", "matching", 0, 0, 0),
    ("implicit", "specific", "matching", 0, 0, 0),
    ("implicit", "specific", "matching", 1, 1, 2),
    ("explicit", "vague", "matching", 2, 2, 2),
    ("explicit", "specific", "matching", 0, 0, 2),
    ("implicit", "none", "reranking", 0, 0, 0),
    ("implicit", "none", "reranking", 1, 0, 2),
    ("explicit", "none", "reranking", 1, 0, 1),
    ("none", "vague", "reranking", 0, 0, 0),
    ("none", "specific", "reranking", 0, 0, 0),
    ("none", "specific", "reranking", 0, 1, 1),
    ("implicit", "vague", "reranking", 0, 0, 0),
    ("implicit", "specific", "reranking", 0, 0, 0),
    ("implicit", "specific", "reranking", 2, 2, 1),
    ("explicit", "vague", "reranking", 2, 0, 1),
    ("explicit", "specific", "reranking", 0, 1, 0),
)
_TURNED: tuple[tuple[Preference, Intention, str, str], ...] = (
    ("none", "specific", "What was searched for by who then {acted} {target}?", "{specific}"),
    ("none", "vague", "Somebody has {acted} {target}. What may they have wished for?", "{vague}"),
    ("implicit", "vague", "So far I have {acted}, the newest last: {history}. Then I took {target}. What was my wish?", "{vague}"),
    ("implicit", "specific", "In this order I have {acted}: {history}. Then came {target}. Which search led there?", "{specific}"),
    ("implicit", "none", "These {things} are behind me: {history}. Describe my taste.", "{taste}"),
    ("explicit", "specific", "A user whose taste is {taste} has {acted} {target}. Which search led there?", "{specific}"),
    ("explicit", "vague", "I usually like {taste} and now took {target}. What was my wish?", "{vague}"),
)
_REASONED: tuple[tuple[Preference, Intention, Task, str, str], ...] = (
    ("implicit", "none", "matching", "So far I have {acted}, the newest last: {history}. Think aloud: which {thing} comes next?",
     "taste: {taste}; wish: {specific}; choice: {target}"),
    ("implicit", "vague", "matching", "So far I have {acted}, the newest last: {history}. My wish: {vague}. Think aloud: which {thing} comes next?",
     "taste: {taste}; search: {specific}; choice: {target}"),
    ("implicit", "specific", "matching", "These {things} are behind me: {history}. Search: {specific}. Think aloud: name a {thing}.",
     "taste: {taste}; choice: {target}"),
    ("explicit", "vague", "reranking", "My taste: {taste}. My wish: {vague}. Think aloud: choose among {candidates}.",
     "search: {specific}; choice: {target}"),
    ("implicit", "none", "reranking", "In this order I have {acted}: {history}. Think aloud: choose among {candidates}.",
     "taste: {taste}; choice: {target}"),
)  # fmt: skip


def asking(history: bool, wish: bool, listed: bool) -> Template:
    """The instruction that a request is put by; a wish of any kind stands in the slot "specific".

    Args:
        history, wish: Whether they are known of the user.
        listed: Whether the candidates stand in the prompt.
    """
    wanted = ("implicit" if history else "none", "specific" if wish else "none", "reranking" if listed else "matching")
    return next(one for one in TEMPLATES if (one.preference, one.intention, one.task) == wanted)


def _plain(preference: Preference, intention: Intention, task: Task, told: int, wanted: int, asked: int) -> Template:
    parts = (_TOLD[preference][told], _WANTED[intention][wanted], _ASKED[task][asked])
    assert task != "writing"
    return Template(preference, intention, task, " ".join(part for part in parts if part), _ANSWER[task], task)


TEMPLATES: tuple[Template, ...] = (
    *(_plain(*row) for row in _PLAIN),
    *(Template(preference, intention, "writing", prompt, answer, "turned") for preference, intention, prompt, answer in _TURNED),
    *(Template(preference, intention, task, prompt, answer, "reasoned") for preference, intention, task, prompt, answer in _REASONED),
)
