"""What an audited model is asked once, for all checks: some users' histories without their last event."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tongtu.core import PAD, Codes, Offsets, Recommender, RequestBatch, Scorer
from tongtu.data.attributes import AttributeField, AttributeReader
from tongtu.data.dataset import Dataset
from tongtu.errors import DataError
from tongtu.progress import progress
from tongtu.ranking import ranks_and_top
from tongtu.trust.settings import AuditConfig

LIST = 10
"""Length of the lists that fairness and popularity look at."""
MISS = 2**31 - 1
"""The rank of an item that a model did not, or could not, recommend."""

_USERS, _SLOW_USERS = 2_000, 50
_AT_ONCE, _SLOW_AT_ONCE = 512, 10
_PARTS = 4  # into which an attribute of many numbers is cut


@dataclass(frozen=True, eq=False)
class Grouping:
    """A user attribute that parts users into groups.

    Attributes:
        name: Of the attribute.
        labels: Names of the groups; code 1 has the first.
        code: int64[users], the group of each user of the data set (row u - 1 is user code u), 0 where it is unknown.
    """

    name: str
    labels: tuple[str, ...]
    code: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Asked:
    """A model, a data set, and what the model answered.

    Attributes:
        users: int32[n], user codes of those asked.
        target: int32[n], each one's last event, in the data set's codes; their requests hold the events before it.
        rank: int64[n], the target's rank in the catalogue, or `MISS`; in the list alone of a model that scores no catalogue.
        lists: int32[n, depth], what each was recommended, in the data set's codes.
    """

    model: Recommender
    data: Dataset
    config: AuditConfig
    users: Codes
    target: Codes
    rank: Offsets
    lists: Codes

    def groups(self, grouping: Grouping) -> list[tuple[str, npt.NDArray[np.int64]]]:
        """Each group with enough users among those asked, and their rows."""
        code = grouping.code[self.users - 1]
        parts = [(label, np.flatnonzero(code == number)) for number, label in enumerate(grouping.labels, start=1)]
        return [(label, rows) for label, rows in parts if len(rows) >= self.config.group_users]


def ask(model: Recommender, data: Dataset, config: AuditConfig, quiet: bool = True) -> Asked:
    """Draw users with at least three events and ask the model for each one's last event.

    Raises:
        DataError: If no user has three events, or the model knows none of the items.
    """
    users = drawn_users(model, data, config)
    last = data.offset[users] - 1
    target = data.item[last]
    rank, lists = answers(model, data, users, last, config.depth, quiet)
    return Asked(model, data, config, users, target, rank, lists)


def answers(model: Recommender, data: Dataset, users: Codes, stop: Offsets, depth: int, quiet: bool = True) -> tuple[Offsets, Codes]:
    """Ranks int64[n] of the events at `stop` given each user's events before them, and lists int32[n, depth] in the data set's codes.

    Raises:
        DataError: If the model knows none of the items.
    """
    codes = model.items.translation(data.items)
    if not codes.any():
        raise DataError(f"the model knows no item of {data.name}: give the data set it is meant for")
    now = None if data.time is None else data.time[stop]
    requests = data.requests(users, stop=stop, now=now)
    if model.items != data.items:  # a user's code belongs to the data set the model was fitted on
        requests = dataclasses.replace(requests, item=codes[requests.item], user=None)
    target = codes[data.item[stop]]
    ranks, lists = [], []
    at_once = _AT_ONCE if isinstance(model, Scorer) else _SLOW_AT_ONCE
    with progress("asking the model", len(requests), "users", quiet) as bar:
        for start in range(0, len(requests), at_once):
            rank, items = _answer(model, requests[start : start + at_once], target[start : start + at_once], depth)
            ranks.append(rank)
            lists.append(items)
            bar.advance(len(rank))
    return np.concatenate(ranks), data.items.translation(model.items)[np.concatenate(lists)]


def drawn_users(model: Recommender, data: Dataset, config: AuditConfig) -> Codes:
    """User codes int32[n], rising, of users with at least three events.

    Raises:
        DataError: If there are none.
    """
    able = (np.flatnonzero(data.lengths >= 3) + 1).astype(np.int32)
    if not len(able):
        raise DataError(f"{data.name}: no user has three events, so there is nothing to ask: give a data set with longer histories")
    return np.sort(np.random.default_rng(config.seed).permutation(able)[: config.users or default_users(model)])


def default_users(model: Recommender) -> int:
    """How many users are asked if nobody says: few of a model that scores no catalogue, which may ask a language model for each list."""
    return _USERS if isinstance(model, Scorer) else _SLOW_USERS


def groupings(data: Dataset, attributes: Sequence[str] | None, least: int) -> list[Grouping]:
    """The attributes that part users, with the values that at least `least` users have; numbers of many values are cut in four.

    Raises:
        DataError: If a named attribute is not there, or has no group of that size.
    """
    if not data.user_attributes.width:
        if attributes:
            raise DataError(f"{data.name} has no user attributes: leave --attribute out, or import the users with --users")
        return []
    reader = AttributeReader.learn(data, attributes, buckets=_PARTS, rarest=least)
    codes = reader.of_users(data)
    return [Grouping(field.name, _labels(field), codes[:, column]) for column, field in enumerate(reader.fields) if field.size > 2]


def _labels(field: AttributeField) -> tuple[str, ...]:
    if not field.bounds:
        return field.values
    cuts = [f"{bound:g}" for bound in field.bounds]
    return (f"below {cuts[0]}", *(f"{low} to {high}" for low, high in pairwise(cuts)), f"{cuts[-1]} and more")


def _answer(model: Recommender, requests: RequestBatch, target: Codes, depth: int) -> tuple[Offsets, Codes]:
    if isinstance(model, Scorer):
        rank, best = ranks_and_top(model, requests, target, depth)
        return np.where(rank > len(model.items), MISS, rank), best.items
    items = model.recommend(requests, depth).items
    hit = (items == target[:, None]) & (target != PAD)[:, None]
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, MISS), items
