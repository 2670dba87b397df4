"""What an audit says: one finding a question, with its verdict, its evidence and its remedy, in plain values that JSON can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from tongtu.config import configuration
from tongtu.trust.settings import Level

Verdict = Literal["fine", "notice", "alarm", "not measured"]
Part = Literal["folder", "privacy", "fairness", "popularity", "backdoor", "memory"]
VERDICTS: tuple[Verdict, ...] = ("not measured", "fine", "notice", "alarm")
"""Verdicts, the least grave first."""

Values = npt.NDArray[np.float64]
_DRAWS = 999
_NUMBERS_AT_ONCE = 1 << 21


@configuration
class Table:
    """A small table of evidence.

    Attributes:
        title: What it shows.
        columns: Headings.
        rows: One cell a column; shares are numbers between 0 and 1.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]


@configuration
class Finding:
    """The answer to one question of an audit.

    Attributes:
        part: What it is about.
        name: The question in a few words.
        verdict: "fine", "notice" (look at it), "alarm" (do not go on without an answer), or "not measured".
        evidence: What was seen, or why nothing was measured, in a sentence or two.
        remedy: What to do about it, in a sentence that names a command or a document; "" where there is nothing to do.
        value: The number that was judged.
        interval: Its 95 % interval.
        threshold: The number that would have been, or was, an alarm.
        tables: More evidence.
    """

    part: Part
    name: str
    verdict: Verdict
    evidence: str
    remedy: str = ""
    value: float | None = None
    interval: tuple[float, float] | None = None
    threshold: float | None = None
    tables: tuple[Table, ...] = ()


def not_measured(part: Part, name: str, why: str, remedy: str = "") -> Finding:
    """The finding that nothing was measured, and why."""
    return Finding(part=part, name=name, verdict="not measured", evidence=why, remedy=remedy)


def verdict_of(value: float, level: Level) -> Verdict:
    """How grave a value is; a value at the level counts."""
    return "alarm" if value >= level.alarm else "notice" if value >= level.notice else "fine"


def gravest(findings: Sequence[Finding]) -> Verdict:
    """The gravest verdict of all; "not measured" where there is no other."""
    return max((finding.verdict for finding in findings), key=VERDICTS.index, default="not measured")


def resampled_means(values: Values, seed: int) -> Values:
    """Means float64[draws, m] of values float64[n, m] under resampling their rows with replacement."""
    rng, n = np.random.default_rng(seed), len(values)
    some = max(1, _NUMBERS_AT_ONCE // n)
    parts = [rng.multinomial(n, np.full(n, 1 / n), min(some, _DRAWS - start)) @ values / n for start in range(0, _DRAWS, some)]
    drawn: Values = np.concatenate(parts)
    return drawn


def interval_of(drawn: Values) -> tuple[float, float]:
    """The middle 95 % of resampled numbers."""
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def spread_p(values: Values, group: npt.NDArray[np.int64], seed: int) -> float:
    """How often the largest less the smallest group mean comes out at least as large when users change groups at random.

    Args:
        values: float64[n].
        group: int64[n], the group of each from 0, none of them empty.
        seed: Of the permutations.
    """
    rng, sizes = np.random.default_rng(seed), np.bincount(group)

    def spread(order: npt.NDArray[np.int64]) -> float:
        return float(np.ptp(np.bincount(order, weights=values) / sizes))

    seen = spread(group)
    return (1 + sum(spread(rng.permutation(group)) >= seen - 1e-12 for _ in range(_DRAWS))) / (1 + _DRAWS)
