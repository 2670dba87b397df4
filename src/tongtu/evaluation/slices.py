"""Parts of the cases, by what is known of them, and what is measured on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.core import Offsets
from tongtu.data.dataset import Dataset
from tongtu.data.splits import Cases
from tongtu.evaluation.intervals import bootstrap
from tongtu.evaluation.metrics import Values

LIST = 10
_LENGTHS = (0, 1, 5, 10, 20, 50)
_FREQUENCIES = (0, 1, 5, 20, 100)
_PLACES = (0, 1, 5, 10, 15, 20)
_MOST_VALUES = 20
Slices = dict[str, dict[str, dict[str, Any]]]


def slice_metrics(values: Mapping[str, Values], cases: Cases, train: Dataset, seed: int = 0) -> Slices:
    """Means of recall, NDCG and MRR at 10 (of MIND's metrics on impressions), taken from `values` (float64[cases] by name), over parts of the cases.

    "history length" parts by the number of events of the history; "target popularity" by the target's training events:
    "head", "middle" and "tail" are the most popular items that took a third of all training events, those of the next
    third, and the rest; "new" items have none; "target's training events" by their number itself; where candidates are given, "target's place"
    by its index in their list (each alone where there are no more than six), "absent" if it is not there. Each user attribute with at most
    20 values parts by its value.
    """
    names_of = [name for name in values if name.endswith(f"@{LIST}") or "@" not in name]
    ndcg = names_of.index(f"ndcg@{LIST}")
    table = np.stack([values[name] for name in names_of], axis=1)
    slices: Slices = {}
    for way, (names, part) in partitions(cases, train).items():
        slices[way] = {}
        for number, name in enumerate(names):
            rows = np.flatnonzero(part == number)
            if not len(rows):
                continue
            low, high = bootstrap(table[rows][:, [ndcg]], cases.user[rows], seed=seed)[0]
            means = {metric: float(mean) for metric, mean in zip(names_of, table[rows].mean(axis=0), strict=True)}
            slices[way][name] = {"cases": len(rows), **means, "interval": {f"ndcg@{LIST}": [float(low), float(high)]}}
    return slices


def partitions(cases: Cases, train: Dataset) -> Mapping[str, tuple[list[str], npt.NDArray[np.int64]]]:
    """The ways of parting cases: names of the parts, and int64[cases] which part each case is in."""
    ways = {
        "history length": _bands(_LENGTHS, cases.requests.lengths),
        "target popularity": (["head", "middle", "tail", "new"], _popularity_part(train.item_counts)[cases.target]),
        "target's training events": _bands(_FREQUENCIES, train.item_counts[cases.target]),
    }
    if cases.requests.candidates is not None:
        ways["target's place"] = _by_place(cases)
    for column in train.user_attributes.iter_columns():
        text = column.cast(pl.String)
        names = sorted(text.drop_nulls().unique().to_list())
        if 2 <= len(names) <= _MOST_VALUES:
            part = text.replace_strict(names, range(len(names)), default=len(names), return_dtype=pl.Int64).fill_null(len(names)).to_numpy()
            ways[column.name] = ([*names, "unknown"], part[cases.user - 1])
    return ways


def _bands(bounds: Sequence[int], values: Offsets) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Names of the bands that start at `bounds`, the first of which holds its bound alone, and the band of each value."""
    ends = [*(f"{low}-{high - 1}" for low, high in pairwise(bounds[1:])), f"{bounds[-1]}+"]
    return [str(bounds[0]), *ends], np.searchsorted(bounds, values, side="right") - 1


def _by_place(cases: Cases) -> tuple[list[str], npt.NDArray[np.int64]]:
    """By the index of each target in its list: each alone where there are few, as a protocol's `places` have it, else in bands."""
    lists = cases.requests.candidates or ()
    found = [np.flatnonzero(codes == target) if codes is not None else np.zeros(0, np.int64) for codes, target in zip(lists, cases.target, strict=True)]
    place = np.array([one[0] if len(one) else -1 for one in found], np.int64)
    known = np.unique(place[place >= 0])
    few = len(known) <= len(_PLACES)
    names, part = ([str(one) for one in known], np.searchsorted(known, place)) if few else _bands(_PLACES, place)
    return [*names, "absent"], np.where(place < 0, len(names), part)


def _popularity_part(counts: Offsets) -> Offsets:
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    part = np.empty(len(counts), np.int64)
    part[order] = np.minimum(3 * before // max(int(counts.sum()), 1), 2)
    return np.where(counts == 0, 3, part)
