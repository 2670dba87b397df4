"""From what a language model wrote to a rating or a short text."""

from __future__ import annotations

import re

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORD = re.compile(rf"\b({'|'.join(_WORDS)})\b")
_AND_A_HALF = re.compile(r"(\d+)(?:\s+and\s+a\s+half|\s*½|\s+1/2)")
_SCALE = re.compile(
    r"\b(?:scale\s+(?:of|from)?|from|between)\s*\d+\s*(?:to|and|-|–)\s*\d+(?:\s+stars?)?"
    r"|\b\d+\s*[-–]\s*\d+\s+scale\b|\b\d+\s+stars?\s+to\s+\d+\s+stars?"
)
_NUMBER = r"(?<![\w.])(-?\d{1,3}(?:[.,]\d{1,6})?)(?![\d])"
_OF = re.compile(rf"{_NUMBER}\s*(?:stars?\s*)?(?:/|out\s+of|of)\s*(\d{{1,3}})(?!\d)")
_STARS = re.compile(rf"{_NUMBER}\s*-?\s*stars?\b")
_NAMED = re.compile(rf"\b(?:rating|stars?|score|answer)\b\W{{0,6}}(?:(?:is|of|be|would be)\s+)?{_NUMBER}")
_ANY = re.compile(_NUMBER)
_QUOTED = re.compile(r'"[^"\n]{2,}(?:"|$)', re.MULTILINE)
_ENTRY = re.compile(r"^\s*\d{1,2}[.)]\s+(?=\S)", re.MULTILINE)
_FIRST_ENTRY = re.compile(r"1[.)]\s+\S")
_MOST = 100  # what is larger is a year or a count
_LABEL = re.compile(r"^\s*(?:[-*•]\s+)?(?:\*\*)?(?:headline|summary|title|explanation|answer|review)(?:\*\*)?\s*:\s*(?:\*\*)?\s*", re.IGNORECASE)
_EDGE = " \t\"'`“”‘’«»*_"


def rating_in(answer: str, low: float, high: float) -> float | None:
    """The rating that an answer gives, brought into the scale; None if there is none.

    Read are "4", "4.0", "4,5", "4/5", "8 out of 10" (as 4 of 5), "four stars", "three and a half", "★★★★" and the like within a sentence.
    A number behind "rating" or before "stars" goes before any other. The number of a list's entry counts only where the entry
    stands alone and holds no other, and those of quoted titles and of a scale that is repeated ("from 1 to 5") do not count.
    """
    text = answer.casefold().strip()
    text = text.strip(_EDGE) if text.count('"') <= 2 and text.endswith('"') and text.startswith('"') else text
    text = _WORD.sub(lambda found: str(_WORDS.index(found[1])), _QUOTED.sub(" ", text))
    text = _SCALE.sub(" ", _AND_A_HALF.sub(r"\1.5", text))
    listed = _ENTRY.sub("", text) if _FIRST_ENTRY.match(text) else text
    found = _rating(listed, high)
    if found is None and listed != text and len(_ENTRY.findall(text)) == 1:
        found = _rating(text, high)
    return None if found is None else min(max(found, low), high)


def _rating(text: str, high: float) -> float | None:
    if found := _OF.search(text):
        value, of = _number(found[1]), float(found[2])
        return None if not of else value if of == high else value * high / of
    for pattern in (_STARS, _NAMED, _ANY):
        for found in pattern.finditer(text):
            if abs(value := _number(found[1])) <= _MOST:
                return value
    drawn = text.count("★") or text.count("⭐")
    return float(drawn) if drawn else None


def text_in(answer: str) -> str | None:
    """The first line of an answer that says something, without a label and quotes around it; None if there is none."""
    lines = (_LABEL.sub("", line).strip(_EDGE) for line in answer.splitlines())
    return next((line for line in lines if any(sign.isalnum() for sign in line)), None)


def _number(text: str) -> float:
    return float(text.replace(",", "."))

