"""Wishes: what a user who wants a certain item might type, made from the item's categories; and how a wish is read against a catalogue's categories.

A wish is a simulation: it is made from the very item that is asked for. Words that also stand in that item's title are cut
(`cut_leaks`), so that a wish tells what kind of item is wanted and does not name it. A category that more than nine in ten items
have ("Beauty" in a shop for beauty) tells nothing and makes no wish.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from tongtu.core import Codes, Offsets
from tongtu.data.dataset import Dataset
from tongtu.data.item_text import clean, item_names
from tongtu.errors import DataError

WishKind = Literal["specific", "vague"]
CATEGORIES = "categories"
"""The item field that wishes are made from, if no other is named."""

VAGUE = (
    "I am in the mood for something from {category}.",
    "I would like to try something from {category}.",
    "I am looking for something in {category}, but I have nothing certain in mind.",
    "I fancy something from {category} today. What do you suggest?",
    "I feel like something new from {category}.",
)
"""How a vague wish says its category."""

_EVERYWHERE = 0.9
_NO_NAMES = frozenset({"", "unknown", "none", "n/a", "(no genres listed)"})
_BETWEEN = re.compile(r"\s*[|>;]\s*")  # categories in one text: "Animation|Comedy", "Makeup > Face"
_WORD = re.compile(r"\w+(?:['’]\w+)?")
_LONGEST_TITLE = 1000


@dataclass(frozen=True, eq=False)
class Categories:
    """The categories of a catalogue.

    Attributes:
        names: Each category, as it is first written; two that differ in case or white space are one.
        category: int32, places in `names`: those of item code i stand at `offset[i - 1]:offset[i]` in the item's own order, none twice.
        offset: int64[items + 1].
    """

    names: tuple[str, ...]
    category: Codes
    offset: Offsets

    def of(self, code: int) -> list[int]:
        """Places in `names` of the categories of one item code; `PAD` has none."""
        found: list[int] = self.category[self.offset[code - 1] : self.offset[code]].tolist() if code else []
        return found

    @property
    def counts(self) -> Offsets:
        """int64[names], how many items have each category."""
        return np.bincount(self.category, minlength=len(self.names))


def item_categories(data: Dataset, field: str = CATEGORIES) -> Categories:
    """The categories of every item; those that say nothing ("unknown", or what more than nine in ten items have) are left out.

    Args:
        data: The data set, whose `item_fields` hold a list of names an item, or one text with | or > or ; between them.
        field: Name of the item field.

    Raises:
        DataError: If there is no such field, or no item has a category that tells it from others.
    """
    fields = data.item_fields
    if field not in fields.columns:
        remedy = f"name one of {', '.join(fields.columns)}, or import" if fields.width else "it has none, import"
        raise DataError(f"{data.name} has no item field {field!r} with categories, of which wishes are made: {remedy} a catalogue with categories")
    lists = _lists(fields[field], data.name, field)
    long = pl.DataFrame({"item": pl.int_range(len(lists), eager=True), "name": lists}).explode("name", empty_as_null=True, keep_nulls=True)
    long = long.with_columns(name=clean(long["name"])).with_columns(kind=pl.col("name").str.to_lowercase())
    long = long.filter(~pl.col("kind").fill_null("").is_in(list(_NO_NAMES))).unique(["item", "kind"], keep="first", maintain_order=True)
    share = pl.col("item").len().over("kind") / max(long["item"].n_unique(), 1)
    long = long.filter(share <= _EVERYWHERE)
    if not long.height:
        raise DataError(f"{data.name}: the item field {field!r} tells no item from others, so there is nothing to wish for: name another field")
    names = long.unique("kind", keep="first", maintain_order=True).select("kind", "name").with_row_index("place")
    place = long.join(names.select("kind", "place"), on="kind", how="left", maintain_order="left")["place"].to_numpy().astype(np.int32)
    length = np.bincount(long["item"].to_numpy(), minlength=len(lists))
    return Categories(tuple(names["name"]), place, np.concatenate([np.zeros(1, np.int64), np.cumsum(length)]))


def make_wishes(data: Dataset, items: Codes, kind: WishKind, *, field: str = CATEGORIES, n: int = 1, seed: int = 0) -> list[str | None]:
    """What a user who wants each of these items might type; the same item gets the same wish.

    A specific wish is the item's categories in their order (the whole path, or all genres), joined by ", ". A vague one is a
    sentence about one of its broad categories: of the wider half, by how many items have them. Which one, and which sentence,
    depends on the seed and the item's code alone.

    Args:
        data: The data set.
        items: Item codes, int[m]; `PAD` has no wish.
        kind: Which wish.
        field: The item field with the categories.
        n: Words that stand in a row of so many words of the item's title are cut out of its categories; see `cut_leaks`.
        seed: Of the draws.

    Returns:
        m wishes; None for an item without categories, and where nothing of them is left.

    Raises:
        DataError: If there is no such field, or no item has a category that tells it from others.
    """
    categories = item_categories(data, field)
    distinct, row = np.unique(np.asarray(items, np.int64), return_inverse=True)
    titles = item_names(data.item_text, data.item_fields, _LONGEST_TITLE).to_list()
    counts = categories.counts
    draws = np.random.default_rng(seed).random((data.items.size, 2))
    made: list[str | None] = []
    for code in distinct.tolist():
        own = categories.of(code)
        told = [(place, left) for place in own if (left := cut_leaks(categories.names[place], titles[code - 1], n))]
        if kind == "vague":
            told = sorted(told, key=lambda one: -counts[one[0]])[: (len(told) + 1) // 2]
            made.append(_sentence([left for _, left in told], draws[code]))
        else:
            made.append(", ".join(left for _, left in told) or None)
    return [made[place] for place in row.tolist()]


def cut_leaks(phrase: str, title: str, n: int = 1) -> str:
    """The phrase without the words that it shares with the title in rows of at least `n`, "" where no word is left.

    With n = 1 every word that stands in the title goes; with n = 2 only words of a pair that stands there in the same order. Case does not
    count, nor does a plural or possessive ending: "Women's Shampoos" shares both words with "Shampoo for Women".
    """
    parts = phrase.split()
    words = [(_stem(word), place) for place, part in enumerate(parts) for word in _WORD.findall(part)]
    known = _grams([_stem(word) for word in _WORD.findall(title)], n)
    hit = {i + j for i, gram in enumerate(_grams_in_order([word for word, _ in words], n)) if gram in known for j in range(n)}
    if not hit:
        return phrase
    cut = {place for i, (_, place) in enumerate(words) if i in hit}
    wordy = {place for _, place in words}
    left: list[str] = []
    for place, part in enumerate(parts):
        joins = left and _WORD.search(left[-1]) and not left[-1].endswith(",")  # a "&" joins two words: none at the beginning, none after another
        if place not in cut and (place in wordy or joins):
            left.append(part)
    while left and not _WORD.search(left[-1]):
        left.pop()
    return " ".join(left).rstrip(",;:")


class Phrases:
    """The category names of a catalogue, to be found in what a user types.

    Args:
        names: The categories.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._place: dict[tuple[str, ...], int] = {}
        for place, name in enumerate(names):
            words = _words(name)
            if words:
                self._place.setdefault(words, place)
        self._longest = max(map(len, self._place), default=0)

    def found(self, text: str) -> list[int]:
        """Places of the names that stand in the text, in its order and none twice.

        Case, signs, and plural or possessive endings do not count; where several names begin at a word, the longest is meant, and its words are used up.
        """
        words, found, start = _words(text), dict[int, None](), 0
        while start < len(words):
            for length in range(min(self._longest, len(words) - start), 0, -1):
                place = self._place.get(words[start : start + length])
                if place is not None:
                    found[place] = None
                    start += length - 1
                    break
            start += 1
        return list(found)


