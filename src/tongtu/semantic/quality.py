"""How good codes are: how many items share theirs, how evenly each level is used, and how much of the vectors is lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tongtu.core import Codes
from tongtu.semantic.codebooks import Vectors


@dataclass(frozen=True)
class LevelUse:
    """How one level is used.

    Attributes:
        size: Codes that there are.
        used: Share of them that at least one item has.
        perplexity: Codes that an even use of as much information would need, between 1 and `size`.
        largest: Share of the items that have the most frequent code.
    """

    size: int
    used: float
    perplexity: float
    largest: float


def collision_rate(codes_NL: Codes) -> float:
    """One less the share of different ids: 0 if all differ, and 0.5 if there is one id for every two items.

    Args:
        codes_NL: The codes of each item, without a row for `PAD`.
    """
    return 1 - len(np.unique(codes_NL, axis=0)) / len(codes_NL) if len(codes_NL) else 0.0


def shared_rate(codes_NL: Codes) -> float:
    """The share of the items whose id is that of another item too."""
    count = np.unique(codes_NL, axis=0, return_counts=True)[1]
    return float(count[count > 1].sum() / len(codes_NL)) if len(codes_NL) else 0.0


def level_use(codes_NL: Codes, sizes: tuple[int, ...]) -> tuple[LevelUse, ...]:
    """How each level is used; `sizes` tells how many codes it has."""
    found = []
    for code, size in zip(codes_NL.T, sizes, strict=True):
        share = np.bincount(code, minlength=size) / max(len(code), 1)
        some = share[share > 0]
        perplexity = float(np.exp(-(some * np.log(some)).sum())) if len(some) else 0.0
        found.append(LevelUse(size, len(some) / size, perplexity, float(share.max())))
    return tuple(found)


def lost_share(vectors_ND: Vectors, restored_ND: Vectors) -> float:
    """The squared error of restored vectors over the variance of the vectors: 0 where nothing is lost, 1 where only the mean is known."""
    whole = np.square(vectors_ND - vectors_ND.mean(axis=0)).sum(dtype=np.float64)
    return float(np.square(vectors_ND - restored_ND).sum(dtype=np.float64) / whole) if whole > 0 else 0.0
