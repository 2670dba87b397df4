"""Whether a system learns: it must beat Popular on worlds with a known answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from tongtu.core import FitOptions, Recommender, Scorer
from tongtu.data.splits import Cases, leave_one_out
from tongtu.data.synthetic import World
from tongtu.ranking import target_ranks
from tongtu.systems.baselines.popular import Popular
from tongtu.testing.case import K, SystemFactory


def check_learns(
    system_factory: SystemFactory,
    data_factory: Callable[[int], World],
    seeds: Sequence[int] = (0, 1, 2),
    factor: float = 1.5,
) -> tuple[float, float]:
    """Check that a system beats Popular on worlds with a known answer, by last-event NDCG@10.

    Args:
        system_factory: Makes an unfitted system.
        data_factory: Makes the world of a seed.
        seeds: At least three; the system is fitted once with each, on that seed's world.
        factor: How many times Popular's NDCG@10 the system's mean must reach; besides, the 95 % t-intervals over the seeds must not meet.

    Returns:
        The mean NDCG@10 of the system and of Popular.
    """
    scores = np.zeros((2, len(seeds)))
    for place, seed in enumerate(seeds):
        split = leave_one_out(data_factory(seed).data)
        for row, system in enumerate((system_factory(), Popular())):
            system.fit(split.train, FitOptions(seed=seed, quiet=True))
            scores[row, place] = case_ndcg(system, split.test).mean()
    ours, popular = scores.mean(axis=1)
    margin = stats.t.ppf(0.975, len(seeds) - 1) * scores.std(axis=1, ddof=1) / np.sqrt(len(seeds))
    name = type(system_factory()).__name__
    told = f"{name} reaches NDCG@10 {ours:.3f} (+-{margin[0]:.3f}), Popular {popular:.3f} (+-{margin[1]:.3f})"
    if ours < factor * popular:
        raise AssertionError(f"{told}: it must reach {factor:g} times Popular's")
    if ours - margin[0] <= popular + margin[1]:
        raise AssertionError(f"{told}: the intervals must not meet")
    return float(ours), float(popular)


def case_ndcg(system: Recommender, cases: Cases, k: int = K) -> npt.NDArray[np.float64]:
    """float64[n], the NDCG@k of each case, ties against the system."""
    if isinstance(system, Scorer):
        rank = target_ranks(system, cases.requests, cases.target)
    else:
        hit = system.recommend(cases.requests, k).items == cases.target[:, None]
        rank = np.where(hit.any(axis=1), 1 + hit.argmax(axis=1), k + 1)
    gain: npt.NDArray[np.float64] = np.where(rank <= k, 1 / np.log2(rank + 1.0), 0.0)
    return gain
