"""How sure a number is: bootstrap intervals over users, and paired tests between systems.

Users are what is drawn, never single cases: a user's cases resemble each other, and resampling them one by one would make
every interval too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tongtu.core import Codes
from tongtu.evaluation.metrics import Values

DRAWS = 1000
FLIPS = 10_000
_NUMBERS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class PairedTest:
    """One system against another on the same users.

    Attributes:
        difference: Mean of the first less mean of the second.
        low, high: Bootstrap interval of the difference.
        p: Two-sided p-value of the randomisation test.
        p_holm: The same after Holm's correction over all pairs that were compared together.
    """

    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def bootstrap(values: Values, users: Codes, draws: int = DRAWS, seed: int = 0, level: float = 0.95) -> Values:
    """Percentile intervals of means, by resampling users with replacement (Efron & Tibshirani, 1993, chapter 13).

    Args:
        values: float64[cases, m], one column a metric.
        users: int[cases], whose case each is.
        draws: How many resamples.
        seed: Of the resampling.
        level: How often an interval should hold the true mean.

    Returns:
        float64[m, 2], low and high.
    """
    total, cases = _by_user(values, users)
    means = np.concatenate([(weight @ total) / (weight @ cases)[:, None] for weight in _resamples(len(cases), draws, seed)])
    limits: Values = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return limits.T


def bootstrap_statistic(values: Values, users: Codes, of_means: Callable[[Values], Values], seed: int = 0, level: float = 0.95) -> Values:
    """Percentile intervals, as of `bootstrap`, of what follows from means: a root of one, a ratio of two.

    Args:
        values: float64[cases, s].
        users: int[cases], whose case each is.
        of_means: From means float64[draws, s] to statistics float64[draws, m].
        seed: Of the resampling.
        level: How often an interval should hold the true value.

    Returns:
        float64[m, 2], low and high.
    """
    total, cases = _by_user(values, users)
    drawn = np.concatenate([of_means((weight @ total) / (weight @ cases)[:, None]) for weight in _resamples(len(cases), DRAWS, seed)])
    limits: Values = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return limits.T


def paired_tests(first: Values, second: Values, users: Codes, seed: int = 0) -> list[PairedTest]:
    """Tests of many pairs of systems at once, with Holm's correction over them.

    The p-value is that of Fisher's randomisation test, which Smucker, Allan & Carterette (CIKM 2007) recommend for rankings:
    how often a difference at least as large comes out when each user's two systems are swapped by a coin.

    Args:
        first, second: float64[cases, pairs], the metric of the two systems of each pair.
        users: int[cases], whose case each is; a user's cases are swapped together.
        seed: Of resampling and coins.
    """
    difference = first - second
    if not difference.shape[1]:
        return []
    interval = bootstrap(difference, users, seed=seed)
    p = _randomisation(_by_user(difference, users)[0], seed)
    return [
        PairedTest(float(mean), float(low), float(high), float(one), float(corrected))
        for mean, (low, high), one, corrected in zip(difference.mean(axis=0), interval, p, holm(p), strict=True)
    ]


def holm(p: Values) -> Values:
    """p-values corrected for having tested all of them (Holm, Scandinavian Journal of Statistics 1979)."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return corrected


def _by_user(values: Values, users: Codes) -> tuple[Values, Values]:
    """Sums float64[users, m] of each user's cases, and float64[users] how many there are."""
    _, row = np.unique(users, return_inverse=True)
    cases = np.bincount(row).astype(np.float64)
    if len(cases) == len(users):
        return values, cases
    return np.stack([np.bincount(row, weights=column) for column in values.T], axis=1), cases


def _resamples(users: int, draws: int, seed: int) -> Iterator[Values]:
    """How often each user is drawn, float64[some, users], until `draws` rows have come."""
    rng = np.random.default_rng(seed)
    some = max(1, _NUMBERS_AT_ONCE // users)
    for start in range(0, draws, some):
        rows = min(some, draws - start)
        drawn = rng.integers(0, users, (rows, users)) + np.arange(rows)[:, None] * users
        yield np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users).astype(np.float64)


def _randomisation(difference: Values, seed: int) -> npt.NDArray[np.float64]:
    """Two-sided p-values float64[pairs] of sums of float64[users, pairs] under random signs."""
    users, pairs = difference.shape
    observed = np.abs(difference.sum(axis=0))
    rng = np.random.default_rng(seed)
    extreme = np.zeros(pairs)
    some = max(1, _NUMBERS_AT_ONCE // users)
    for start in range(0, FLIPS, some):
        rows = min(some, FLIPS - start)
        bits = np.unpackbits(rng.integers(0, 256, (rows, -(-users // 8)), np.uint8), axis=1, count=users)
        swapped = np.abs((1.0 - 2.0 * bits) @ difference)
        extreme += (swapped >= observed * (1 - 1e-12)).sum(axis=0)  # equal up to rounding is as extreme
    return (1 + extreme) / (1 + FLIPS)
