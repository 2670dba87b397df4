"""Items whose codes are the same, kept apart: by a number behind the codes, or by the nearest codes that are still free.

Both place new items around those that have their ids already. Shapes: N items to place, M placed ones, L levels, Z width of the codes.
"""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from tongtu.core import Codes
from tongtu.errors import DataError
from tongtu.semantic.codebooks import Quantiser, Vectors

Groups = npt.NDArray[np.int64]
Room = npt.NDArray[np.int64]

_REMEDY = "raise levels or size, or fit the ids anew"


def numbered(quantiser: Quantiser, z_NZ: Vectors, taken: Codes, size: int | None = None) -> Codes:
    """int32[N, L + 1], the nearest codes, and the lowest numbers that no other item of the same codes has.

    Args:
        quantiser: Gives the codes.
        z_NZ: The items.
        taken: int32[M, L + 1], ids that others have.
        size: Numbers that there are; where they run out, an item goes to the next nearest code of the last level. None for as many as are needed.

    Raises:
        DataError: If there is no number left for an item at any code of its last level.
    """
    codes = quantiser.codes(z_NZ)
    both = np.concatenate([taken[:, :-1], codes])
    group = np.unique(both, axis=0, return_inverse=True)[1].ravel()
    number = _lowest_free(group[len(taken) :], group[: len(taken)], taken[:, -1])
    placed = np.concatenate([codes, number[:, None]], axis=1).astype(np.int32)
    if size is not None and (number >= size).any():
        _move_on(quantiser, z_NZ, placed, taken, size)
    return placed


def balanced(quantiser: Quantiser, z_NZ: Vectors, taken: Codes) -> Codes:
    """int32[N, L], all different: where more items want a code than there are ids below it, the others get the nearest with room.

    At the last level, where a code holds one item, the items of a group are assigned together, at the least sum of squared distances.

    Args:
        quantiser: Gives the codes.
        z_NZ: The items.
        taken: int32[M, L], ids that others have.

    Raises:
        DataError: If there are more items than ids.
    """
    sizes = quantiser.sizes
    if len(z_NZ) + len(taken) > prod(sizes):
        raise DataError(f"{len(z_NZ) + len(taken):,} items and only {prod(sizes):,} ids for them: raise levels or size")
    codes = np.zeros((len(z_NZ), len(sizes)), np.int32)
    group = np.zeros(len(taken) + len(codes), np.int64)  # by the codes before; those that are placed first
    for level, size in enumerate(sizes):
        room = min(prod(sizes[level + 1 :]), np.iinfo(np.int64).max)
        wanted = quantiser.codes_at(z_NZ, codes[:, :level])
        place = group * size + np.concatenate([taken[:, level], wanted])
        name, count = np.unique(place, return_counts=True)
        for one in np.unique(name[count > room] // size).tolist():
            rows = np.flatnonzero(group[len(taken) :] == one)
            held = np.bincount(taken[group[: len(taken)] == one, level], minlength=size)
            wanted[rows] = _assigned(quantiser.distances(z_NZ[rows], codes[rows, :level]), room - held)
        codes[:, level] = wanted
        group = np.unique(group * size + np.concatenate([taken[:, level], wanted]), return_inverse=True)[1].ravel()
    return codes


def _lowest_free(group_N: Groups, group_M: Groups, number_M: Codes) -> Groups:
    """int64[N], numbers for the new items of each group in turn, the lowest that its placed ones do not have."""
    order = np.argsort(group_N, kind="stable")
    size = np.bincount(group_N, minlength=1)
    number = np.empty(len(group_N), np.int64)
    number[order] = np.arange(len(group_N)) - np.repeat(np.cumsum(size) - size, size)
    for one in np.intersect1d(group_N, group_M).tolist():
        rows = np.flatnonzero(group_N == one)
        used = number_M[group_M == one]
        number[rows] = np.setdiff1d(np.arange(len(rows) + len(used)), used)[: len(rows)]
    return number


def _move_on(quantiser: Quantiser, z_NZ: Vectors, placed: Codes, taken: Codes, size: int) -> None:
    """Give those with a number beyond `size` another code at the last level, in place."""
    beyond = placed[:, -1] >= size
    used = {tuple(one) for one in np.concatenate([taken, placed[~beyond]]).tolist()}
    for row in np.flatnonzero(beyond).tolist():
        before = placed[row, :-2].tolist()
        nearest = np.argsort(quantiser.distances(z_NZ[row : row + 1], placed[row : row + 1, :-2])[0], kind="stable")
        free = next(((*before, code, n) for code in nearest.tolist() for n in range(size) if (*before, code, n) not in used), None)
        if free is None:
            raise DataError(f"no id is left for an item among the {size * len(nearest):,} that begin with {before}: {_REMEDY}")
        used.add(free)
        placed[row] = free


def _assigned(distance: Vectors, room: Room) -> Codes:
    """int32[n], a code for each item, none beyond its room."""
    if room.max() <= 1:
        free = np.flatnonzero(room).astype(np.int32)
        matched: Codes = free[linear_sum_assignment(distance[:, free])[1]]
        return matched
    found, room = np.zeros(len(distance), np.int32), room.copy()
    for row in np.argsort(distance.min(axis=1), kind="stable").tolist():
        code = int(np.where(room > 0, distance[row], np.inf).argmin())
        found[row] = code
        room[code] -= 1
    return found
