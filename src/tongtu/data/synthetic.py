"""Small worlds with a known answer: logs drawn from a rule, and how well one who knows the rule predicts each user's last event.

Every world draws all users' events step by step from the chances its rule gives them, never an item twice for one user. A user's
last event is the test target of `leave_one_out`. Item texts carry the words of the item's group, so that systems that read
text, and wishes written in these words, have something to find.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.core import Codes
from tongtu.data.dataset import Dataset
from tongtu.vocab import Vocab

GROUP_WORDS = (
    ("jazz", "piano", "record"),
    ("trail", "running", "shoes"),
    ("espresso", "coffee", "grinder"),
    ("watercolour", "painting", "brush"),
    ("mountain", "bike", "helmet"),
    ("garden", "rose", "seeds"),
    ("chess", "opening", "book"),
    ("wool", "knitting", "yarn"),
    ("night", "sky", "telescope"),
    ("sourdough", "bread", "flour"),
)
"""The words of each group's item texts; group g has those at g - 1."""

HOUR, DAY, MONTH = 3_600, 86_400, 30 * 86_400
_GAPS = np.array([HOUR, DAY, MONTH])
_CUTOFF = 10
_SHORTEST = 4

Chances = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Rule = Callable[[Indices, Indices, bool], Chances]
"""(index of each user's last item, -1 for none; index of the gap since then; whether this is the last event) -> weights [users, items]."""


@dataclass(frozen=True)
class World:
    """A log and what is known of it.

    Attributes:
        data: The log.
        group: int32[items.size], the group of each item from 1; `PAD` has 0.
        best_ndcg: NDCG@10 on each user's last event of one who ranks by the true chances.
        blind_ndcg: The same for one who knows the rule but not what decides in this world (the elapsed time), or None.
    """

    data: Dataset
    group: Codes
    best_ndcg: float
    blind_ndcg: float | None = None


def markov_world(users: int = 400, items: int = 100, length: int = 14, noise: float = 0.2, seed: int = 0) -> World:
    """The last item decides: each item has one successor, followed unless noise draws by popularity."""
    rng = np.random.default_rng(seed)
    follows = np.eye(items)[_successors(rng, items)]
    popular = _popularity(rng, items)

    def rule(last: Indices, gap: Indices, final: bool) -> Chances:
        return np.where(last[:, None] < 0, popular, (1 - noise) * follows[last] + noise * popular)

    return _draw("markov-world", rule, rng, _groups(items), (users, items, length))


def taste_world(users: int = 400, items: int = 100, length: int = 14, noise: float = 0.1, seed: int = 0) -> World:
    """The user's taste decides: nearly all events are in one group of items, in no order; within it, popularity."""
    rng = np.random.default_rng(seed)
    group = _groups(items)
    return _draw("taste-world", _taste(rng, group, _tastes(rng, users), noise), rng, group, (users, items, length))


def attribute_world(users: int = 400, items: int = 100, length: int = 14, noise: float = 0.1, seed: int = 0) -> World:
    """As `taste_world`, and the user attribute "club" names the taste, so that a user without history can be answered."""
    rng = np.random.default_rng(seed)
    group, taste = _groups(items), _tastes(rng, users)
    attributes = pl.DataFrame({"club": [GROUP_WORDS[t - 1][0] for t in taste]})
    return _draw("attribute-world", _taste(rng, group, taste, noise), rng, group, (users, items, length), attributes=attributes)


def time_world(users: int = 400, items: int = 60, length: int = 14, noise: float = 0.1, seed: int = 0) -> World:
    """The elapsed time decides: each item has one successor after an hour, another after a day, a third after a month."""
    rng = np.random.default_rng(seed)
    follows: Chances = np.stack([np.eye(items)[_successors(rng, items)] for _ in _GAPS])
    popular = _popularity(rng, items)

    def rule(last: Indices, gap: Indices, final: bool) -> Chances:
        return np.where(last[:, None] < 0, popular, (1 - noise) * follows[gap, last] + noise * popular)

    def blind(last: Indices, gap: Indices, final: bool) -> Chances:
        average: Chances = follows.mean(axis=0)
        return (1 - noise) * average[last] + noise * popular

    return _draw("time-world", rule, rng, _groups(items), (users, items, length), blind=blind)


