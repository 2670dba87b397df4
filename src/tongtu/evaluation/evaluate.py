"""One recommender against held-out cases: ranks, metrics with intervals, slices, and what its lists look like.

Users stream by in blocks; what is kept of each case is its rank and its list of ten.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tongtu.core import PAD, Codes, Offsets, Recommender, RequestBatch, Scorer
from tongtu.data.dataset import Dataset
from tongtu.data.impressions import ImpressionCases
from tongtu.data.splits import Cases
from tongtu.data.wishes import item_categories
from tongtu.errors import DataError
from tongtu.evaluation.impressions import ask_impressions
from tongtu.evaluation.intervals import bootstrap
from tongtu.evaluation.metrics import MISS, Values, coverage, gini, novelty, popularity_lift, rank_metrics
from tongtu.evaluation.protocol import CUTOFFS
from tongtu.evaluation.slices import LIST, Slices, slice_metrics
from tongtu.evaluation.variety import category_metrics
from tongtu.progress import progress
from tongtu.ranking import ranks_and_top, target_ranks
from tongtu.vocab import Vocab

_REQUESTS_AT_ONCE = 4096
_SLOW_AT_ONCE = 32  # of those who score no catalogue, such as language models: so that progress is seen


@dataclass(frozen=True, eq=False)
class Answers:
    """What a recommender answered to cases.

    Attributes:
        ranks: int64[cases], the target's rank from 1, or `MISS`.
        lists: int32[cases, 10], the recommended items in the data set's codes.
        ms_per_request: Milliseconds, requests asked in blocks.
        counts: Cases; targets and history events that the recommender's catalogue lacks.
        judged: MIND's metrics of each impression, float64[cases] by name; None where ranks in the catalogue are what is judged.
        notes: What the recommender told of its answers, as `TopK.notes` has it: numbers summed over the cases, of anything else how many cases had it.
    """

    ranks: Offsets
    lists: Codes
    ms_per_request: float
    counts: dict[str, int]
    judged: Mapping[str, Values] | None = None
    notes: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def values(self, cutoffs: Sequence[int] = CUTOFFS) -> Mapping[str, Values]:
        """Every metric of each case, float64[cases] by name."""
        return rank_metrics(self.ranks, cutoffs) if self.judged is None else self.judged


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation(Answers):
    """Answers and what they are worth.

    Attributes:
        metrics: Means over cases, by name ("ndcg@10", "coverage@10").
        interval: 95 % bootstrap intervals of what is measured case by case: the rank metrics, and those by category.
        slices: Cases, means and interval for each part of the cases, by the way of parting them and the part.
    """

    metrics: dict[str, float]
    interval: dict[str, tuple[float, float]]
    slices: Slices


def evaluate(
    recommender: Recommender,
    cases: Cases,
    train: Dataset,
    cutoffs: Sequence[int] = CUTOFFS,
    seed: int = 0,
    quiet: bool = True,
    categories: str | None = None,
) -> Evaluation:
    """Ask a recommender about every case and measure its answers.

    Args:
        recommender: A fitted system; see `ask`.
        cases: Questions with answers, in the codes of `train`.
        train: What the system may have learned from: popularity and attributes for metrics and slices come from here.
        cutoffs: Of recall, NDCG and MRR.
        seed: Of the bootstrap.
        quiet: Whether to show no progress.
        categories: An item field by whose categories lists are judged besides, see `tongtu.evaluation.variety`; None for none.

    Raises:
        DataError: If there are no cases, or no such categories.
    """
    known = None if categories is None else item_categories(train, categories)
    answers = ask(recommender, cases, train.items, max(cutoffs), quiet)
    values = answers.values(cutoffs)
    variety = {} if known is None else category_metrics(answers.lists, cases, known)
    means = {name: float(value.mean()) for name, value in [*values.items(), *variety.items()]}
    return Evaluation(
        **vars(answers),
        metrics=means | list_metrics(answers.lists, cases.requests, train),
        interval=intervals({**values, **variety}, cases, seed),
        slices=slice_metrics(values, cases, train, seed),
    )


def ask(recommender: Recommender, cases: Cases, items: Vocab, longest: int = max(CUTOFFS), quiet: bool = True) -> Answers:
    """Ask a recommender about every case.

    A `Scorer` is asked for scores, and ties with the target count against it; from anybody else the target's place in a
    list of `longest` items is taken. A recommender with another catalogue is asked in its own codes: history items it does
    not know become `PAD`, and targets it does not know are misses. Impressions are ordered by what the recommender thinks of
    what they showed.

    Raises:
        DataError: If there are no cases.
    """
    if not len(cases):
        raise DataError("there is nothing to evaluate: the protocol left no case; ask more users or choose another protocol")
    asked, targets, counts = _translated(recommender, cases, items)
    started = time.perf_counter()
    if isinstance(cases, ImpressionCases):
        shown = cases.shown if recommender.items == items else recommender.items.translation(items)[cases.shown]
        judged, ranks, lists = ask_impressions(recommender, cases, asked, shown, quiet)
        return Answers(ranks, lists, 1000 * (time.perf_counter() - started) / len(cases), counts, judged)
    ranks, lists, notes = _asked(recommender, asked, targets, max(longest, LIST), quiet)
    seconds = time.perf_counter() - started
    if "seconds" in notes:  # of a language model, whose answers may come from a cache this time
        seconds = max(seconds, notes["seconds"])
    return Answers(ranks, items.translation(recommender.items)[lists], 1000 * seconds / len(cases), counts, notes=notes)


def intervals(values: Mapping[str, Values], cases: Cases, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of means of `values` (float64[cases] by name)."""
    limits = bootstrap(np.stack(list(values.values()), axis=1), cases.user, seed=seed)
    return {name: (float(low), float(high)) for name, (low, high) in zip(values, limits, strict=True)}


