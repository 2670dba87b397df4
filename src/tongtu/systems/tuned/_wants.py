"""What the user of a target may ask for: wishes as the protocol makes them (`tongtu.data.wishes`), and sentences of reviews."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import polars as pl

from tongtu.data.dataset import Dataset
from tongtu.data.item_text import clean, item_names
from tongtu.data.wishes import VAGUE, Categories, cut_leaks, item_categories
from tongtu.errors import DataError
from tongtu.llm.wording import printable

_LONGEST, _SHORTEST = 160, 12
_GRAM = 2  # words in a row that name a title
_LONGEST_TITLE = 1000
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_PERSON = re.compile(r"\b(?:i|i'm|i've|my|me|we|our)\b", re.IGNORECASE)
_WANTING = re.compile(
    r"\b(?:need(?:ed|s)?|want(?:ed|s)?|wish(?:ed)?|(?:look|search|hunt|shopp)ing for|hop(?:ed|ing) for"
    r"|(?:bought|got|ordered|purchased|picked) (?:this|it|these|them|one)(?: \w+)? (?:for|to|because|as)"
    r"|as a (?:gift|present)|in the mood for|use (?:it|this|them) (?:for|to|when))\b",
    re.IGNORECASE,
)


class Wants:
    """Wishes for the items of a log.

    Args:
        data: The log.
        field: Item field of the categories; without it only reviews tell of wishes.
    """

    def __init__(self, data: Dataset, field: str) -> None:
        try:
            self.categories: Categories | None = item_categories(data, field)
        except DataError:
            self.categories = None
        self._counts: list[int] = [] if self.categories is None else self.categories.counts.tolist()
        self._left: dict[int, list[tuple[int, str]]] = {}
        self._titles = item_names(data.item_text, data.item_fields, _LONGEST_TITLE).to_list()
        self._reviews = data.event_fields["review"] if "review" in data.event_fields.columns else None

    def kinds(self, code: int) -> tuple[str, ...]:
        """The categories of an item."""
        return () if self.categories is None else tuple(self.categories.names[place] for place in self.categories.of(code))

    def held(self, codes: Sequence[int]) -> frozenset[int]:
        """The categories, by their places, that any of these items has."""
        return frozenset() if self.categories is None else frozenset(place for code in codes for place in self.categories.of(code))

    def specific(self, code: int, draw: float) -> str:
        """The categories of an item without words of its title, like a search: all, or with `draw` from 0.75 on some; "" if nothing is left."""
        told = [left for _, left in self._told(code)]
        if draw < 0.75 or len(told) < 2:
            return ", ".join(told)
        chosen = np.random.default_rng(int(draw * 2**32))
        return ", ".join(told[place] for place in sorted(chosen.permutation(len(told))[: chosen.integers(1, len(told))]))

    def vague(self, code: int, draws: tuple[float, float], held: frozenset[int] | None = None) -> str:
        """A sentence about one of the item's broad categories, "" if there is none.

        Args:
            code: The item.
            draws: Which category, and which sentence; from 0 to 1.
            held: Categories out of which it must be; None for any.
        """
        told = self._told(code)
        broad = sorted(told, key=lambda one: -self._counts[one[0]])[: (len(told) + 1) // 2]
        left = [name for place, name in broad if held is None or place in held]
        return VAGUE[int(draws[1] * len(VAGUE))].format(category=left[int(draws[0] * len(left))]) if left else ""

    def review(self, place: int) -> str:
        """The review of an event, by its place in the log; "" if there is none."""
        return "" if self._reviews is None else clean(self._reviews[place : place + 1].cast(pl.String)).fill_null("")[0]

    def said(self, place: int, code: int) -> str:
        """What the review of an event says its writer wanted; "" if nothing, or if it names the item."""
        told = said_wish(self.review(place))
        return "" if self.names(told, code) else told

    def names(self, text: str, code: int) -> bool:
        """Whether a text holds words that stand in the item's title in a row, or all of its one word."""
        title = self._titles[code - 1]
        return cut_leaks(text, title, min(_GRAM, max(len(title.split()), 1))) != text

    def _told(self, code: int) -> list[tuple[int, str]]:
        """Categories of an item and what of their names is not in its title."""
        if code not in self._left:
            names = () if self.categories is None else self.categories.names
            own = [] if self.categories is None else self.categories.of(code)
            self._left[code] = [(place, left) for place in own if (left := cut_leaks(names[place], self._titles[code - 1]))]
        return self._left[code]


def said_wish(review: str) -> str:
    """The first sentence of a review in which its writer says what they wanted, on one line; "" where there is none."""
    for sentence in _SENTENCE.split(review):
        told = printable(sentence).strip(" .!")
        if _SHORTEST <= len(told) <= _LONGEST and _PERSON.search(told) and _WANTING.search(told):
            return told
    return ""
