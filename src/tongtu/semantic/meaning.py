"""What codes mean: the words that tell the items of a code from all others, and the items nearest to its middle."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tongtu.core import Offsets
from tongtu.semantic.ids import SemanticIds

_WORD = re.compile(r"[^\W\d_]{3,}")
_PRIOR = 2.0  # items with a word that are added to both sides, so that one item alone proves nothing


@dataclass(frozen=True)
class CodeMeaning:
    """One code, or the beginning of an id.

    Attributes:
        prefix: The codes.
        items: How many items have it.
        words: What tells them from all others, the most telling first.
        nearest: int64, item codes, those nearest to its middle first.
    """

    prefix: tuple[int, ...]
    items: int
    words: tuple[str, ...]
    nearest: Offsets


def items_under(ids: SemanticIds, prefix: Sequence[int]) -> Offsets:
    """int64, the item codes whose ids begin with `prefix`, those nearest to the middle first.

    An item is near the middle of a prefix if the codes behind it add little to it.
    """
    own = ids.codes[1:, : len(prefix)]
    rows = np.flatnonzero((own == np.asarray(prefix, np.int32)).all(axis=1))
    codes = ids.codes[1:][rows][:, : ids.config.levels]
    beyond = ids.quantiser.decoded(codes) - ids.quantiser.decoded(codes[:, : len(prefix)])
    return rows[np.argsort(np.square(beyond).sum(axis=1), kind="stable")] + 1


class Wording:
    """Which words the texts of a catalogue have, for `meanings`."""

    def __init__(self, texts: Sequence[str]) -> None:
        found = [set(_WORD.findall(text.lower())) for text in texts]
        self.found = found
        self.count = Counter(word for words in found for word in words)

    def telling(self, codes: Offsets, words: int) -> tuple[str, ...]:
        """The words that most set items apart, by how many of them have a word against how many of all, each counted by the root of how many have it."""
        inside = Counter(word for code in codes.tolist() for word in self.found[code - 1])
        n, total = len(codes), len(self.found)

        def weight(word: str) -> float:
            here, everywhere = inside[word], self.count[word]
            return float(np.sqrt(here) * np.log((here + _PRIOR * everywhere / total) / (n + _PRIOR) * total / everywhere))

        return tuple(sorted(inside, key=lambda word: (-weight(word), word))[:words])


def meanings(ids: SemanticIds, wording: Wording, prefix: Sequence[int] = (), words: int = 4) -> list[CodeMeaning]:
    """What each code that follows `prefix` means, those of most items first."""
    under = items_under(ids, prefix)
    code = ids.codes[under, len(prefix)]
    found = []
    for one in np.unique(code).tolist():
        longer = (*prefix, one)
        nearest = items_under(ids, longer)
        found.append(CodeMeaning(longer, len(nearest), wording.telling(nearest, words), nearest))
    return sorted(found, key=lambda meaning: (-meaning.items, meaning.prefix))


def plane(ids: SemanticIds) -> npt.NDArray[np.float64]:
    """float64[K, 2], the codes of the first level in the plane in which they lie farthest apart."""
    book = ids.quantiser.books[0].astype(np.float64)
    centred = book - book.mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    found = np.zeros((len(book), 2))
    found[:, : min(2, len(size))] = (left * size)[:, :2]
    return found
