"""Padded batches of item sequences.

Shapes: B sequences, T positions. Sequences start at position 0 and are padded behind their end, so a causal model needs no
mask at all: a real position never sees padding. Models must not number positions from the left, since then a long history
would be scored at a position that short training sequences never reach; `Batch.age` counts from the newest event backwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tongtu.core import PAD, Codes, Offsets, RequestBatch, Times


@dataclass(frozen=True)
class Batch:
    """Item sequences, and while training what is to be learned from them.

    Attributes:
        item: int64[B, T], item codes, `PAD` behind the end.
        length: int64[B], real positions.
        target: int64[B, T], the item to learn at each position, `PAD` where there is none; None outside training.
        time: int64[B, T], seconds, or None where times are unknown.
        next_time: int64[B, T], the time for which each position predicts, or None.
        user: int64[B], the code of the user whose sequence each row is, or None where that is not known (0 in single rows); only `CodeNet` reads it.
    """

    item: Tensor
    length: Tensor
    target: Tensor | None = None
    time: Tensor | None = None
    next_time: Tensor | None = None
    user: Tensor | None = None

    @property
    def valid(self) -> Tensor:
        """bool[B, T], true at real positions."""
        return torch.arange(self.item.shape[1], device=self.item.device) < self.length[:, None]

    @property
    def age(self) -> Tensor:
        """int64[B, T], 0 at the newest event, 1 before it, ...; 0 at padding."""
        return (self.length[:, None] - 1 - torch.arange(self.item.shape[1], device=self.item.device)).clamp_min(0)

    def to(self, device: torch.device) -> Self:
        """The batch on `device`."""
        return self._each(lambda x: x.to(device, non_blocking=True))

    def rows(self, part: slice) -> Self:
        """Some of the sequences."""
        return self._each(lambda x: x[part])

    def _each(self, change: object) -> Self:
        parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return dataclasses.replace(self, **{name: change(x) for name, x in parts.items() if x is not None})  # type: ignore[operator]


def pad(values: npt.NDArray[np.generic], stop: Offsets, length: Offsets) -> Tensor:
    """Gather `values[stop[i] - length[i]:stop[i]]` into int64[B, max(length)], zeros behind the end."""
    width = max(int(length.max(initial=0)), 1)
    column = np.arange(width)
    inside = column < length[:, None]
    place = np.where(inside, (stop - length)[:, None] + column, 0)
    if not len(values):
        return torch.zeros(place.shape, dtype=torch.int64)
    return torch.from_numpy(np.where(inside, values[place], 0).astype(np.int64, copy=False))


def request_batch(requests: RequestBatch, last: int) -> Batch:
    """The newest `last` known events of each history as a batch; items the model does not know (`PAD`) are left out."""
    item, stop, length, time = requests.item, requests.stop, requests.lengths, requests.time
    row, place = requests.events()
    if bool((item[place] == PAD).any()):
        known = item[place] != PAD
        row, place = row[known], place[known]
        length = np.bincount(row, minlength=len(requests))
        item, time, stop = item[place], None if time is None else time[place], np.cumsum(length)
    length = np.minimum(length, last)
    codes, times = pad(item, stop, length), None
    next_time = None
    if time is not None:
        times = pad(time, stop, length)
        next_time = _next_times(times, torch.from_numpy(length), requests.now)
    return Batch(codes, torch.from_numpy(length), time=times, next_time=next_time)


def _next_times(time: Tensor, length: Tensor, now: Times | None) -> Tensor:
    """Each position predicts for the next event's time; the last one for the time of asking, or its own where that is unknown."""
    following = torch.cat([time[:, 1:], time[:, -1:]], 1)
    newest = (length - 1).clamp_min(0)[:, None]
    asked = time.gather(1, newest) if now is None else torch.from_numpy(now)[:, None]
    asked = torch.where(asked < 0, time.gather(1, newest), asked)
    return following.scatter(1, newest, asked)


class Examples(Protocol):
    """What a network is trained on, example by example."""

    @property
    def length(self) -> Offsets:
        """int64[n], the events or tokens of each example, by which batches are cut."""
        ...

    def batch(self, rows: npt.NDArray[np.int64]) -> Batch:
        """Whole examples, before an objective marks what is to be learned."""
        ...

    def columns(self) -> Iterator[npt.NDArray[Any]]:
        """Everything the examples are made of; a resumed run must find the same."""
        ...


class DrawnAnew(Protocol):
    """Examples of which each epoch has its own."""

    def epoch(self, seed: int, number: int) -> Examples:
        """The examples of one epoch, counted from 0: the same for the same seed and number."""
        ...


@dataclass(frozen=True)
class Sequences:
    """`Examples` that are sequences, in columns: sequence i is `item[stop[i] - length[i]:stop[i]]`, which may be mapped from disk.

    Its user has the code `user[i]`, where that is known.
    """

    item: Codes
    stop: Offsets
    length: Offsets
    time: Times | None = None
    user: Offsets | None = None

    def __len__(self) -> int:
        return len(self.stop)

    def batch(self, rows: npt.NDArray[np.int64]) -> Batch:
        """See `Examples`."""
        stop, length = self.stop[rows], self.length[rows]
        time = None if self.time is None else pad(self.time, stop, length)
        user = None if self.user is None else torch.from_numpy(self.user[rows])
        return Batch(pad(self.item, stop, length), torch.from_numpy(length), time=time, user=user)

    def columns(self) -> Iterator[npt.NDArray[Any]]:
        """See `Examples`."""
        yield from (self.item, self.stop, self.length)
