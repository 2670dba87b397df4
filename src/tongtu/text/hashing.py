"""Vectors of hashed words and parts of words: no model, no download, the same on every machine.

After Weinberger et al., "Feature Hashing for Large Scale Multitask Learning" (ICML 2009): each feature adds +1 or -1 at a place
that its hash gives. Features are words, and their pieces of three characters at half the weight, so that "grinder" and
"grinders" are alike. Each feature counts by the square root of how often it occurs; vectors have length 1.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from tongtu.text.encoder import Vectors

_WORD = re.compile(r"\w+")
_PIECE = 3
_PIECE_WEIGHT = 0.5


class HashingEncoder:
    """See the module's text."""

    def __init__(self, width: int = 256) -> None:
        self.name, self.width = f"hashing:{width}", width
        self.fingerprint = hashlib.sha256(f"{self.name} words and pieces of {_PIECE}, version 1".encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `ItemEncoder.encode`."""
        row: list[int] = []
        feature: list[int] = []
        weight: list[float] = []
        for number, text in enumerate(texts):
            counted = Counter(_features(text))
            row += [number] * len(counted)
            feature += [zlib.crc32(name.encode()) for name in counted]
            weight += [(_PIECE_WEIGHT if name[0] == "#" else 1.0) * count**0.5 for name, count in counted.items()]
        code = np.array(feature, np.int64)
        sign = np.where(code >> 31 & 1, -1.0, 1.0)
        place = np.array(row, np.int64) * self.width + (code & 0x7FFFFFFF) % self.width
        summed = np.bincount(place, sign * np.array(weight), minlength=len(texts) * self.width).reshape(len(texts), self.width)
        length = np.linalg.norm(summed, axis=1, keepdims=True)
        vectors: Vectors = (summed / np.where(length > 0, length, 1)).astype(np.float32)
        return vectors


def _features(text: str) -> Iterator[str]:
    """Words, and "#" with each of their pieces; no word begins with "#"."""
    for word in _WORD.findall(text.lower()):
        yield word
        marked = f"<{word}>"
        yield from (f"#{marked[i : i + _PIECE]}" for i in range(len(marked) - _PIECE + 1))