def _lists(column: pl.Series, name: str, field: str) -> pl.Series:
    """One list of texts an item."""
    if column.dtype == pl.String:
        return pl.Series([None if text is None else _BETWEEN.split(text) for text in column], dtype=pl.List(pl.String))
    if isinstance(column.dtype, pl.List | pl.Array) and not isinstance(column.dtype.inner, pl.List | pl.Array | pl.Struct):
        return column.cast(pl.List(pl.String))
    raise DataError(f"{name}: the item field {field!r} holds {column.dtype}, and categories must be lists of names: name another field, or import it as lists")


def _sentence(told: Sequence[str], draws: Sequence[float]) -> str | None:
    if not told:
        return None
    category = told[int(draws[0] * len(told))]
    return VAGUE[int(draws[1] * len(VAGUE))].format(category=category)


def _words(text: str) -> tuple[str, ...]:
    return tuple(_stem(word) for word in _WORD.findall(text))


def _stem(word: str) -> str:
    """Lower case, without a plural or possessive ending."""
    word = re.sub(r"['’]s?$", "", word.casefold())
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("shes", "ches", "xes", "sses")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _grams(words: Sequence[str], n: int) -> frozenset[tuple[str, ...]]:
    return frozenset(_grams_in_order(words, n))


def _grams_in_order(words: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