def text_world(users: int = 400, items: int = 200, length: int = 10, noise: float = 0.05, seed: int = 0) -> World:
    """The item text decides: tastes as in `taste_world`, but every user's last event is one of the new items, which nobody met before."""
    rng = np.random.default_rng(seed)
    group = _groups(items)
    new = rng.random(items) < 0.25
    taste = _taste(rng, group, _tastes(rng, users), noise)

    def rule(last: Indices, gap: Indices, final: bool) -> Chances:
        return taste(last, gap, final) * (new if final else ~new)

    return _draw("text-world", rule, rng, group, (users, items, length))


def _taste(rng: np.random.Generator, group: Codes, taste: Codes, noise: float) -> Rule:
    popular = _popularity(rng, len(group))
    inside = (taste[:, None] == group) * popular
    chance = (1 - noise) * inside / inside.sum(axis=1, keepdims=True) + noise * popular
    return lambda last, gap, final: chance


def _draw(
    name: str,
    rule: Rule,
    rng: np.random.Generator,
    group: Codes,
    size: tuple[int, int, int],
    blind: Rule | None = None,
    attributes: pl.DataFrame | None = None,
) -> World:
    """Play the rule for users x length steps, then let each user keep the last few of their events."""
    users, items, length = size
    everybody = np.arange(users)
    gap = rng.integers(0, len(_GAPS), (users, length))
    free = np.ones((users, items), np.bool_)
    last = np.full(users, -1)
    events = np.zeros((users, length), np.int64)
    for step in range(length):
        final = step == length - 1
        known = last
        chance = rule(known, gap[:, step], final) * free
        if final:
            guess = chance if blind is None else blind(known, gap[:, step], final) * free
        bound = np.cumsum(chance, axis=1)
        last = (bound < (rng.random(users) * bound[:, -1])[:, None]).sum(axis=1)
        free[everybody, last] = False
        events[:, step] = last
    kept = np.arange(length) >= length - rng.integers(_SHORTEST, length + 1, users)[:, None]
    times = 1_600_000_000 + rng.integers(0, MONTH, users)[:, None] + np.cumsum(_GAPS[gap], axis=1)
    data = Dataset(
        name=name,
        users=Vocab([f"user-{u}" for u in range(1, users + 1)]),
        items=Vocab([f"item-{i}" for i in range(1, items + 1)]),
        item=(events[kept] + 1).astype(np.int32),
        offset=np.concatenate([np.zeros(1, np.int64), np.cumsum(kept.sum(axis=1))]),
        time=times[kept],
        item_text=pl.Series("text", [f"{' '.join(GROUP_WORDS[g - 1])} number {i}" for i, g in enumerate(group, start=1)]),
        user_attributes=pl.DataFrame() if attributes is None else attributes,
    )
    best = _ndcg(chance, events[:, -1])
    return World(data, np.concatenate([np.zeros(1, np.int32), group]), best, None if blind is None else _ndcg(guess, events[:, -1]))


def _ndcg(chance: Chances, target: Indices) -> float:
    """Mean NDCG of ranking by `chance`, ties against."""
    rank = (chance >= chance[np.arange(len(target)), target][:, None]).sum(axis=1)
    return float(np.where(rank <= _CUTOFF, 1 / np.log2(rank + 1), 0).mean())


def _popularity(rng: np.random.Generator, items: int) -> Chances:
    """A mildly skewed popularity of the items, summing to 1."""
    weight = (1 + rng.permutation(items)) ** -0.5
    share: Chances = weight / weight.sum()
    return share


def _successors(rng: np.random.Generator, items: int) -> Indices:
    """The successor of each item on one closed chain through all items."""
    chain = rng.permutation(items)
    follows = np.zeros(items, np.int64)
    follows[chain] = np.roll(chain, -1)
    return follows


def _groups(items: int) -> Codes:
    """int32[items], the group of each item, from 1."""
    return (1 + np.arange(items) % len(GROUP_WORDS)).astype(np.int32)


def _tastes(rng: np.random.Generator, users: int) -> Codes:
    return rng.integers(1, len(GROUP_WORDS) + 1, users).astype(np.int32)
