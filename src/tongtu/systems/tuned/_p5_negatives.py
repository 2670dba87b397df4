"""Items beside a true one that its user never met."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tongtu.data.dataset import Dataset

Rows = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]

_TRIES = 20


class Unmet:
    """Draws items at random that users did not meet in a log."""

    def __init__(self, data: Dataset) -> None:
        self._size = data.items.size
        self._met = np.unique(data.event_user.astype(np.int64) * self._size + data.item)

    def beside(self, rng: np.random.Generator, user: Rows, item: Rows, width: int) -> tuple[Rows, Marks]:
        """Item codes int64[n, width], `item` first and then different ones that `user` did not meet; and bool[n], for which rows there are so many."""
        if self._size - 1 < width:
            width = max(self._size - 1, 1)
        shown = rng.integers(1, self._size, (len(item), width))
        shown[:, 0] = item
        wrong = self._unfit(user, shown)
        for _ in range(_TRIES):
            rows = np.flatnonzero(wrong.any(axis=1))
            if not len(rows):
                break
            shown[wrong] = rng.integers(1, self._size, int(wrong.sum()))
            wrong[rows] = self._unfit(user[rows], shown[rows])
        lacking = np.zeros(len(item), np.bool_) if width > 1 else np.ones(len(item), np.bool_)
        lacking[np.nonzero(wrong)[0]] = True
        return shown, np.logical_not(lacking)

    def _unfit(self, user: Rows, shown: Rows) -> Marks:
        """bool[n, width], which codes the row's user met, or stand further left already; the first never."""
        key = user[:, None] * self._size + shown
        met: Marks = self._met[np.minimum(np.searchsorted(self._met, key), len(self._met) - 1)] == key
        met[:, 0] = False
        return np.logical_or(met, _repeats(shown))


def _repeats(codes: Rows) -> Marks:
    """bool[n, width], which codes stand further left in their row already."""
    order = np.argsort(codes, axis=1, kind="stable")
    ordered = np.take_along_axis(codes, order, 1)
    again = np.zeros(codes.shape, np.bool_)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    found = np.zeros(codes.shape, np.bool_)
    np.put_along_axis(found, order, again, 1)
    return found
