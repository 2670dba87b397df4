"""What of a catalogue's categories the lists show: how different a list's items are, and how much of a user's interests it touches.

Both stand beside accuracy where items have categories and somebody names the field: Li et al., "GPT4Rec" (2023) judge queries by them. Brands will do
as well as categories: any item field that `tongtu.data.wishes.item_categories` can read.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from tongtu.core import PAD, Codes, Offsets
from tongtu.data.splits import Cases
from tongtu.data.wishes import Categories
from tongtu.evaluation.metrics import Values

CUTOFFS = (5, 10)


def category_metrics(lists: Codes, cases: Cases, categories: Categories, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, Values]:
    """"category_diversity@k" and "category_coverage@k" of each case, float64[cases] by name.

    Args:
        lists: int32[cases, 10], what was recommended.
        cases: Who was asked; a user's interests are the categories of the history and of the target.
        categories: Of the items.
        cutoffs: Places of a list that are looked at.
    """
    member = _members(categories)
    row, place = cases.requests.events()
    everyone = np.arange(len(cases))
    interests = _shown(np.concatenate([row, everyone]), np.concatenate([cases.requests.item[place], cases.target]), member, len(cases))
    found = {}
    for k in cutoffs:
        shown = lists[:, :k]
        found[f"category_diversity@{k}"] = diversity(shown, member)
        listed = _shown(np.repeat(everyone, shown.shape[1]), shown.ravel(), member, len(cases))
        wanted = _sum(interests)
        found[f"category_coverage@{k}"] = np.where(wanted > 0, _sum(listed.multiply(interests)) / np.maximum(wanted, 1), 0.0)
    return found


def diversity(lists: Codes, member: csr_array) -> Values:
    """Mean distance float64[n] of two items of a list: 1 less the share of their categories that both have (Jaccard).

    Items without a category, and empty places, are left out; a list in which no two items are left has 0.

    Args:
        lists: int32[n, k], item codes.
        member: float64[items.size, categories], 1 where an item has a category.
    """
    size = np.diff(member.indptr)
    total, pairs = np.zeros(len(lists)), np.zeros(len(lists), np.int64)
    for one, other in combinations(range(lists.shape[1]), 2):
        a, b = lists[:, one], lists[:, other]
        both = (size[a] > 0) & (size[b] > 0)
        common = _sum(member[a].multiply(member[b]))
        total += np.where(both, 1 - common / np.maximum(size[a] + size[b] - common, 1), 0.0)
        pairs += both
    return total / np.maximum(pairs, 1)


def _members(categories: Categories) -> csr_array:
    """float64[items.size, categories]."""
    offset: Offsets = np.concatenate([np.zeros(1, np.int64), categories.offset])
    shape = (len(categories.offset), len(categories.names))
    made = csr_array((np.ones(len(categories.category)), categories.category.astype(np.int64), offset), shape=shape)
    made.sort_indices()
    return made


def _shown(row: Offsets, item: Codes, member: csr_array, n: int) -> csr_array:
    """float64[n, categories], 1 where an item of the row has the category."""
    known = item != PAD
    pairs = csr_array((np.ones(int(known.sum())), (row[known], item[known].astype(np.int64))), shape=(n, member.shape[0]))
    made = csr_array(pairs @ member)
    made.data[:] = 1.0
    return made


def _sum(matrix: Any) -> Values:
    """float64[n], the sum of each row."""
    return np.asarray(matrix.sum(axis=1), np.float64).ravel()
