"""Filters: a smaller data set out of a larger one, with codes made dense again and the reason written into its source.

Items that no event is left of go, but for those that had none before in a catalogue that was imported with `--all-items`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.core import Codes
from tongtu.data.dataset import Dataset, Impressions
from tongtu.errors import DataError
from tongtu.vocab import Vocab

Mask = npt.NDArray[np.bool_]


def k_core(data: Dataset, users: int = 5, items: int = 5) -> Dataset:
    """The largest part in which every user has at least `users` events and every item at least `items`.

    Removing an item can take a user below the bound and the other way round, so both are removed until nothing changes.

    Raises:
        DataError: If nothing is left.
    """
    keep = np.ones(data.n_events, np.bool_)
    owner = data.event_user
    while True:
        user_count = np.bincount(owner[keep], minlength=data.users.size)
        item_count = np.bincount(data.item[keep], minlength=data.items.size)
        stays = keep & (user_count[owner] >= users) & (item_count[data.item] >= items)
        if stays.sum() == keep.sum():
            break
        keep = stays
    return _filtered(data, keep, f"k_core(users={users}, items={items})", "lower the bounds")


def time_window(data: Dataset, since: int | None = None, until: int | None = None) -> Dataset:
    """Events from second `since` on and before second `until`.

    Raises:
        DataError: If the data has no times, or nothing is left.
    """
    if data.time is None:
        raise DataError(f"{data.name} has no times, so no window can be cut: import it with --time")
    keep = np.ones(data.n_events, np.bool_)
    if since is not None:
        keep &= data.time >= since
    if until is not None:
        keep &= data.time < until
    span = f"{int(data.time.min())} to {int(data.time.max())}"
    return _filtered(data, keep, f"time_window(since={since}, until={until})", f"its times run from {span}")


def min_rating(data: Dataset, rating: float) -> Dataset:
    """Events rated `rating` or more; events without a rating are left out.

    Raises:
        DataError: If the data has no ratings, or nothing is left.
    """
    ratings = data.ratings
    if ratings is None:
        raise DataError(f"{data.name} has no ratings: import it with --rating")
    return _filtered(data, ratings >= rating, f"min_rating({rating})", f"its ratings run from {np.nanmin(ratings)} to {np.nanmax(ratings)}")


def compact(data: Dataset, spared: Mask | None = None) -> Dataset:
    """The same events with only the users and items that occur in them (or in impressions), in the same order.

    Impressions of users without events are dropped.

    Args:
        data: The data.
        spared: bool[V], items that stay though they do not occur.
    """
    items_used = (data.item_counts > 0) if spared is None else (data.item_counts > 0) | spared
    if data.impressions is not None:
        items_used[data.impressions.item] = True
    users_used = np.concatenate([np.zeros(1, np.bool_), data.lengths > 0])
    users_used[0] = items_used[0] = False
    item_rows, user_rows = np.flatnonzero(items_used) - 1, np.flatnonzero(users_used) - 1
    item_code, user_code = _codes(items_used), _codes(users_used)
    return dataclasses.replace(
        data,
        users=Vocab(data.users.ids.gather(user_rows)),
        items=Vocab(data.items.ids.gather(item_rows)),
        item=item_code[data.item],
        offset=np.concatenate([np.zeros(1, np.int64), np.cumsum(data.lengths[user_rows])]),
        item_text=data.item_text.gather(item_rows),
        item_fields=_rows(data.item_fields, item_rows),
        user_attributes=_rows(data.user_attributes, user_rows),
        domain=None if data.domain is None else data.domain[item_rows],
        impressions=None if data.impressions is None else _impressions(data.impressions, user_code, item_code),
    )


def _filtered(data: Dataset, keep: Mask, what: str, remedy: str) -> Dataset:
    if not keep.any():
        raise DataError(f"{data.name}: nothing is left after {what}: {remedy}")
    steps = [*data.source.get("filters", []), {"filter": what, "events before": data.n_events, "events after": int(keep.sum())}]
    return compact(data.keep_events(keep, source={**data.source, "filters": steps}), _never_met(data))


def _never_met(data: Dataset) -> Mask:
    """bool[V], items without any event of catalogues that were imported whole: they pass every filter, rarity in the log is another thing."""
    domains: Mapping[str, Any] = data.source.get("domains") or {}
    whole = np.array([_whole(domains.get(name) or {}) for name in data.domains], np.bool_)
    asked = np.full(len(data.items), _whole(data.source)) if data.domain is None else whole[data.domain]
    return np.concatenate([np.zeros(1, np.bool_), asked & (data.item_counts[1:] == 0)])


def _whole(source: Mapping[str, Any]) -> bool:
    """Whether a catalogue was imported with `--all-items`."""
    return bool((source.get("items") or {}).get("all"))


def _codes(used: Mask) -> Codes:
    """int32: the new code of every old one, 0 where it is not used."""
    return (np.cumsum(used) * used).astype(np.int32)


def _rows(frame: pl.DataFrame, rows: npt.NDArray[np.int64]) -> pl.DataFrame:
    return frame[rows] if frame.width else frame


def _impressions(shown: Impressions, user_code: Codes, item_code: Codes) -> Impressions:
    known = user_code[shown.user] > 0
    lengths = np.diff(shown.offset)
    inside = np.repeat(known, lengths)
    changes: dict[str, Any] = {"time": None if shown.time is None else shown.time[known]}
    return Impressions(
        user=user_code[shown.user[known]],
        seen=shown.seen[known],
        item=item_code[shown.item[inside]],
        clicked=shown.clicked[inside],
        offset=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[known])]),
        **changes,
    )
