"""What the drills ask: light questions, and ones that take a worker long. Ids are those of `_models.random_sasrec`."""

from __future__ import annotations

from typing import Any

import numpy as np

Questions = list[tuple[str, str, Any]]
"""Method, path and body of each."""


def questions(items: int, count: int = 500, longest: int = 50, seed: int = 0, **fields: Any) -> Questions:
    """Requests for ten items after histories of 1 to `longest` items, drawn as popular items are."""
    draw = np.random.default_rng(seed)
    bodies = [[str(1 + int(items * draw.random() ** 2) % items) for _ in range(int(draw.integers(1, longest + 1)))] for _ in range(count)]
    return [("POST", "/v1/recommend", {"history": history, "k": 10, **fields}) for history in bodies]


def heavy_questions(items: int, count: int = 50, length: int = 60) -> Questions:
    """Requests that take a worker long: reasons for ten items, each event of the history left out once."""
    draw = np.random.default_rng(1)
    histories = [[str(int(i)) for i in draw.integers(1, items + 1, length)] for _ in range(count)]
    return [("POST", "/v1/explain", {"history": history, "items": [str(i) for i in range(1, 11)]}) for history in histories]
