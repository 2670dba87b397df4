"""Which sequences train together, and in which order."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from tongtu.core import Offsets
from tongtu.data.dataset import Dataset
from tongtu.errors import DataError
from tongtu.nn.batch import Sequences

Rows = npt.NDArray[np.int64]


def token_batches(length: Offsets, tokens: int, seed: int, epoch: int) -> list[Rows]:
    """Batches of at most `tokens` events, padding included, in an order that depends only on seed and epoch.

    Sequences are sorted by length, at random among equals, cut into batches, and the batches shuffled: hardly any padding.
    A sequence longer than `tokens` is a batch of its own.
    """
    draw = np.random.default_rng([seed, epoch])
    order = np.argsort(-(length + draw.random(len(length))), kind="stable")
    sorted_length, batches, first = length[order], [], 0
    while first < len(order):
        rows = max(1, tokens // max(int(sorted_length[first]), 1))
        batches.append(order[first : first + rows])
        first += rows
    draw.shuffle(batches)
    return batches


def training_sequences(data: Dataset, window: int, windows: Literal["last", "all"] = "last") -> Sequences:
    """The sequences of a data set, each of at least two events.

    Args:
        data: The data set.
        window: Most events in a sequence.
        windows: "last" takes each user's newest events; "all" cuts the whole history into windows that share one event at
            their borders, so that each event but the first is learned once.

    Raises:
        DataError: If no user has two events.
    """
    length = data.lengths
    if not (length >= 2).any():
        raise DataError(f"{data.name}: no user has two events, so there is no next item to learn: collect more, or filter less")
    if windows == "last":
        chosen = np.flatnonzero(length >= 2)
        return Sequences(data.item, data.offset[chosen + 1], np.minimum(length[chosen], window), data.time, chosen + 1)
    step = max(window - 1, 1)
    pieces = np.maximum(-(-(length - 1) // step), 0)
    user = np.repeat(np.arange(len(length)), pieces)
    number = np.arange(len(user)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    left = length[user] - number * step
    return Sequences(data.item, data.offset[user] + left, np.minimum(left, window), data.time, user + 1)


def training_prefixes(data: Dataset, window: int) -> Sequences:
    """Each event but a user's first as the end of a sequence of its own, with the events before it, `window` at most.

    For networks that can learn nothing but a sequence's last event; others learn all of them from `training_sequences` at once.

    Raises:
        DataError: If no user has two events.
    """
    length = data.lengths
    place = np.arange(data.n_events) - np.repeat(data.offset[:-1], length)
    later = np.flatnonzero(place)
    if not len(later):
        raise DataError(f"{data.name}: no user has two events, so there is no next item to learn: collect more, or filter less")
    return Sequences(data.item, later + 1, np.minimum(place[later] + 1, window), data.time, data.event_user[later].astype(np.int64))
