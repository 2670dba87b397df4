"""A log and what came after it, as one data set: how a model's data grow with the events of a service."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from tongtu.core import Codes
from tongtu.data.dataset import Dataset
from tongtu.data.ordering import canonical_order
from tongtu.errors import DataError
from tongtu.vocab import Vocab

_EVENT = ["user", "item", "time"]
_OTHER_DOMAIN = "other"


@dataclass(frozen=True)
class Arrivals:
    """What is to be added to a log.

    Attributes:
        events: Columns "user" and "item" (ids), "time" (seconds since 1970), and any event fields; in the order in which they came.
        items: Columns "id" and "text", and any item fields; the catalogue, or only what is new in it.
        users: Column "id" and any attributes.
    """

    events: pl.DataFrame
    items: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={"id": pl.String, "text": pl.String}))
    users: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={"id": pl.String}))


def merged(log: Dataset, arrivals: Arrivals) -> Dataset:
    """The log with new events, new items and newer attributes. Codes that were given stay; new ids get codes behind them.

    An event that the log holds already (same user, item and time) is not added again. Impressions are left out: their places would not fit.

    Raises:
        DataError: If the log has no times, so that nobody can say what came after it.
    """
    if log.time is None:
        raise DataError(f"{log.name} has no times, so nothing can be added behind it: import it with --time, or take the whole log from the store")
    events = arrivals.events.with_columns(pl.col("user", "item").cast(pl.String), pl.col("time").cast(pl.Int64))
    old = pl.DataFrame({"user": log.users.ids.gather(log.event_user - 1), "item": log.items.ids.gather(log.item.astype(np.int64) - 1), "time": log.time})
    events = events.join(old, on=_EVENT, how="anti", maintain_order="left")
    users, items = _grown(log.users, events["user"]), _grown(log.items, pl.concat([arrivals.items["id"].cast(pl.String), events["item"]]))
    fields = _stacked(log.event_fields, events.drop(_EVENT), log.n_events)
    user = np.concatenate([log.event_user, users.encode(events["user"])])
    time = np.concatenate([log.time, events["time"].to_numpy()])
    rows, offset, ordered = canonical_order(user, time, len(users))
    new_items = _rows(arrivals.items, Vocab(items.ids[len(log.items) :]))
    new_text = new_items["text"].fill_null("") if "text" in new_items.columns else pl.Series("text", [""] * (len(items) - len(log.items)))
    domain, domains = _domains(log, len(items))
    return Dataset(
        name=log.name,
        users=users,
        items=items,
        item=np.concatenate([log.item, items.encode(events["item"])])[rows],
        offset=offset,
        time=ordered,
        event_fields=fields[rows] if fields.width else fields,
        item_text=pl.concat([log.item_text.rename("text"), new_text.cast(pl.String).rename("text")]),
        item_fields=_stacked(log.item_fields, new_items.drop("id", "text", strict=False), len(log.items)),
        user_attributes=_attributes(log, arrivals.users, users),
        domain=domain,
        domains=domains,
        source={**log.source, "added_events": events.height},
    )


def from_arrivals(name: str, arrivals: Arrivals) -> Dataset:
    """A data set of arrivals alone."""
    nothing = Dataset(name, Vocab([]), Vocab([]), np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.int64))
    return merged(nothing, arrivals)


def _grown(ids: Vocab, more: pl.Series) -> Vocab:
    more = more.unique(maintain_order=True)
    return Vocab(pl.concat([ids.ids, more.filter(pl.Series(ids.encode(more) == 0, dtype=pl.Boolean)).rename("id")]))


def _rows(frame: pl.DataFrame, ids: Vocab) -> pl.DataFrame:
    """One row of a table for each id, in code order; of an id that stands twice the last."""
    frame = frame.with_columns(pl.col("id").cast(pl.String)).unique("id", keep="last", maintain_order=True)
    return ids.ids.to_frame().join(frame, on="id", how="left", maintain_order="left")


def _stacked(old: pl.DataFrame, new: pl.DataFrame, height: int) -> pl.DataFrame:
    """Two tables below each other, with nulls where one lacks a column; a column of both keeps the type of the old one, if its values can be read so."""
    if not old.width and not new.width:
        return pl.DataFrame()
    shared = [pl.col(name).cast(old.schema[name], strict=False) for name in new.columns if name in old.columns]
    above = old if old.width else pl.DataFrame({name: pl.Series([None] * height, dtype=kind) for name, kind in new.schema.items()})
    below = new.with_columns(shared) if new.width else pl.DataFrame({name: pl.Series([None] * new.height, dtype=kind) for name, kind in old.schema.items()})
    return pl.concat([above, below], how="diagonal_relaxed")


def _attributes(log: Dataset, told: pl.DataFrame, users: Vocab) -> pl.DataFrame:
    """What is known of each user: what was told last, else what the log says."""
    old = log.user_attributes
    if not old.width and told.width < 2:
        return pl.DataFrame()
    new = _rows(told, users).drop("id")
    if not old.width:
        return new
    padded = pl.concat([old, pl.DataFrame({name: pl.Series([None] * (len(users) - len(log.users)), dtype=kind) for name, kind in old.schema.items()})])
    newer = [pl.coalesce(new[name].cast(kind, strict=False), padded[name]).alias(name) for name, kind in old.schema.items() if name in new.columns]
    return padded.with_columns(newer).with_columns([new[name] for name in new.columns if name not in old.columns])


def _domains(log: Dataset, items: int) -> tuple[Codes | None, tuple[str, ...]]:
    """Items that came later belong to no domain of the log: they get one of their own."""
    if log.domain is None or items == len(log.items):
        return log.domain, log.domains
    added = np.full(items - len(log.items), len(log.domains), np.int32)
    return np.concatenate([log.domain, added]), (*log.domains, _OTHER_DOMAIN)
