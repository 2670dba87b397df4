"""Shilling: fake users who push certain items, as a function from log to log, to see what it would do to one's own models and whether it would be found.

Sources: Lam & Riedl (WWW 2004) for random and average, Mobasher et al. (ACM TOIT 2007) for bandwagon and segment; Yue et al. (RecSys 2021)
for fake sequences that look like true ones with some events replaced.

A fake profile holds every target and, as filler, other items: about as many events as true users have in the mean. In logs with ratings the
kinds differ by them as in the literature; where there are none, by which filler they draw:

- "random": any item, rated about the mean of all ratings.
- "average": items as often as true users have them, rated about each item's mean.
- "bandwagon": a third from the most popular items, rated best; the rest as "random".
- "segment": half from the items that users of the targets have most (cosine of item columns), rated best; the rest any item, rated worst.
- "sequential": a true user's newest events in their order and with their ratings, some of which are replaced by the targets. Whom it
  copies is drawn anew for each.

How ours differs: fake users are plausible in everything else, so that nothing but behaviour tells them: times as one true user has them,
attributes of a true user, no item twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from tongtu.config import nearest
from tongtu.core import PAD, Codes
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError, DataError
from tongtu.vocab import Vocab

Kind = Literal["random", "average", "bandwagon", "segment", "sequential"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PREFIX = "fake-"

_TOP = 0.05  # share of the catalogue that counts as most popular, or as nearest to the targets
_FAVOURED = {"bandwagon": 1 / 3, "segment": 1 / 2}
_DRAWN = 1.5  # items drawn for each that is wanted, since some are drawn twice
_STEPS = 20  # distinct ratings up to which they are a scale, on which fake ones lie too

Indices = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def fake_users(data: Dataset, targets: Codes, share: float, kind: Kind, seed: int = 0) -> Dataset:
    """The log with fake users behind the true ones, whose codes, events and order stay; ids are "fake-1", "fake-2", ...

    Args:
        data: The log.
        targets: int32[K], the item codes to push.
        share: Fake users for each true one with events, at least one.
        kind: See the module's text.
        seed: Of every draw.

    Raises:
        ConfigError: If the kind is unknown, the share is not above 0, or a target is no item.
        DataError: If the log is empty or has fake users already.
    """
    _check(data, targets, share, kind)
    rng, active = np.random.default_rng([seed, KINDS.index(kind)]), np.flatnonzero(data.lengths)
    count = max(1, round(share * len(active)))
    model = rng.choice(active, count)  # the true user whose times and attributes each fake one has
    filler = max(1, round(data.n_events / len(active)) - len(targets))
    if kind == "sequential":
        fakes = _copied(data, targets, model, filler + len(targets), rng)
    else:
        fakes = _made(data, targets, rng.poisson(filler - 1, count) + 1, kind, rng)
    length = np.bincount(fakes.owner, minlength=count)
    ids = pl.Series("id", [f"{PREFIX}{number}" for number in range(1, count + 1)])
    note = {"kind": kind, "share": share, "seed": seed, "users": count, "events": len(fakes.item)}
    return dataclasses.replace(
        data,
        users=Vocab(pl.concat([data.users.ids, ids])),
        item=np.concatenate([data.item, fakes.item.astype(np.int32)]),
        offset=np.concatenate([data.offset, data.offset[-1] + np.cumsum(length)]),
        time=None if data.time is None else np.concatenate([data.time, _times(data.time, data, model[fakes.owner], fakes.owner, rng)]),
        event_fields=_fields(data, fakes, targets, rng),
        user_attributes=pl.concat([data.user_attributes, data.user_attributes[model]]) if data.user_attributes.width else data.user_attributes,
        source={**data.source, "fake users": note},
    )


def fake_mask(data: Dataset) -> Mask:
    """bool[users.size], by user code, which users `fake_users` made."""
    return np.concatenate([np.zeros(1, np.bool_), data.users.ids.str.starts_with(PREFIX).to_numpy()])


@dataclass(frozen=True)
class _Events:
    """Events of fake users, grouped by owner.

    Attributes:
        owner: int64[n], fake users from 0, rising.
        item: int64[n], item codes.
        rating: (ratings of all true events, generator) -> float64[n], the ratings of these.
    """

    owner: Indices
    item: Indices
    rating: Callable[[Weights, np.random.Generator], Weights]


def _made(data: Dataset, targets: Codes, filler: Indices, kind: Kind, rng: np.random.Generator) -> _Events:
    """Profiles of drawn fillers and all targets, in any order."""
    favoured = _favoured(data, targets, kind)
    owner, item = _drawn(_weights(data, targets, favoured, kind), filler, rng)
    owner = np.concatenate([owner, np.repeat(np.arange(len(filler)), len(targets))])
    item = np.concatenate([item, np.tile(targets.astype(np.int64), len(filler))])
    order = np.lexsort((rng.random(len(item)), owner))
    owner, item = owner[order], item[order]

    def rating(true: Weights, rng: np.random.Generator) -> Weights:
        about = _item_means(data, true)[item] if kind == "average" else np.full(len(item), true.mean())
        given: Weights = rng.normal(about, true.std())
        if kind == "segment":
            given[:] = true.min()
        given[favoured[item]] = true.max()
        return given

    return _Events(owner, item, rating)


def _copied(data: Dataset, targets: Codes, model: Indices, length: int, rng: np.random.Generator) -> _Events:
    """True users' newest events, some of which are replaced by the targets that the user has not met; the first stays where it can."""
    taken = np.minimum(data.lengths[model], length)
    owner = np.repeat(np.arange(len(model)), taken)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(taken) - taken, taken)
    source = np.repeat(data.offset[model + 1] - taken, taken) + place
    item = data.item[source].astype(np.int64)
    key = rng.random(len(owner)) + 2 * np.isin(item, targets) + (place == 0)
    nth = np.empty(len(owner), np.int64)
    nth[np.lexsort((key, owner))] = place  # each fake user's events are numbered anew in a random order
    mixed = rng.permuted(np.tile(targets.astype(np.int64), (len(model), 1)), axis=1)
    met = np.zeros(mixed.shape, np.bool_)
    for column in range(len(targets)):
        met[:, column] = np.bincount(owner[item == mixed[owner, column]], minlength=len(model)) > 0
    hit = np.flatnonzero(nth < len(targets))
    hit = hit[~met[owner[hit], nth[hit]]]
    item[hit] = mixed[owner[hit], nth[hit]]
    return _Events(owner, item, lambda true, rng: true[source].copy())


