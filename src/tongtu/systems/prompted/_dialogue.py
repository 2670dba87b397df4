"""The state of a conversation within a budget of tokens: old turns become a summary, conditions of the user stay word for word."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tongtu.llm.wording import quoted
from tongtu.systems.prompted._chat_templates import TALK
from tongtu.systems.prompted._stopwords import EMPTY_WORDS

_BYTES_A_TOKEN = 3
_LEAST_BUDGET = 200
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？；])|\n+")
_CONDITION = re.compile(
    r"\b(?:no|not|never|without|except|avoid|nothing|none|only|under|below|less than|more than|fewer than|at (?:most|least)|before|after"
    r"|older|newer|shorter|longer|must|hate|dislike|don['’]?t|can['’]?t|won['’]?t|cannot)\b|不要|不想|不看|别|只要|只看|以下|以上",
    re.IGNORECASE,
)
_NO_CONDITION = re.compile(
    r"^\W*why\b|\b(?:no (?:idea|thanks|thank you|problem)|not (?:sure|bad)|(?:don['’]?t|do not) (?:know|mind|care))\b|别的|特别", re.IGNORECASE
)
_NEGATION = r"(?:no|not|without|except|avoid|never|nothing|hate|dislike|(?:don['’]?t|do not) (?:want|like|need|show me|recommend))"
_LIMIT = re.compile(
    rf"\b(?:{_NEGATION}|none|under|below|over|above|less than|more than|fewer than|at (?:most|least)|before|after|older|newer|shorter|longer)\b", re.IGNORECASE
)
_EXCLUDED = re.compile(
    rf"\b{_NEGATION}\b\s+(?:(?:any|more|a|an|the|with|about|of|kind|sort|films?|movies?|books?|items?|things?)\s+)*"
    r"([\w'’-]+(?:(?:\s*,\s*[\w'’-]+)*\s*,?\s+(?:or|and|nor)\s+[\w'’-]+)?)",
    re.IGNORECASE,
)


def estimated_tokens(text: str) -> int:
    """One for three bytes: more than tokenizers make of ordinary text in any script, whichever model reads it."""
    return -(-len(text.encode()) // _BYTES_A_TOKEN)


def conditions(text: str) -> list[str]:
    """The sentences of a turn that set a condition ("no horror", "under two hours"), as they stand there."""
    sentences = [sentence.strip() for sentence in _SENTENCE.split(text)]
    return [one for one in sentences if one and _CONDITION.search(one) and not _NO_CONDITION.search(one)]


def asked_for(text: str) -> str:
    """A turn without what it rules out or limits: "a comedy" of "a comedy without romance, under two hours"."""
    clauses = [clause for sentence in _SENTENCE.split(text) for clause in re.split(r"[,;]|\bbut\b", sentence)]
    return " ".join(_LIMIT.split(clause, maxsplit=1)[0] for clause in clauses)


def excluded_words(constraints: Sequence[str]) -> list[str]:
    """The words that conditions rule out: "horror" and "war" of "no horror or war films"."""
    found = [match[1] for text in constraints for match in _EXCLUDED.finditer(text)]
    words = [word.casefold().strip("'’-") for part in found for word in re.findall(r"[\w'’-]+", part)]
    return [word for word in dict.fromkeys(words) if len(word) > 2 and word not in EMPTY_WORDS]


@dataclass(frozen=True)
class Turn:
    """What the user said, and what was replied."""

    user: str
    assistant: str


@dataclass
class DialogueState:
    """What a prompt tells of the conversation.

    Attributes:
        budget: The most tokens (estimated) that it may take.
        summary: Of the turns that are no longer told.
        constraints: Sentences of the user, word for word; where they alone would take more than half the budget, the oldest are dropped.
        turns: The newest, oldest first.
        dropped: How many constraints were dropped.
    """

    budget: int = 1_500
    summary: str = ""
    constraints: list[str] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    dropped: int = 0

    def __post_init__(self) -> None:
        self.budget = max(self.budget, _LEAST_BUDGET)

    @property
    def tokens(self) -> int:
        """Estimated tokens of all that is told."""
        return estimated_tokens(self.told())

    def told(self) -> str:
        """The part of a prompt that tells it; "" at the beginning."""
        parts = []
        if self.summary:
            parts.append(TALK["summary"].format(summary=self._quoted(self.summary)))
        if self.constraints:
            parts.append(TALK["constraints"].format(constraints="\n".join(f"- {self._quoted(one)}" for one in self.constraints)))
        if self.turns:
            parts.append(TALK["turns"].format(turns=self._talk(self.turns)))
        return "\n\n".join(parts)

    def constrain(self, text: str) -> list[str]:
        """Keep the conditions of a turn; returns those that are new."""
        known = {one.casefold() for one in self.constraints}
        new = [one for one in conditions(text) if one.casefold() not in known]
        self.constraints += new
        while self.constraints and estimated_tokens("\n- ".join(self.constraints)) > self.budget // 2:
            self.constraints.pop(0)
            self.dropped += 1
        return new

    def add(self, user: str, assistant: str, summarise: Callable[[str], str | None]) -> None:
        """Note a turn, and make old ones a summary where the budget would be passed.

        Args:
            user: What the user said.
            assistant: What was replied.
            summarise: Makes a summary of the talk that is given to it; where it gives None, the talk is cut.
        """
        part = self.budget // 10
        self.turns.append(Turn(_cut(user, part), _cut(assistant, part)))
        if self.tokens <= self.budget:
            return
        gone: list[Turn] = []
        while len(self.turns) > 1 and (self.tokens > self.budget or estimated_tokens(self._talk(self.turns)) > self.budget // 3):
            gone.append(self.turns.pop(0))
        talk = "\n".join([*([f"Before: {self._quoted(self.summary)}"] if self.summary else []), self._talk(gone)])
        written = " ".join((summarise(talk) or "").split())
        cut = "; ".join([*([self.summary] if self.summary else []), *(turn.user for turn in gone)])
        self.summary = _cut(written, self.budget // 8) if written else _end(cut, self.budget // 8)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        turns = [[turn.user, turn.assistant] for turn in self.turns]
        return {"budget": self.budget, "summary": self.summary, "constraints": self.constraints, "turns": turns, "dropped": self.dropped}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The state of these values."""
        turns = [Turn(str(user), str(assistant)) for user, assistant in value["turns"]]
        constraints = [str(one) for one in value["constraints"]]
        return cls(int(value["budget"]), str(value["summary"]), constraints, turns, int(value["dropped"]))

    def _talk(self, turns: Sequence[Turn]) -> str:
        return "\n".join(f"User: {self._quoted(turn.user)}\nAssistant: {self._quoted(turn.assistant)}" for turn in turns)

    def _quoted(self, text: str) -> str:
        return quoted(text, longest=max(_BYTES_A_TOKEN * self.budget, len(text)))


def _cut(text: str, tokens: int) -> str:
    """The beginning of a text, of so many tokens."""
    while estimated_tokens(text) > tokens:
        text = text[: min(len(text) - 1, int(len(text) * tokens / estimated_tokens(text)))].rstrip()
    return text


def _end(text: str, tokens: int) -> str:
    """The end of a text, of so many tokens."""
    return _cut(text[::-1], tokens)[::-1]
