"""What codes mean: the words that tell the items of a code from all others, and the items nearest to its middle."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

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


def items_under(ids: SemanticIds, prefix: Sequence[int], among: Offsets | None = None) -> Offsets:
    """int64, the item codes whose ids begin with `prefix`, those nearest to the middle first.

    An item is near the middle of a prefix if the codes behind it add little to it.

    Args:
        ids: The ids.
        prefix: Codes of the first levels.
        among: Item codes to look through; all where None.
    """
    rows = np.arange(1, len(ids.codes)) if among is None else among
    rows = rows[(ids.codes[rows, : len(prefix)] == np.asarray(prefix, np.int32)).all(axis=1)]
    codes = ids.codes[rows, : ids.config.levels]
    beyond = ids.quantiser.decoded(codes) - ids.quantiser.decoded(codes[:, : len(prefix)])
    found: Offsets = rows[np.argsort(np.square(beyond).sum(axis=1), kind="stable")]
    return found


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

        chosen: list[str] = []
        for word in sorted(inside, key=lambda word: (-weight(word), word)):
            if len(chosen) == words:
                break
            if not any(word.startswith(other) or other.startswith(word) for other in chosen):  # brush and brushes tell the same
                chosen.append(word)
        return tuple(chosen)


def meanings(ids: SemanticIds, wording: Wording, prefix: Sequence[int] = (), words: int = 4) -> list[CodeMeaning]:
    """What each code that follows `prefix` means, those of most items first."""
    under = items_under(ids, prefix)
    code = ids.codes[under, len(prefix)]
    order = np.argsort(code, kind="stable")
    some, first = np.unique(code[order], return_index=True)
    found = []
    for one, among in zip(some.tolist(), np.split(under[order], first[1:]), strict=True):
        longer = (*prefix, one)
        nearest = items_under(ids, longer, among)
        found.append(CodeMeaning(longer, len(nearest), wording.telling(nearest, words), nearest))
    return sorted(found, key=lambda meaning: (-meaning.items, meaning.prefix))


def places(ids: SemanticIds, codes: Sequence[int]) -> npt.NDArray[np.int64]:
    """int64[n, 2], a column and a row for each of these codes of the first level, in a square in which like codes are near each other."""
    book = ids.quantiser.books[0][list(codes)].astype(np.float64)
    left, size, _ = np.linalg.svd(book - book.mean(axis=0), full_matrices=False)
    side = int(np.ceil(np.sqrt(len(codes))))
    rank = np.zeros((len(codes), 2))
    for axis in range(min(2, len(size))):
        rank[:, axis] = np.argsort(np.argsort(left[:, axis] * size[axis])) / len(codes)
    cells = np.array([(column, row) for row in range(side) for column in range(side)])
    far = np.square(rank[:, None] - (cells[None] + 0.5) / side).sum(axis=2)
    found: npt.NDArray[np.int64] = cells[linear_sum_assignment(far)[1]]
    return found