def _favoured(data: Dataset, targets: Codes, kind: Kind) -> Mask:
    """bool[V], the items that a kind of attack likes besides the targets."""
    liked = np.zeros(data.items.size, np.bool_)
    if kind not in _FAVOURED:
        return liked
    counts = data.item_counts.astype(np.float64)
    strength = counts if kind == "bandwagon" else _nearness(data, targets) * (counts > 0)
    strength[targets] = strength[PAD] = 0
    best = np.argsort(-strength, kind="stable")[: max(1, round(_TOP * len(data.items)))]
    liked[best[strength[best] > 0]] = True
    return liked


def _nearness(data: Dataset, targets: Codes) -> Weights:
    """float64[V], the summed cosine of each item with the targets, as columns of users who have them."""
    met = sparse.csr_matrix((np.ones(data.n_events), (data.event_user, data.item)), (data.users.size, data.items.size))
    met.data[:] = 1
    length = np.sqrt(np.asarray(met.sum(0)).ravel()).clip(1)
    together = (met.T @ met[:, targets.astype(np.int64)]).toarray()
    near: Weights = (together / length[targets]).sum(1) / length
    return near


def _weights(data: Dataset, targets: Codes, favoured: Mask, kind: Kind) -> Weights:
    """float64[V], how likely each item is a filler."""
    weights: Weights = (data.item_counts if kind == "average" else data.item_counts > 0).astype(np.float64)
    weights[targets] = weights[PAD] = 0
    if not weights.any():
        raise DataError(f"{data.name}: nobody has met any item but the targets, so there is no filler: name fewer targets")
    weights /= weights.sum()
    if favoured.any():
        part = _FAVOURED[kind]
        weights = (1 - part) * weights + part * favoured / favoured.sum()
    return weights


