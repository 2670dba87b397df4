"""Item vectors with a known answer: a few groups that lie apart."""

from __future__ import annotations

import numpy as np

from tongtu.config import build
from tongtu.semantic.codebooks import Vectors
from tongtu.semantic.settings import SemanticConfig

GROUPS, EACH, WIDTH = 6, 40, 12


def catalogue(seed: int = 0, items: int = GROUPS * EACH) -> tuple[Vectors, np.ndarray]:
    """Vectors of items around a few centres that lie apart, `PAD` first, and the centre of each."""
    draw = np.random.default_rng(seed)
    centre = np.random.default_rng(99).normal(size=(GROUPS, WIDTH)) * 4
    group = draw.integers(0, GROUPS, items)
    made = centre[group] + draw.normal(size=(items, WIDTH))
    return np.concatenate([np.zeros((1, WIDTH)), made]).astype(np.float32), group


def settings(**values: object) -> SemanticConfig:
    return build(SemanticConfig, {"levels": 3, "size": GROUPS, **values})
