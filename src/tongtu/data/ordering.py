"""The canonical order of a log: by user, then by time or order column; ties keep the order of the original rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.core import Codes, Offsets, Times

T = TypeVar("T")

_BLOCK = 1 << 16
_SPAN = 1 << 20

Rows = npt.NDArray[Any]
"""int32, or int64 for logs of 2^31 rows and more."""


def canonical_order(user: Codes, key: Times, users: int) -> tuple[Rows, Offsets, Times]:
    """Where each event of the canonical order stands in the original rows.

    A counting sort by user, then small blocks of whole users whose (user, key, place) are packed into one integer each and
    sorted in the processor's cache. Packing the place makes ties keep their order.

    Args:
        user: int32[n], codes from 1.
        key: int64[n], time or order.
        users: The largest user code.

    Returns:
        Rows[n], int64[users + 1] offsets, and the keys in canonical order.
    """
    if not len(user):
        return np.zeros(0, np.int64), np.zeros(users + 1, np.int64), key
    lowest, highest = int(key.min()), int(key.max())
    if highest - lowest >= 1 << 62:  # differences would overflow
        distinct, rank = np.unique(key, return_inverse=True)
        rows, offset, rank = canonical_order(user, rank, users)
        return rows, offset, distinct[rank]
    rows, offset = _grouped(user, users)
    ordered = np.empty(len(key), np.int64)

    def sort(block: tuple[int, int]) -> None:
        first, last = block
        place = slice(offset[first], offset[last])
        part = key[rows[place]]
        order = _block_order(part - lowest, offset[first : last + 1])
        rows[place], ordered[place] = rows[place][order], part[order]

    _in_threads(sort, pairwise(_block_starts(offset).tolist()))
    return rows, offset, ordered


def gathered(values: Codes, rows: Rows) -> Codes:
    """`values[rows]`; places far apart in memory are fetched by several threads."""
    result = np.empty(len(rows), values.dtype)

    def take(start: int) -> None:
        result[start : start + _SPAN] = values[rows[start : start + _SPAN]]

    _in_threads(take, range(0, len(rows), _SPAN))
    return result


def repeated(user: Codes, key: Times, compared: Callable[[Rows], pl.DataFrame]) -> Rows:
    """The places, in canonical order, of events that equal an earlier one of the same user and key.

    Args:
        user, key: Of each event, in canonical order.
        compared: What must be equal besides, one row for each of the places it is given: only events that tie are looked at.
    """
    again: Rows = np.flatnonzero(key[1:] == key[:-1]) + 1
    again = again[user[again] == user[again - 1]]
    if not len(again):
        return again
    tied = np.zeros(len(user), np.bool_)
    tied[again] = tied[again - 1] = True
    places = np.flatnonzero(tied)
    opens = np.ones(len(places), np.bool_)
    opens[np.searchsorted(places, again)] = False
    among = compared(places).with_columns(pl.Series("tie group", np.cumsum(opens)))
    first = among.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    repeats: Rows = places[~first]
    return repeats


def _grouped(user: Codes, users: int) -> tuple[Rows, Offsets]:
    """Rows grouped by user: transposing a matrix of one row is a counting sort, linear and stable."""
    from scipy import sparse

    n = len(user)
    index = np.int32 if n < 2**31 else np.int64  # the narrower, the less memory moves
    one_row = sparse.csr_array((np.arange(n, dtype=index), user - index(1), np.array([0, n], index)), shape=(1, users))
    columns = one_row.tocsc()
    return columns.data, columns.indptr.astype(np.int64)


def _block_starts(offset: Offsets) -> Rows:
    """User indices at which blocks of about `_BLOCK` events start; one user is never cut."""
    marks = np.searchsorted(offset, np.arange(0, int(offset[-1]), _BLOCK), side="left")
    return np.unique(np.concatenate([marks, [len(offset) - 1]]))


def _block_order(key: Times, offset: Offsets) -> Rows:
    """The order of a block's events by user and key; `offset` bounds its users."""
    n, users = len(key), len(offset) - 1
    owner = np.repeat(np.arange(users, dtype=np.int64), np.diff(offset))
    place_bits, key_bits, owner_bits = n.bit_length(), int(key.max(initial=0)).bit_length(), users.bit_length()
    if place_bits + key_bits + owner_bits >= 64:
        return np.lexsort((key, owner))
    packed = (((owner << key_bits) | key) << place_bits) | np.arange(n)
    packed.sort()
    return packed & ((1 << place_bits) - 1)


def _in_threads(work: Callable[[T], None], parts: Iterable[T]) -> None:
    """Do independent parts of a work in threads: NumPy lets others run while it computes."""
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(work, parts):
            pass
