"""Whether the model remembers the very events it learned; then who holds it can tell who was in its training data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from tongtu.core import Codes, Recommender, Scorer
from tongtu.data.dataset import Dataset
from tongtu.trust.asked import answers, drawn_users
from tongtu.trust.checks.folder import Learned
from tongtu.trust.finding import Finding, Table, Values, interval_of, not_measured, verdict_of
from tongtu.trust.settings import AuditConfig

_LEAST = 50  # learned and not learned events that must be there to be told apart
_DRAWS = 500
_REMEDY = "Do not hand the folder to people who may not see the log; fewer epochs, more dropout or a smaller width (tongtu fit --set) remember less."
_NAME = "learned events can be told from others"


def check_memory(model: Recommender, data: Dataset, learned: Learned, config: AuditConfig) -> Finding:
    """How well a model's ranking tells the events it learned from events that it did not.

    Where some users were not learned at all, their last events stand against the last learned events of others, which is membership
    inference; else held-out events of the same users stand against their last learned ones.
    """
    remedy = "Audit with the data set it was fitted on, some users held out (tongtu fit --protocol cold-users)."
    if learned.train is None:
        return not_measured("memory", _NAME, f"Which events it learned is not known: {learned.says}.", remedy)
    if not isinstance(model, Scorer):
        return not_measured("memory", _NAME, "The model scores no catalogue, so ranks of single events are too coarse.")
    members, strangers = _events(data, learned.train)
    if len(strangers[0]) >= _LEAST and len(members[0]) >= _LEAST:
        return _told_apart(model, data, (members, strangers), "of users it never met", config)
    held = _held_out(data, learned.train)
    if len(held[0]) < _LEAST or len(members[0]) < _LEAST:
        why = f"It learned every event of {data.name}, so none is left to compare with." if learned.whole else "Too few events were held out."
        return not_measured("memory", _NAME, why, remedy)
    drawn = drawn_users(model, data, config)
    members, held = (_of_users(events, drawn) for events in (members, held))
    if len(held[0]) < _LEAST:
        return not_measured("memory", _NAME, "Too few of the users asked have events that were held out.", "Ask more users with --users.")
    return _told_apart(model, data, (members, held), "of the same users that were held out", config)


Events = tuple[Codes, npt.NDArray[np.int64]]
"""User codes and places of events in the data set."""


def _events(data: Dataset, train: Dataset) -> tuple[Events, Events]:
    """The last learned event of each user with three learned ones, and the last event of each user of whom nothing was learned."""
    known = np.flatnonzero(train.lengths >= 3)
    place = data.offset[known] + train.lengths[known] - 1
    first = data.item[place] == train.item[train.offset[known + 1] - 1]  # where a protocol took events away, the last learned one is elsewhere
    known, place = known[first], place[first]
    unmet = np.flatnonzero((train.lengths == 0) & (data.lengths >= 3))
    return ((known + 1).astype(np.int32), place), ((unmet + 1).astype(np.int32), data.offset[unmet + 1] - 1)


def _held_out(data: Dataset, train: Dataset) -> Events:
    """The first event after the learned ones, of users whose learned events are their first ones."""
    users = np.flatnonzero((train.lengths >= 3) & (data.lengths > train.lengths))
    return (users + 1).astype(np.int32), data.offset[users] + train.lengths[users]


def _of_users(events: Events, users: Codes) -> Events:
    kept = np.isin(events[0], users)
    return events[0][kept], events[1][kept]


def _told_apart(model: Recommender, data: Dataset, events: tuple[Events, Events], which: str, config: AuditConfig) -> Finding:
    rng = np.random.default_rng(config.seed)
    most = config.users or 2_000
    ranks = []
    for users, place in events:
        rows = np.sort(rng.permutation(len(users))[:most])
        rank, _ = answers(model, data, users[rows], place[rows], config.depth)
        ranks.append(np.minimum(rank, len(model.items) + 1).astype(np.float64))
    value, (low, high) = _auc(ranks[0], ranks[1]), interval_of(_auc_draws(ranks[0], ranks[1], rng))
    level = config.memory
    verdict = verdict_of(low, level)
    medians = [float(np.median(rank)) for rank in ranks]
    columns = ("events", "number", "median rank", "share in the first ten")
    lines = [("learned", len(ranks[0]), medians[0], float((ranks[0] <= 10).mean())), (which, len(ranks[1]), medians[1], float((ranks[1] <= 10).mean()))]
    return Finding(
        part="memory",
        name=_NAME,
        verdict=verdict,
        evidence=f"A learned event is ranked above an event {which} with a chance of {value:.3f} ({low:.3f} to {high:.3f}; .5 is no memory): "
        f"median ranks {medians[0]:,.0f} and {medians[1]:,.0f}. Part of it may be that tastes change with time.",
        remedy="" if verdict == "fine" else _REMEDY,
        value=value,
        interval=(low, high),
        threshold=level.alarm,
        tables=(Table(title="Ranks", columns=columns, rows=tuple(lines)),),
    )


def _auc(learned: Values, other: Values) -> float:
    """The chance that a learned event stands above another, ties half."""
    return float(stats.mannwhitneyu(-learned, -other).statistic / (len(learned) * len(other)))


def _auc_draws(learned: Values, other: Values, rng: np.random.Generator) -> Values:
    """AUCs under resampling events, from the places of learned ranks among the sorted others."""
    draws = np.empty(_DRAWS)
    for draw in range(_DRAWS):
        one, two = rng.choice(learned, len(learned)), np.sort(rng.choice(other, len(other)))
        below = np.searchsorted(two, one, "left") + np.searchsorted(two, one, "right")
        draws[draw] = 1 - below.mean() / (2 * len(two))
    return draws
