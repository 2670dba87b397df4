"""Several data sets as one: items of each domain stay apart, users with the same id become one user."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.data.dataset import Dataset
from tongtu.data.ordering import canonical_order
from tongtu.errors import DataError
from tongtu.vocab import Vocab


def combine(parts: Mapping[str, Dataset], name: str | None = None) -> Dataset:
    """One data set of several domains.

    Item ids become "domain:id". A user's events of all domains are merged by time where every part has times (ties: the order
    of `parts`, then of each part); else each user has the events of the first domain, then of the second, and so on, each in
    its own order, and the data set has no times. Event fields, item fields and user attributes are kept by name; where parts disagree
    on a column's type it becomes text, and a user's attribute is taken from the first domain that knows it. Impressions are dropped,
    because their positions in the merged histories would not fit.

    Args:
        parts: Data sets by the name of their domain.
        name: What to call the whole; the domains' names joined by "+" if None.

    Raises:
        DataError: If there is no part, or a part has several domains itself.
    """
    if not parts:
        raise DataError("no data sets to combine: name at least one domain")
    for domain, data in parts.items():
        if data.domain is not None:
            raise DataError(f"{domain} holds several domains already: combine its parts in one step")
    sets = list(parts.values())
    users = Vocab(pl.concat([data.users.ids for data in sets]).unique().sort())
    sizes = np.cumsum([0, *(len(data.items) for data in sets)])
    user = np.concatenate([users.encode(data.users.ids)[data.event_user - 1] for data in sets])
    item = np.concatenate([data.item + np.int32(first) for data, first in zip(sets, sizes, strict=False)]).astype(np.int32)
    times = [data.time for data in sets if data.time is not None]
    time = np.concatenate(times) if len(times) == len(sets) else None
    rows, offset, _ = canonical_order(user, np.arange(len(user)) if time is None else time, len(users))
    return Dataset(
        name=name or "+".join(parts),
        users=users,
        items=Vocab(pl.concat([pl.select(pl.format("{}:{}", pl.lit(domain), data.items.ids)).to_series() for domain, data in parts.items()])),
        item=item[rows],
        offset=offset,
        time=None if time is None else time[rows],
        event_fields=_taken(_stacked([(data.event_fields, data.n_events) for data in sets]), rows),
        item_text=pl.concat([data.item_text.rename("text") for data in sets]),
        item_fields=_stacked([(data.item_fields, len(data.items)) for data in sets]),
        user_attributes=_attributes(sets, users),
        domain=np.repeat(np.arange(len(sets), dtype=np.int32), np.diff(sizes)),
        domains=tuple(parts),
        source={"domains": {domain: dict(data.source) for domain, data in parts.items()}},
    )


def _stacked(frames: list[tuple[pl.DataFrame, int]]) -> pl.DataFrame:
    """Frames one below the other by column name; a frame without a column, or without any, gives nulls."""
    if not any(frame.width for frame, _ in frames):
        return pl.DataFrame()
    types: dict[str, set[pl.DataType]] = {}
    for frame, _ in frames:
        for column, kind in frame.schema.items():
            types.setdefault(column, set()).add(kind)
    mixed = [column for column, kinds in types.items() if len(kinds) > 1 and not _one_number(kinds)]
    filled = [
        frame.with_columns(pl.col(column).cast(pl.String) for column in mixed if column in frame.columns)
        if frame.width
        else pl.DataFrame({next(iter(types)): pl.Series([None] * height, dtype=pl.Null)})
        for frame, height in frames
    ]
    return pl.concat(filled, how="diagonal_relaxed")


def _one_number(kinds: set[pl.DataType]) -> bool:
    return all(kind.is_numeric() for kind in kinds)


def _taken(frame: pl.DataFrame, rows: npt.NDArray[np.int64]) -> pl.DataFrame:
    return frame[rows] if frame.width else frame


def _attributes(sets: list[Dataset], users: Vocab) -> pl.DataFrame:
    """One row a user; the first domain that knows a value gives it."""
    known = _stacked([(data.user_attributes, len(data.users)) for data in sets])
    if not known.width:
        return known
    ids = pl.concat([data.users.ids for data in sets])
    codes = pl.Series("user code", users.encode(ids))
    grouped = known.with_columns(codes).group_by("user code").agg(pl.all().drop_nulls().first()).sort("user code")
    return grouped.drop("user code")
