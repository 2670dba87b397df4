"""Sparse matrices of who met what: from a data set for the fit, from requests for the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tongtu.core import PAD, Offsets, RequestBatch, Scores
from tongtu.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from tongtu.data.dataset import Dataset


def user_item_matrix(data: Dataset) -> csr_array:
    """float32[users, items.size], 1 where a user met an item however often; row u - 1 is user code u.

    Raises:
        DataError: If the data set has no events.
    """
    from scipy.sparse import csr_array

    require_events(data)
    shape = (len(data.users), data.items.size)
    # A copy, because scipy sorts and merges the columns of a row in place, and the data set's order is sacred.
    met = csr_array((np.ones(data.n_events, np.float32), data.item.copy(), data.offset.copy()), shape=shape)
    met.sum_duplicates()
    met.data[:] = 1.0
    return met


def first_events(data: Dataset, count: int | None) -> Dataset:
    """Only each user's first `count` events, or all of them for None."""
    if count is None:
        return data
    return data.keep_events(np.arange(data.n_events) - np.repeat(data.offset[:-1], data.lengths) < count)


def history_matrix(requests: RequestBatch, size: int, decay: float = 1.0) -> csr_array:
    """float32[n, size], one row a request: the weight of each item of its history; `PAD` events are left out.

    Args:
        requests: The requests.
        size: Rows of the item table, `PAD` included.
        decay: Weight of an event against the one after it; the newest weighs 1. An item met several times counts once, as
            of its newest event.
    """
    from scipy.sparse import csr_array

    row, place = requests.events()
    item = requests.item[place]
    known = item != PAD
    row, item = row[known], item[known]
    length = np.bincount(row, minlength=len(requests))
    weight = np.ones(len(item), np.float32)
    if decay != 1.0:
        stop = np.cumsum(length)
        age = np.repeat(stop, length) - 1 - np.arange(len(item))
        weight = np.power(np.float32(decay), age.astype(np.float32))
    # Newest first, so that the first of equal (row, item) pairs is the newest event.
    pair = row[::-1] * np.int64(size) + item[::-1]
    pair, newest = np.unique(pair, return_index=True)
    row, item = np.divmod(pair, size)
    offset = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(row, minlength=len(requests)))])
    return csr_array((weight[::-1][newest], item, offset), shape=(len(requests), size))


def without_history(histories: csr_array) -> npt.NDArray[np.bool_]:
    """bool[n], the requests of which no item is known."""
    empty: npt.NDArray[np.bool_] = np.diff(histories.indptr) == 0
    return empty


def popularity_share(counts: Offsets) -> Scores:
    """float32[items.size], each item's count over the largest, just below 1: a score that orders items as popularity does."""
    share: Scores = (counts / (counts.max(initial=0) + 1)).astype(np.float32)
    return share


def require_events(data: Dataset) -> None:
    """Refuse a data set of which nothing can be learned."""
    if not data.n_events:
        raise DataError(f"{data.name} has no events to learn from: import a log with at least one event, or filter less")
