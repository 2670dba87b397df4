"""What instructions tell of items and of taste: names that differ, and by rules a few words on what a history holds most."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from tongtu.core import PAD, Codes
from tongtu.data.dataset import Dataset
from tongtu.data.item_text import clean, item_names
from tongtu.errors import DataError
from tongtu.llm.wording import quoted

_BRANDS = ("brand", "store", "author", "publisher")
_KINDS, _WORDS = 3, 3  # told of a taste
_MOSTLY, _OFTEN = 0.5, 0.25  # shares of a history
_TWICE = 2
_SHORTEST = 4  # letters of a word that tells something
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class ItemFacts:
    """What is known of each item, by code; code `PAD` has nothing.

    Attributes:
        names: Title, on one line and without signs of control; all different.
        kinds: Categories, in the item's own order.
        brands: Or "".
        words: Of the title, that could tell a taste.
    """

    names: tuple[str, ...]
    kinds: tuple[tuple[str, ...], ...]
    brands: tuple[str, ...]
    words: tuple[frozenset[str], ...]

    @classmethod
    def of(cls, data: Dataset, kinds: Sequence[tuple[str, ...]], thing: str, longest: int) -> ItemFacts:
        """The facts of a catalogue.

        Args:
            data: The catalogue's texts and fields.
            kinds: Categories by code.
            thing: What an item without a title is called, before its id.
            longest: Letters of a name.

        Raises:
            DataError: If no item has a title or text.
        """
        names = distinct_names(data, thing, longest)
        field = next((name for name in _BRANDS if name in data.item_fields.columns), None)
        brands = [""] * len(data.items) if field is None else clean(data.item_fields[field].cast(pl.String)).fill_null("").to_list()
        words = [frozenset(word.casefold() for word in _WORD.findall(name) if len(word) >= _SHORTEST) for name in names]
        return cls(("", *names), tuple(kinds), ("", *brands), (frozenset(), *words))


def distinct_names(data: Dataset, thing: str, longest: int) -> list[str]:
    """A name for each item, all different: those of several items get a number behind.

    Raises:
        DataError: If no item has a title or text.
    """
    titles = item_names(data.item_text, data.item_fields, longest).to_list()
    if not any(titles):
        raise DataError(f"{data.name}: no item has a title or text to tell a language model: import it with --items FILE --text COLUMN")
    plain = [json.loads(quoted(title, longest)) or json.loads(quoted(f"{thing} {own}", longest)) for title, own in zip(titles, data.items.ids, strict=True)]
    given, used, found = set(plain), set[str](), []
    numbers = dict.fromkeys(plain, 1)
    for name in plain:
        told = name
        while told in used or (told != name and told in given):
            numbers[name] += 1
            told = f"{name} ({numbers[name]})"
        used.add(told)
        found.append(told)
    return found


def taste(facts: ItemFacts, history: Codes | Sequence[int]) -> str:
    """A few words on what a history holds most, without a title; "" where its items have nothing in common.

    Args:
        facts: Of the items.
        history: Their codes; `PAD` tells nothing.
    """
    known = [int(code) for code in history if code != PAD]
    kinds = Counter(kind for code in known for kind in facts.kinds[code])
    least = _TWICE if len(known) > _TWICE else 1
    parts = [f"{_how_much(times / len(known))} {kind}" for kind, times in kinds.most_common(_KINDS) if times >= least]
    brands = Counter(facts.brands[code] for code in known if facts.brands[code])
    parts += [f"by {brand}" for brand, times in brands.most_common(1) if times >= _TWICE]
    said = _common_words(facts, known, " ".join(parts).casefold())
    return ", ".join([*parts, *([f"with {' '.join(said)}"] if said else [])])


def _common_words(facts: ItemFacts, codes: Sequence[int], told: str) -> list[str]:
    """Words of several names that are not told already; none where they make up a name."""
    words = Counter(word for code in codes for word in facts.words[code])
    often = [word for word, times in sorted(words.items(), key=lambda pair: (-pair[1], pair[0])) if times >= _TWICE and word not in told][:_WORDS]
    return [] if any(facts.words[code] and facts.words[code] <= set(often) for code in codes) else often


def _how_much(share: float) -> str:
    return "mostly" if share >= _MOSTLY else "often" if share >= _OFTEN else "some"
