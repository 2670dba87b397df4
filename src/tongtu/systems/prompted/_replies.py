"""From what a language model wrote to a reply: items by the labels that we injected, and no word of items that nobody proposed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rapidfuzz import fuzz, process

from tongtu.llm.grounding import plain
from tongtu.llm.model import Completion
from tongtu.llm.wording import printable
from tongtu.systems.prompted._chat_templates import EXAMPLE

_LINE = re.compile(r"^\W*?(?:\d{1,2}\s*[.):]\s*)?(?:\[\s*(\w{1,4})\s*\]|([A-Z]{1,2})\s*(?:[.):]|$))[\s:.,;)–—-]*(.*)$")
_LABEL = re.compile(r"\[\s*(\w{1,4})\s*\]")
_ROW = re.compile(r"\[\w{1,4}\](?:\s*[,;>]?\s*\[\w{1,4}\])+\W*")
_SEARCH = re.compile(r"^\W*SEARCH\b\W*(.{2,200})$", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_NAMED = re.compile(r"[\"“”„«»*]([^\"“”„«»*]{3,120})[\"“”„«»*]")
_LIKENESS = 85  # of 100, from which a quoted name is that of an item
_LOOP = re.compile(r"(\S.{3,80}?)(?:\s*\1){2,}")
_LONGEST_REASON = 240
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True)
class Proposed:
    """An item of a reply: id and title come from the catalogue, `reason` from the model where it is grounded, else from the search."""

    id: str
    title: str
    reason: str = ""
    new: bool = False


@dataclass(frozen=True)
class Reply:
    """What a conversation answers.

    Attributes:
        text: To be read.
        items: What is proposed or explained, best first.
        used_recommender: Whether the recommender was asked.
        degraded: Whether the language model failed, so that items stand in the recommender's order.
        outside: Whether the answer is about something that is not in the catalogue, and therefore unchecked.
        notes: Tokens, calls, why it is degraded, which words were ruled out.
    """

    text: str
    items: tuple[Proposed, ...] = ()
    used_recommender: bool = False
    degraded: bool = False
    outside: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


def chosen(answer: str, names: Sequence[str]) -> dict[int, str]:
    """The candidates that an answer chooses, with the reason it gives, in its order: one a line, by label alone."""
    place = {name: number for number, name in enumerate(names)}
    found: dict[int, str] = {}
    for line in answer.splitlines():
        if _ROW.fullmatch(line.strip()):
            found |= {place[label.upper()]: "" for label in _LABEL.findall(line) if label.upper() in place and place[label.upper()] not in found}
            continue
        match = _LINE.match(line.strip())
        number = place.get((match[1] or match[2]).upper()) if match else None
        if match and number is not None and fuzz.ratio(plain(match[3]), EXAMPLE) < _LIKENESS:  # who repeats the example has chosen nothing
            found.setdefault(number, printable(match[3]))
    return found


def search_again(answer: str) -> str | None:
    """The words that an answer wants looked for instead, or None."""
    match = _SEARCH.search(answer)
    return match[1].strip() if match else None


def whole_sentences(answer: Completion | None) -> str:
    """What an answer says, on one line: without a last sentence that was cut off, and with a loop run through once."""
    if answer is None:
        return ""
    text = printable(answer.text)
    if answer.cut:
        ends = list(_SENTENCE.finditer(text))
        text = text if text.endswith((".", "!", "?")) else text[: ends[-1].start()] if ends else ""
    return _LOOP.sub(r"\1", text)


def grounded(text: str, titles: Mapping[str, str], texts: Sequence[str] = (), longest: int = 1_000) -> tuple[str, int]:
    """A text with titles for labels, without the sentences that name items nobody proposed; and how many sentences that were.

    Args:
        text: What a model wrote.
        titles: By label.
        texts: What else may stand in quotation marks.
        longest: Characters kept, up to whole sentences where there are any.
    """
    known = [plain(title) for title in (*titles.values(), *texts)]
    kept, dropped = [], 0
    for sentence in _SENTENCE.split(" ".join(line.strip() for line in text.splitlines() if line.strip())):
        labels = _LABEL.findall(sentence)
        invented = any(label.upper() not in titles for label in labels)
        named = [plain(name) for name in _NAMED.findall(sentence)]
        if invented or any(process.extractOne(name, known, scorer=fuzz.ratio, score_cutoff=_LIKENESS) is None for name in named):
            dropped += 1
        elif sentence.strip():
            kept.append(_LABEL.sub(lambda found: f'"{titles[found[1].upper()]}"', sentence.strip()))
    whole = " ".join(kept)
    if len(whole) > longest:
        whole = whole[: longest - 1].rsplit(" ", 1)[0] + "…"
    return whole, dropped


def reasoned(reason: str, titles: Mapping[str, str], otherwise: str, text: str) -> str:
    """The model's reason for an item where it speaks of that item (`text`) and of the history (`titles`), else another one."""
    said, dropped = grounded(reason, titles, [text], _LONGEST_REASON)
    empty = plain(said) in (plain(text), *map(plain, titles.values()))
    return otherwise if empty or dropped or len(said) <= 3 else said


def mentioned(text: str, titles: Sequence[str], ids: Sequence[str]) -> int | None:
    """Which of the items that were shown a turn speaks of: by title, number ("the second", "number 2") or id; None where that is open."""
    said, short = plain(text), [plain(_year_free(title)) for title in titles]
    likely = [fuzz.partial_ratio(title, said) if 2 < len(title) <= len(said) else 0 for title in short]
    if likely and max(likely) >= _LIKENESS:
        return max(range(len(titles)), key=lambda place: (likely[place], len(short[place])))
    words = re.findall(r"[\w-]+", said)
    numbers = [int(found) - 1 for found in re.findall(r"\bnumber (\d{1,3})\b", said)]
    ordinals = [_ORDINALS.index(word) for word in words if word in _ORDINALS]
    places = [*numbers, *ordinals, *(place for place, one in enumerate(ids) if one.casefold() in words)]
    return next((place for place in places if 0 <= place < len(titles)), None)


def _year_free(title: str) -> str:
    """A title as people say it: without what follows the first full stop or stands in brackets at its end."""
    return re.sub(r"\s*\([^()]*\)$", "", title.split(". ", maxsplit=1)[0]).strip() or title


def listed(items: Sequence[Proposed]) -> str:
    """Items for a reader: number, title, id and reason, one a line."""
    lines = []
    for number, item in enumerate(items, start=1):
        new, reason = " (new)" if item.new else "", f" - {item.reason}" if item.reason else ""
        lines.append(f"{number}. {' '.join(item.title.split())} [{item.id}]{new}{reason}")
    return "\n".join(lines)
