"""What is learned to be forgotten, from which parts of which histories; and what a request wants forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tongtu.core import RequestBatch
from tongtu.data.attributes import AttributeCodes, AttributeReader
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError, DataError
from tongtu.nn.batch import Sequences
from tongtu.nn.eliminators import ForgetBatch, Mode, how_many

Forgotten = npt.NDArray[np.bool_]
_LEAST = 2  # events that a history needs for a next item to learn
_WHOLE = 0.5  # share of histories that are shown up to their end, as they are asked about


@dataclass(frozen=True)
class Asked(Sequences):
    """Sequences, attribute codes int64[n, A] of each one's user, what is to be forgotten bool[n, A], and the fingerprint of the base."""

    codes: AttributeCodes = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    forget: Forgotten = field(default_factory=lambda: np.zeros((0, 0), np.bool_))
    base: str = ""

    def batch(self, rows: npt.NDArray[np.int64]) -> ForgetBatch:
        """See `Examples`."""
        found, codes = super().batch(rows), torch.from_numpy(self.codes[rows])
        return ForgetBatch(found.item, found.length, time=found.time, profile=codes, secret=codes, forget=torch.from_numpy(self.forget[rows]))

    def columns(self) -> Iterator[npt.NDArray[Any]]:
        """See `Examples`; a resumed run must find the same base."""
        yield from super().columns()
        yield from (self.codes, self.forget, np.frombuffer(self.base.encode(), np.uint8))


@dataclass(frozen=True)
class Secrets:
    """Every user's history once an epoch for each eliminator, up to a place drawn anew, with attributes drawn to be forgotten.

    Attributes:
        data: The log.
        window: Most events of a sequence.
        codes: int64[users, A].
        together: Whether all attributes are forgotten at once.
        mode: What there is an eliminator for; each epoch shows each of them as often.
        base: Fingerprint of the base.

    Raises:
        DataError: If no user has two events.
    """

    data: Dataset
    window: int
    codes: AttributeCodes
    together: bool
    mode: Mode
    base: str

    def __post_init__(self) -> None:
        if not (self.data.lengths >= _LEAST).any():
            raise DataError(f"{self.data.name}: no user has two events, so there is no next item to learn: collect more, or filter less")

    def epoch(self, seed: int, number: int) -> Asked:
        """See `DrawnAnew`."""
        draw, A = np.random.default_rng([seed, number]), self.codes.shape[1]
        users = np.flatnonzero(self.data.lengths >= _LEAST)
        if self.together:
            which = np.full(len(users), 2**A - 1)
        elif self.mode == "combinations":
            which = np.repeat(np.arange(1, 2**A), len(users))
        else:
            which = draw.integers(1, 2**A, how_many(A, self.mode) * len(users))
        users = np.tile(users, len(which) // len(users))
        whole, length = draw.random(len(users)) < _WHOLE, self.data.lengths[users]
        read = np.where(whole, length, draw.integers(_LEAST, length + 1))
        forget = (which[:, None] >> np.arange(A) & 1).astype(np.bool_)
        stop = self.data.offset[users] + read
        return Asked(self.data.item, stop, np.minimum(read, self.window), self.data.time, codes=self.codes[users], forget=forget, base=self.base)


def wanted(requests: RequestBatch, reader: AttributeReader) -> Forgotten:
    """bool[n, A], which of the reader's attributes each request wants forgotten.

    Raises:
        ConfigError: If it is one that was not learned to be forgotten: a promise that cannot be kept is not made.
    """
    names = [one.name for one in reader.fields]
    if requests.forget is None:
        return np.zeros((len(requests), len(names)), np.bool_)
    foreign = sorted(frozenset().union(*requests.forget) - set(names))
    if foreign:
        able = ", ".join(names) or "nothing"
        raise ConfigError(f"this model has not learned to forget {foreign[0]!r} (it can forget: {able}): leave it out, or fit with it among attributes")
    return np.array([[name in forgotten for name in names] for forgotten in requests.forget], np.bool_).reshape(len(requests), len(names))