def _drawn(weights: Weights, wanted: Indices, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Owners and items, about as many for each owner as wanted, none twice."""
    tried = np.ceil(_DRAWN * wanted).astype(np.int64) + 1
    owner = np.repeat(np.arange(len(wanted)), tried)
    item = rng.choice(len(weights), len(owner), p=weights)
    _, first = np.unique(owner * len(weights) + item, return_index=True)
    first.sort()
    owner, item = owner[first], item[first]
    count = np.bincount(owner, minlength=len(wanted))
    kept = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) < wanted[owner]
    return owner[kept], item[kept]


def _times(time: Indices, data: Dataset, model: Indices, owner: Indices, rng: np.random.Generator) -> Indices:
    """int64[n], between the first and the last event of the true user each event's owner is modelled on, rising for each owner."""
    first, last = time[data.offset[model]], time[data.offset[model + 1] - 1]
    drawn = first + np.floor(rng.random(len(owner)) * (last - first + 1)).astype(np.int64)
    return drawn[np.lexsort((drawn, owner))]


def _fields(data: Dataset, fakes: _Events, targets: Codes, rng: np.random.Generator) -> pl.DataFrame:
    """Event fields with those of the fake events behind: a rating where the log has them, nothing else."""
    if not data.event_fields.width:
        return data.event_fields
    added = data.event_fields.clear(len(fakes.item))
    true = None if data.ratings is None else data.ratings.astype(np.float64)
    if true is not None and (known := true[np.isfinite(true)]).size:
        given = fakes.rating(np.where(np.isfinite(true), true, known.mean()), rng)
        given[np.isin(fakes.item, targets)] = known.max()
        kind = data.event_fields.schema["rating"]
        added = added.with_columns(pl.Series("rating", _on_scale(given, np.unique(known))).cast(kind))
    return pl.concat([data.event_fields, added])


def _on_scale(given: Weights, scale: Weights) -> Weights:
    """Ratings moved to the nearest that true users give, or within their bounds where those are no scale."""
    if len(scale) > _STEPS:
        return given.clip(scale[0], scale[-1])
    nearest_step: Weights = scale[np.searchsorted((scale[1:] + scale[:-1]) / 2, given)]
    return nearest_step


def _item_means(data: Dataset, ratings: Weights) -> Weights:
    """float64[V], the mean rating of each item; that of all ratings where there is none."""
    total = np.bincount(data.item, ratings, minlength=data.items.size)
    means: Weights = np.where(data.item_counts > 0, total / data.item_counts.clip(1), ratings.mean())
    return means


def _check(data: Dataset, targets: Codes, share: float, kind: str) -> None:
    if kind not in KINDS:
        raise ConfigError(f"no shilling attack {kind!r}, {nearest(kind, KINDS)}")
    if not share > 0:
        raise ConfigError(f"a share of {share:g} fake users is none: give one above 0, such as 0.01")
    wanted = np.asarray(targets)
    if not len(wanted) or (wanted <= PAD).any() or (wanted >= data.items.size).any() or len(np.unique(wanted)) < len(wanted):
        raise ConfigError("a target is missing, unknown or named twice: name items of the catalogue")
    if not data.n_events:
        raise DataError(f"{data.name} has no events, so no fake user could look like a true one: choose a data set with some")
    if fake_mask(data).any():
        raise DataError(f"{data.name} has users whose ids begin with {PREFIX!r} already: start from the clean log")