def validator(cases: Cases, max_users: int | None = None, seed: int = 0) -> Callable[[Recommender], dict[str, float]]:
    """A function for `FitOptions.validate`: recall, NDCG and MRR at 10 of a recommender on `cases`, as fast as it goes; MIND's metrics on impressions.

    Args:
        cases: Validation cases, in the codes of the data the recommender is fitted on.
        max_users: Only the cases of so many users, drawn by `seed`.
        seed: Of the draw.

    Raises:
        DataError: If there are no cases.
    """
    if not len(cases):
        raise DataError("there is nothing to validate on: the protocol left no validation case; choose another protocol")
    users = np.unique(cases.user)
    if max_users is not None and max_users < len(users):
        drawn = np.random.default_rng(seed).choice(users, max_users, replace=False)
        cases = cases.take(np.flatnonzero(np.isin(cases.user, drawn)))

    def validate(recommender: Recommender) -> dict[str, float]:
        if isinstance(cases, ImpressionCases):
            judged, _, _ = ask_impressions(recommender, cases, cases.requests, cases.shown)
            return {name: float(value.mean()) for name, value in judged.items()}
        if isinstance(recommender, Scorer):
            ranks = _missed(target_ranks(recommender, cases.requests, cases.target), recommender)
        else:
            ranks, _, _ = _asked(recommender, cases.requests, cases.target, LIST, quiet=True)
        return {name: float(value.mean()) for name, value in rank_metrics(ranks, (LIST,)).items()}

    return validate


def list_metrics(lists: Codes, requests: RequestBatch, train: Dataset) -> dict[str, float]:
    """Coverage, novelty, Gini of exposure and popularity lift of lists of ten."""
    row, place = requests.events()
    counts = train.item_counts
    return {
        f"coverage@{LIST}": coverage(lists, len(train.items)),
        f"novelty@{LIST}": novelty(lists, counts),
        f"gini@{LIST}": gini(lists, len(train.items)),
        f"popularity_lift@{LIST}": popularity_lift(lists, (row, requests.item[place]), counts),
    }


def _translated(recommender: Recommender, cases: Cases, items: Vocab) -> tuple[RequestBatch, Codes, dict[str, int]]:
    """Requests and targets in the recommender's codes, and what it does not know."""
    requests = cases.requests
    if recommender.items == items:
        return requests, cases.target, {"cases": len(cases), "unknown_targets": 0, "unknown_history_events": 0}
    codes = recommender.items.translation(items)
    target = codes[cases.target]
    _, place = requests.events()
    unknown = int((codes[requests.item[place]] == PAD).sum())
    candidates = None if requests.candidates is None else [None if one is None else _known(codes[one]) for one in requests.candidates]
    # A user's code belongs to the data set the model was fitted on, which is another one.
    asked = dataclasses.replace(requests, item=codes[requests.item], candidates=candidates, user=None)
    return asked, target, {"cases": len(cases), "unknown_targets": int((target == PAD).sum()), "unknown_history_events": unknown}


def _known(codes: Codes) -> Codes:
    known: Codes = codes[codes != PAD]
    return known


def _asked(recommender: Recommender, requests: RequestBatch, targets: Codes, k: int, quiet: bool) -> tuple[Offsets, Codes, dict[str, float]]:
    """Ranks, lists of ten in the recommender's codes, and its notes."""
    ranks, lists = [], []
    notes: Counter[str] = Counter()
    at_once = _REQUESTS_AT_ONCE if isinstance(recommender, Scorer) else _SLOW_AT_ONCE
    with progress("evaluating", len(requests), "users", quiet) as bar:
        for start in range(0, len(requests), at_once):
            block = requests[start : start + at_once]
            own = targets[start : start + at_once]
            if isinstance(recommender, Scorer):
                rank, found = ranks_and_top(recommender, block, own, LIST)
                rank = _missed(rank, recommender)
            else:
                found = recommender.recommend(block, k)
                rank = _places(found.items, own)
                for told in found.notes:
                    notes.update({name: value if isinstance(value, int | float) else 1 for name, value in told.items()})
            ranks.append(rank)
            lists.append(found.items[:, :LIST])
            bar.advance(len(block))
    return np.concatenate(ranks), np.concatenate(lists), dict(notes)


def _missed(ranks: Offsets, recommender: Recommender) -> Offsets:
    return np.where(ranks > len(recommender.items), MISS, ranks)


def _places(lists: Codes, targets: Codes) -> Offsets:
    hit = (lists == targets[:, None]) & (targets != PAD)[:, None]
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, MISS)
