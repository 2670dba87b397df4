"""From what a language model wrote to items: which of the candidates it named, in which order, and what it made up.

An entry of the answer (a line, or an element of a JSON or Python list) is matched by the label of a candidate, else by its exact title, else by
the best fuzzy match, where that is good enough. A label before the exact title of another candidate only counts lines, as small models do: the title
is what was meant. Each candidate counts where it is named first. What is no candidate is counted and dropped.
"""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rapidfuzz import fuzz, process

_SHORTEST = 4  # letters of an entry that may be matched fuzzily: a stray word must not stand for a title
_BULLET = re.compile(r"^\s*(?:[-*•]\s+|\d{1,3}\s*[.):]\s+)")
_LABEL = re.compile(r"\[\s*(\w{1,8})\s*\]|^\(?(\w{1,8})\)?\s*(?:[.):\-]\s|[.):]?$)")
_LIST = re.compile(r"\[.*\]", re.DOTALL)
_ROW = re.compile(r"(?:\[\w{1,8}\]|\w{1,3})(?:\s*[,;>]+\s*(?:\[\w{1,8}\]|\w{1,3}))+\s*")
_EDGE = " \t\"'`“”‘’«»*_.,;"


@dataclass(frozen=True)
class Grounded:
    """What an answer named.

    Attributes:
        places: Indices of candidates, in the order in which they were named first.
        outside: Entries that are no candidate.
        repeated: Entries that name a candidate again.
    """

    places: tuple[int, ...]
    outside: int = 0
    repeated: int = 0


def ground(answer: str, titles: Sequence[str], names: Sequence[str] = (), least: float = 0.85) -> Grounded:
    """The candidates that an answer names.

    Args:
        answer: What the model wrote.
        titles: Of the candidates.
        names: Their labels, as `tongtu.llm.wording.labels` makes them; none if they had no labels.
        least: Likeness from 0 to 1 (normalised Indel distance) from which a fuzzy match counts.
    """
    find = _Finder(tuple(titles), tuple(names), least)
    places: list[int] = []
    outside = repeated = 0
    for entry in entries(answer):
        place = find(entry)
        if place is None:
            outside += 1
        elif place in places:
            repeated += 1
        else:
            places.append(place)
    return Grounded(tuple(places), outside, repeated)


def entries(answer: str) -> list[str]:
    """The entries of an answer: elements of the list in it, where one can be read, else its lines; without bullets, numbers and empty ones."""
    found = _from_list(answer)
    lines = [part for line in answer.splitlines() for part in _parts(line)] if found is None else found
    return [entry for entry in (_BULLET.sub("", html.unescape(line)).strip() for line in lines) if entry.strip(_EDGE)]


@dataclass(frozen=True)
class _Finder:
    titles: tuple[str, ...]
    names: tuple[str, ...]
    least: float

    def __call__(self, entry: str) -> int | None:
        by_label, exact, plain_titles = _tables(self.titles, self.names)
        label = _LABEL.search(entry) if by_label else None
        text = plain(entry if label is None else _LABEL.sub("", entry, count=1))
        if label is not None and (place := by_label.get((label[1] or label[2]).upper())) is not None:
            return place if text == plain_titles[place] else exact.get(text, place)
        for one in dict.fromkeys((text, plain(entry))):
            if one in exact:
                return exact[one]
        if len(text) < _SHORTEST:
            return None
        best = process.extractOne(text, plain_titles, scorer=fuzz.ratio, score_cutoff=100 * self.least)
        return None if best is None else int(best[2])


@lru_cache(maxsize=8)
def _tables(titles: tuple[str, ...], names: tuple[str, ...]) -> tuple[dict[str, int], dict[str, int], list[str]]:
    """Labels, exact titles (of equal ones the first) and plain titles of candidates."""
    plain_titles = [plain(title) for title in titles]
    exact = {title: place for place, title in reversed(list(enumerate(plain_titles))) if title}
    return {name.upper(): place for place, name in enumerate(names)}, exact, plain_titles


def plain(text: str) -> str:
    """A title as it is compared: lower case, one space between words, no quotes or full stop at the edges."""
    return " ".join(html.unescape(text).casefold().split()).strip(_EDGE)


def _parts(line: str) -> list[str]:
    """A line; one that is nothing but labels, "[C], [A]" or "C > A", is taken apart."""
    return re.findall(r"\w+", line) if _ROW.fullmatch(line.strip()) else [line]


def _from_list(answer: str) -> list[str] | None:
    """The elements of a JSON or Python list in the answer, or of the one list of a JSON object; None if there is none, or a number alone: "Heat [1995]"."""
    for text in (answer.strip(), *(found[0] for found in [_LIST.search(answer)] if found)):
        for read in (json.loads, ast.literal_eval):
            try:
                value: Any = read(text)
            except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                continue
            if isinstance(value, dict):
                value = next((one for one in value.values() if isinstance(one, list)), None)
            if isinstance(value, (list, tuple)) and all(isinstance(one, (str, int)) for one in value):
                return None if len(value) == 1 and isinstance(value[0], int) else [str(one) for one in value]
    return None
