"""The clicks of a data set as examples: from its impressions, or from sampled ones."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from tongtu.core import Codes, Offsets
from tongtu.data.dataset import Dataset
from tongtu.data.impressions import Draw, sampled_impressions
from tongtu.errors import DataError
from tongtu.nn.clicks import Clicks


class ClickSettings(Protocol):
    """What decides which clicks are learned from; see `PLMNRConfig`."""

    @property
    def max_length(self) -> int: ...
    @property
    def negatives(self) -> int: ...
    @property
    def draw(self) -> Draw: ...
    @property
    def passed_over(self) -> int: ...
    @property
    def newest(self) -> int | None: ...


def training_clicks(data: Dataset, config: ClickSettings, seed: int) -> tuple[Clicks, str]:
    """The clicks to learn from, each with a history and something passed over, and in words where the impressions come from.

    Raises:
        DataError: If there is none.
    """
    shown, told = data.impressions, "given by the data"
    if shown is None:
        shown = sampled_impressions(data, config.passed_over, config.draw, config.newest, seed)
        told = f"sampled impressions: {config.passed_over} items beside each click, {config.draw}"
    row = np.repeat(np.arange(len(shown.user)), np.diff(shown.offset))
    place = np.flatnonzero(shown.clicked)
    others = np.concatenate([np.zeros(1, np.int64), np.cumsum(~shown.clicked)])[shown.offset]
    where = row[place]
    usable = (shown.seen[where] > 0) & (others[where + 1] > others[where])
    place, where = place[usable], where[usable]
    if config.newest is not None:
        kept = _newest(shown.user[where], shown.seen[where], config.newest)
        place, where = place[kept], where[kept]
    if not len(place):
        raise DataError(f"{data.name}: no click has both a history and something that was passed over: collect more, or filter less")
    user = shown.user[where]
    return (
        Clicks(
            item=data.item,
            stop=data.offset[user.astype(np.int64) - 1] + shown.seen[where],
            seen=np.minimum(shown.seen[where], config.max_length),
            user=user,
            clicked=shown.item[place],
            shown=shown.item[~shown.clicked],
            first=others[where],
            last=others[where + 1],
            asked=1 + config.negatives,
        ),
        told,
    )


def _newest(user: Codes, seen: Offsets, each: int) -> npt.NDArray[np.bool_]:
    """Which clicks are among the last `each` of their user."""
    order = np.lexsort((np.arange(len(user)), seen, user))
    count = np.bincount(user)
    left = np.cumsum(count)[user[order]] - np.arange(len(user))
    newest = np.zeros(len(user), np.bool_)
    newest[order] = left <= each
    return newest
