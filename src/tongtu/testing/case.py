"""What the checks of the contract work on, and how they tell what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tongtu.core import PAD, FitOptions, Recommender, Request, RequestBatch, Scores, TopK
from tongtu.data.dataset import Dataset

K = 10
_LONG = 1_500

SystemFactory = Callable[[], Recommender]


@dataclass(frozen=True)
class Case:
    """What the checks work on: how to make the system, its data, and one fitted system."""

    factory: SystemFactory
    data: Dataset
    options: FitOptions
    system: Recommender
    requests: RequestBatch

    @property
    def name(self) -> str:
        """The system's class, for messages."""
        return type(self.system).__name__


def unusual(data: Dataset) -> list[Request]:
    """Requests of every kind that is ordinary, though a small log may not hold it."""
    some, times = data.history(1), None if data.time is None else data.time[data.offset[0] : data.offset[1]]
    long = np.resize(data.item, _LONG)
    with_pad = np.concatenate([[PAD], some[:2], [PAD], some[2:], [PAD]]).astype(np.int32)
    return [
        Request(),
        Request(history=some[:1]),
        Request(history=some, times=times, now=None if times is None else int(times[-1]) + 3600),
        Request(history=some, user=1, attributes={"no such attribute": "x"}, forget=frozenset(data.user_attributes.columns)),
        Request(history=with_pad),
        Request(history=np.full(3, PAD, np.int32)),
        Request(history=long, exclude_seen=False),
        Request(history=some, candidates=np.arange(1, 6, dtype=np.int32), exclude_seen=False),
        Request(history=some, candidates=np.zeros(0, np.int32)),
    ]


def same_answers(case: Case, one: TopK, other: TopK, promise: str) -> None:
    """Scores agree; where listed items differ, their scores are so close that rounding decides the order."""
    close(case, one.scores, other.scores, promise)
    scores = np.where(one.items == PAD, np.float32(0), one.scores)
    near = np.isclose(scores[:, :-1], scores[:, 1:], rtol=1e-3, atol=1e-4)
    edge = np.ones((len(scores), 1), np.bool_)
    tied = np.concatenate([np.zeros_like(edge), near], axis=1) | np.concatenate([near, edge], axis=1)
    require(bool(((one.items == other.items) | tied).all()), case, promise)


def close(case: Case, one: Scores, other: Scores, promise: str) -> None:
    """Numbers agree but for rounding."""
    finite = np.abs(other[np.isfinite(other)])
    require(np.allclose(one, other, rtol=1e-4, atol=1e-5 * max(1.0, float(finite.max(initial=0)))), case, promise)


def refuses(case: Case, error: type[Exception], act: Callable[[], Any], what: str) -> None:
    """Something is refused with the right error, in one line."""
    try:
        act()
    except error as refusal:
        require(len(str(refusal).splitlines()) == 1, case, f"{what} must be refused in one line, got {str(refusal)!r}")
        return
    except Exception as other:
        raise AssertionError(f"{case.name}: {what} must be refused with {error.__name__}, got {type(other).__name__}: {other}") from other
    raise AssertionError(f"{case.name}: {what} must be refused with {error.__name__}, but it was accepted")


def require(holds: bool, case: Case, promise: str) -> None:
    """A promise holds, or is named in the error."""
    if not holds:
        raise AssertionError(f"{case.name}: {promise}")
