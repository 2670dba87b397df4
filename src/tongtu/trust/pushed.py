"""How far items are pushed beyond how often users choose them, seen in two ways.

A back door makes a model show its target items to users who would never meet them otherwise.

- "lists": log2 ((lists that hold the item + c) / (lists that would if it were shown to as many users as ever chose it + c)); `c` is half a
  percent of the users, at least 2, so that an item must be shown to many before it counts. 5 means 32 times as often as chosen. It
  sees items pushed to users whom no attribute parts from the others.
- "ranks": by how many robust deviations an item's typical rank lies before that of items chosen as often (`tongtu.trust.overexposure`). It
  sees pushes that are too weak to fill lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tongtu.core import PAD, Codes, Scorer
from tongtu.data.dataset import Dataset
from tongtu.trust.asked import Asked, Grouping
from tongtu.trust.finding import Values
from tongtu.trust.overexposure import over_exposed

EVERYBODY = "all users"
Statistic = Literal["lists", "ranks"]

_DAMPING, _LEAST = 0.005, 2.0
_LEANING = 20.0  # users of the whole log that are added to each group when its choices are counted


@dataclass(frozen=True, eq=False)
class Pushed:
    """How far items are pushed to a group of users.

    Attributes:
        statistic: Which of the two ways of seeing it.
        way: `EVERYBODY`, or the attribute that parts the users.
        group: The group's name, or "".
        score: float64[items.size], see above.
        seen: float64[items.size], the share of lists that hold the item, or its typical rank.
        usual: float64[items.size], the share of the group's users who chose it, or the typical rank of items chosen as often.
    """

    statistic: Statistic
    way: str
    group: str
    score: Values
    seen: Values
    usual: Values

    @property
    def key(self) -> str:
        """What thresholds are kept by: the statistic, and all users or an attribute."""
        return key_of(self.statistic, self.way)


def key_of(statistic: Statistic, way: str) -> str:
    """What thresholds are kept by."""
    return f"{statistic} of {way}"


def pushed(asked: Asked, groupings: Sequence[Grouping]) -> list[Pushed]:
    """Every item's scores among all users that were asked, and among each group of each attribute."""
    found = [_by_lists(asked, EVERYBODY, "", np.arange(len(asked.users)), asked.data.lengths > 0)]
    for grouping in groupings:
        for label, rows in asked.groups(grouping):
            found.append(_by_lists(asked, grouping.name, label, rows, _members(asked, grouping, label)))
    return found + (_by_ranks(asked, groupings) if isinstance(asked.model, Scorer) else [])


def largest(found: Sequence[Pushed]) -> dict[str, float]:
    """The largest score over items and groups, by statistic and way."""
    return {key: max(float(one.score.max()) for one in found if one.key == key) for key in dict.fromkeys(one.key for one in found)}


def _members(asked: Asked, grouping: Grouping, label: str) -> npt.NDArray[np.bool_]:
    members: npt.NDArray[np.bool_] = (grouping.code == 1 + grouping.labels.index(label)) & (asked.data.lengths > 0)
    return members


def _by_lists(asked: Asked, way: str, group: str, rows: npt.NDArray[np.int64], members: npt.NDArray[np.bool_]) -> Pushed:
    """Among the asked users at `rows`, who belong to the users of the data set where `members` is true."""
    size, users = asked.data.items.size, len(rows)
    lists = asked.lists[rows]
    shown = np.bincount(lists[lists != PAD], minlength=size).astype(np.float64)
    overall = _holders(asked.data, asked.data.lengths > 0) / max(int((asked.data.lengths > 0).sum()), 1)
    chosen = (_holders(asked.data, members) + _LEANING * overall) / (int(members.sum()) + _LEANING)
    damping = max(_DAMPING * users, _LEAST)
    score = np.log2((shown + damping) / (chosen * users + damping))
    score[PAD] = -np.inf
    return Pushed("lists", way, group, score, shown / max(users, 1), chosen)


def _holders(data: Dataset, members: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """int64[items.size], how many of these users have each item."""
    kept = members[data.event_user - 1]
    pairs = np.unique(data.event_user[kept].astype(np.int64) * data.items.size + data.item[kept])
    items: Codes = (pairs % data.items.size).astype(np.int32)
    return np.bincount(items, minlength=data.items.size)


def _by_ranks(asked: Asked, groupings: Sequence[Grouping]) -> list[Pushed]:
    named = {f"{one.name}={label}": (one, label) for one in groupings for label in one.labels}
    masks = {name: _members(asked, grouping, label) for name, (grouping, label) in named.items()}
    found = over_exposed(asked.model, asked.data, masks, most_users=len(asked.users), seed=asked.config.seed)
    codes = asked.model.items.translation(asked.data.items)
    known = codes != PAD
    parts = []
    for row, name in enumerate(found.groups):
        way, group = (EVERYBODY, "") if name not in named else (named[name][0].name, named[name][1])
        score = np.where(known, found.score[row][codes], -np.inf)
        parts.append(Pushed("ranks", way, group, score, found.rank[row][codes], found.expected[row][codes]))
    return parts
