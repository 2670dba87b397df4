"""The data set every system learns from: one log in canonical order, its catalogue and its users."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.core import Codes, Offsets, RequestBatch, Times
from tongtu.vocab import Vocab


@dataclass(frozen=True, eq=False)
class Impressions:
    """What was shown and what was clicked; several positives are possible. Row i showed `item[offset[i]:offset[i + 1]]`.

    Attributes:
        user: int32[n], user codes.
        seen: int64[n], how many of the user's events (from the oldest) came before the impression.
        time: int64[n] seconds since 1970, or None.
        item: int32, item codes shown; clicked: bool, beside it.
        offset: int64[n + 1].
    """

    user: Codes
    seen: Offsets
    time: Times | None
    item: Codes
    clicked: npt.NDArray[np.bool_]
    offset: Offsets


@dataclass(frozen=True, eq=False)
class Dataset:
    """A log grouped by user, each user's events oldest first.

    The canonical order is the order column where the import named one, else the time; ties keep the order of the original rows.
    User code u (from 1) owns the events `offset[u - 1]:offset[u]`; item code i (from 1) owns row i - 1 of `item_text` and `item_fields`.

    Attributes:
        name: What to call it in reports.
        users, items: External ids. Splits and filters of events keep both, so codes agree between parts of one data set.
        item: int32[events], item codes.
        offset: int64[users + 1].
        time: int64[events] seconds since 1970, or None where the log knows only an order.
        event_fields: One row an event: rating, review, quantity, ...; no column where there is nothing.
        item_text: One text an item, "" where it has none.
        item_fields: One row an item.
        user_attributes: One row a user.
        domain: int32[items], an index into `domains` for each item, or None for a single domain.
        domains: Names of the domains.
        impressions: What was shown, where that is known.
        source: How it was made: file names, filters, counts of dropped rows.
    """

    name: str
    users: Vocab
    items: Vocab
    item: Codes
    offset: Offsets
    time: Times | None = None
    event_fields: pl.DataFrame = field(default_factory=pl.DataFrame)
    item_text: pl.Series = field(default_factory=lambda: pl.Series("text", [], dtype=pl.String))
    item_fields: pl.DataFrame = field(default_factory=pl.DataFrame)
    user_attributes: pl.DataFrame = field(default_factory=pl.DataFrame)
    domain: Codes | None = None
    domains: tuple[str, ...] = ()
    impressions: Impressions | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(self.offset) == len(self.users) + 1 and self.offset[-1] == len(self.item)
        assert self.time is None or len(self.time) == len(self.item)
        assert not self.event_fields.width or self.event_fields.height == len(self.item)
        if not len(self.item_text):
            object.__setattr__(self, "item_text", pl.Series("text", [""] * len(self.items), dtype=pl.String))
        assert len(self.item_text) == len(self.items)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}: {len(self.users):,} users, {len(self.items):,} items, {self.n_events:,} events)"

    @property
    def n_events(self) -> int:
        """The number of events."""
        return len(self.item)

    @property
    def lengths(self) -> Offsets:
        """int64[users], the number of events of each user."""
        return np.diff(self.offset)

    @cached_property
    def event_user(self) -> Codes:
        """int32[events], the user code of each event."""
        return np.repeat(np.arange(1, len(self.users) + 1, dtype=np.int32), self.lengths)

    @cached_property
    def item_counts(self) -> Offsets:
        """int64[items.size], how often each item code occurs; `PAD` has 0."""
        return np.bincount(self.item, minlength=self.items.size)

    @property
    def ratings(self) -> npt.NDArray[np.float32] | None:
        """float32[events] of the event field "rating", or None."""
        if "rating" not in self.event_fields.columns:
            return None
        return self.event_fields["rating"].cast(pl.Float32).to_numpy()

    def history(self, user: int) -> Codes:
        """The item codes of user code `user`, oldest first."""
        return self.item[self.offset[user - 1] : self.offset[user]]

    def attributes(self, users: Codes) -> AttributeRows:
        """What is known of each user in `users`, as a sequence of mappings read only when asked for."""
        return AttributeRows(self.user_attributes, np.asarray(users, np.int64))

    def requests(self, users: Codes, stop: Offsets | None = None, exclude_seen: bool = True, now: Times | None = None) -> RequestBatch:
        """Requests of known users.

        Args:
            users: User codes, int[n].
            stop: int64[n], the event (a place in `item`) before which each history ends; None takes all events.
            exclude_seen: Whether answers leave out items of the history.
            now: int64[n], the time of asking, or None.
        """
        rows = np.asarray(users, np.int64)
        return RequestBatch(
            item=self.item,
            start=self.offset[rows - 1],
            stop=self.offset[rows] if stop is None else stop,
            exclude_seen=np.full(len(rows), exclude_seen),
            time=self.time,
            rating=self.ratings,
            now=now,
            user=rows,
            attributes=self.attributes(users) if self.user_attributes.width else None,
        )

    def keep_events(self, keep: npt.NDArray[np.bool_], **changes: Any) -> Self:
        """The same users and items with only the events where `keep` is true.

        Impressions are dropped unless `changes` gives new ones: their positions would no longer fit.
        """
        kept = np.concatenate([np.zeros(1, np.int64), np.cumsum(keep, dtype=np.int64)])
        parts: dict[str, Any] = {
            "item": self.item[keep],
            "offset": kept[self.offset],
            "time": None if self.time is None else self.time[keep],
            "event_fields": self.event_fields.filter(pl.Series(keep)) if self.event_fields.width else self.event_fields,
            "impressions": None,
        }
        return dataclasses.replace(self, **(parts | changes))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over ids, events, times and impressions: the same log gives the same value on any machine."""
        digest = hashlib.sha256()
        for ids in (self.users.ids, self.items.ids):
            digest.update("\0".join(ids.to_list()).encode())
            digest.update(b"\1")
        for column in (self.item, self.offset, self.time):
            digest.update(b"none" if column is None else np.ascontiguousarray(column).tobytes())
        if (shown := self.impressions) is not None:
            for part in (shown.user, shown.seen, shown.item, shown.clicked, shown.offset):
                digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


class AttributeRows(Sequence[Mapping[str, str]]):
    """Rows of a user table as mappings of text, made only when one is asked for; unknown users and missing values give nothing."""

    def __init__(self, frame: pl.DataFrame, users: npt.NDArray[np.int64]) -> None:
        self._frame, self._users = frame, users

    def __len__(self) -> int:
        return len(self._users)

    def __iter__(self) -> Iterator[Mapping[str, str]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return AttributeRows(self._frame, self._users[index])
        user = int(self._users[index])
        if user == 0 or not self._frame.width:
            return {}
        return {key: str(value) for key, value in self._frame.row(user - 1, named=True).items() if value is not None}

    def column(self, name: str) -> pl.Series:
        """One attribute of all rows, null where it is not known."""
        if name not in self._frame.columns:
            return pl.Series(name, [None] * len(self), dtype=pl.String)
        column = self._frame[name]
        return pl.concat([column.clear(1), column]).gather(self._users)

    def take(self, rows: npt.NDArray[np.int64]) -> AttributeRows:
        """The mappings at `rows`."""
        return AttributeRows(self._frame, self._users[rows])
