"""Ids of a stream turned into dense codes, batch by batch.

A hash table in three arrays, probed for a whole batch at once: four times faster than a dictionary or a categorical column. Every
answer is compared with the id itself, so two ids that share a hash are never taken for one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.core import Codes

Hashes = npt.NDArray[np.uint64]

_MISSING = np.uint64(0)
_SPARE = 4


class Interner:
    """Numbers text ids from 1 in some order; a missing id is `PAD`.

    Args:
        hash_ids: (ids, seed) -> hashes.
    """

    def __init__(self, hash_ids: Callable[[pl.Series, int], pl.Series] | None = None) -> None:
        self._hash_ids = hash_ids or (lambda ids, seed: ids.hash(seed))
        self._seed = 0
        self._ids = pl.Series("id", [], dtype=pl.String)
        self._rebuild()

    def codes(self, ids: pl.Series) -> Codes:
        """int32[n], the provisional codes of text ids."""
        while True:
            codes = self._guess(ids)
            if not len(self._ids) or (ids == self._ids.gather(codes - 1)).all():
                return codes
            self._seed += 1
            self._rebuild()

    def finish(self, used: npt.NDArray[np.bool_]) -> tuple[pl.Series, Codes]:
        """The ids in use, sorted, and int32 of every provisional code's place among them from 1 (`PAD` for the others).

        Sorted ids make the codes independent of the order of rows and of batches.

        Args:
            used: bool[at most ids + 1], which provisional codes to keep; `PAD` is never kept.
        """
        wanted = np.flatnonzero(used[1:])
        kept = self._ids.gather(wanted)
        order = kept.arg_sort().to_numpy()
        final = np.zeros(len(self._ids) + 1, np.int32)
        final[wanted[order] + 1] = np.arange(1, len(order) + 1, dtype=np.int32)
        return kept.gather(order), final

    def _guess(self, ids: pl.Series) -> Codes:
        """Codes by hash alone; ids met for the first time are added."""
        hashes = self._hashes(ids)
        codes = self._find(hashes)
        new = np.flatnonzero((codes == 0) & (hashes != _MISSING))
        if len(new):
            fresh, first, place = np.unique(hashes[new], return_index=True, return_inverse=True)
            start = len(self._ids) + 1
            self._ids = pl.concat([self._ids, ids.gather(new[first]).rename("id")], rechunk=True)
            if _SPARE * len(self._ids) > len(self._key):
                self._rebuild()
            else:
                self._insert(fresh, np.arange(start, len(self._ids) + 1, dtype=np.int32))
            codes[new] = (place + start).astype(np.int32)
        return codes

    def _hashes(self, ids: pl.Series) -> Hashes:
        hashes: Hashes = self._hash_ids(ids, self._seed).to_numpy() | np.uint64(1)  # so that no id has the hash of a missing one
        if ids.null_count():
            hashes[ids.is_null().to_numpy()] = _MISSING
        return hashes

    def _rebuild(self) -> None:
        bits = max(16, (2 * _SPARE * len(self._ids)).bit_length())
        self._shift = np.uint64(64 - bits)
        self._key = np.zeros(1 << bits, np.uint64)
        self._code = np.zeros(1 << bits, np.int32)
        self._insert(self._hashes(self._ids), np.arange(1, len(self._ids) + 1, dtype=np.int32))

    def _find(self, hashes: Hashes) -> Codes:
        """Linear probing for all hashes at once; 0 where a hash is not in the table (an empty place has key 0 and code 0)."""
        place = (hashes >> self._shift).astype(np.int64)
        codes = self._code[place]
        wrong = np.flatnonzero(self._key[place] != hashes)
        place = place[wrong]
        while len(wrong):
            key = self._key[place]
            done = (key == hashes[wrong]) | (key == _MISSING)
            codes[wrong[done]] = self._code[place[done]] * (key[done] != _MISSING)
            wrong, place = wrong[~done], (place[~done] + 1) & (len(self._key) - 1)
        return codes

    def _insert(self, hashes: Hashes, codes: Codes) -> None:
        """Put distinct hashes into the table; of those that want one empty place the last gets it, the others probe on."""
        place = (hashes >> self._shift).astype(np.int64)
        while len(hashes):
            free = self._key[place] == _MISSING
            self._key[place[free]] = hashes[free]
            won = self._key[place] == hashes
            self._code[place[won]] = codes[won]
            hashes, codes, place = hashes[~won], codes[~won], (place[~won] + 1) & (len(self._key) - 1)
