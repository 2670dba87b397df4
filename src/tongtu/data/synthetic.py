"""Small worlds with a known answer: logs drawn from a rule, and how well one who knows the rule predicts each user's last event.

Every world draws all users' events step by step from the chances its rule gives them, never an item twice for one user. A user's
last event is the test target of `leave_one_out`. Item texts carry the words of the item's group, so that systems that read
text, and wishes written in these words, have something to find; the item field "categories" holds the group's section and its first word.
"""

from __future__ import annotations

import dataclasses
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
SECTIONS = ("arts", "sport", "kitchen", "arts", "sport", "outdoors", "home", "home", "outdoors", "kitchen")
"""The broad category of each group; two groups share one."""

FIELDS = ("music", "sports", "kitchen", "art", "cycling", "gardening", "games", "crafts", "astronomy", "baking")
"""The category of each group in `taste_and_wish_world`; no title has its word."""
KINDS = {"classics": "simple", "novelties": "fresh", "gifts": "wrapped", "bargains": "worn"}
"""The other category of each item there, and the word by which its title tells it."""

HOUR, DAY = 3_600, 86_400
_GAPS = np.array([HOUR, DAY])
_CUTOFF = 10
_SHORTEST = 4

Chances = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Past:
    """What has happened before one step.

    Attributes:
        items: int64[users, step], item indices from 0, oldest first.
        elapsed: int64[users, step], seconds from each of them to the step.
        final: Whether the step is the last one.
    """

    items: Indices
    elapsed: Indices
    final: bool


Rule = Callable[[Past], Chances]
"""What is known of the past -> weights float64[users, items] of what happens next; not called before the first event."""


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
    follows, popular = _followers(rng, items, 1), _popularity(rng, items)

    def rule(past: Past) -> Chances:
        return (1 - noise) * follows[past.items[:, -1]] + noise * popular

    return _draw("markov-world", rule, rng, (users, items, length), popular)


def taste_world(users: int = 600, items: int = 150, length: int = 10, noise: float = 0.05, seed: int = 0) -> World:
    """The user's taste decides: nearly all events are in one group of items, in no order; within it, popularity."""
    rng = np.random.default_rng(seed)
    chance = _taste(rng, _groups(items), _tastes(rng, users), noise)
    return _draw("taste-world", lambda past: chance, rng, (users, items, length), chance)


def attribute_world(users: int = 600, items: int = 150, length: int = 10, noise: float = 0.05, seed: int = 0) -> World:
    """As `taste_world`, and the user attribute "club" names the taste, so that a user without history can be answered."""
    rng = np.random.default_rng(seed)
    group, taste = _groups(items), _tastes(rng, users)
    attributes = pl.DataFrame({"club": [GROUP_WORDS[t - 1][0] for t in taste]})
    chance = _taste(rng, group, taste, noise)
    return _draw("attribute-world", lambda past: chance, rng, (users, items, length), chance, attributes=attributes)


def two_taste_world(users: int = 600, items: int = 150, length: int = 10, noise: float = 0.05, lean: float = 0.9, seed: int = 0) -> World:
    """Two tastes decide together: the user attribute "club" says which half of the groups, a taste of the user's own which one of either half.

    A share `lean` of the events is in the club's half, the rest in the other one. `best_ndcg` is that of one who knows both tastes, `blind_ndcg`
    that of one who knows the user's own taste alone: what is left to a recommender that must not tell the clubs apart.
    """
    rng = np.random.default_rng(seed)
    group, half = _groups(items), len(GROUP_WORDS) // 2
    club, own, popular = rng.integers(0, 2, users), rng.integers(0, half, users), _popularity(rng, items)
    inside = ((group - 1) % half == own[:, None]) * popular
    ours = (group - 1) // half == club[:, None]

    def chance(lean: float) -> Chances:
        weight = inside * np.where(ours, lean, 1 - lean)
        mixed: Chances = (1 - noise) * weight / weight.sum(axis=1, keepdims=True) + noise * popular
        return mixed

    attributes = pl.DataFrame({"club": [GROUP_WORDS[half * c][0] for c in club]})
    whole, blind = chance(lean), chance(0.5)
    return _draw("two-taste-world", lambda past: whole, rng, (users, items, length), whole, blind=lambda past: blind, attributes=attributes)


def time_world(users: int = 800, items: int = 80, length: int = 14, noise: float = 0.05, seed: int = 0) -> World:
    """The elapsed time decides: events come in sessions, and one of three followers of the last session's last item comes next.

    Between two events lies an hour or a day, evenly at random; what was met less than half a day ago has no influence.
    Without times nobody can tell which event decides: the last with chance 1/2, the one before with 1/4, and so on.
    """
    rng = np.random.default_rng(seed)
    follows, popular = _followers(rng, items, 3), _popularity(rng, items)

    def rule(past: Past) -> Chances:
        old = past.elapsed > DAY / 2
        decides = past.items.shape[1] - 1 - old[:, ::-1].argmax(axis=1)
        known = old.any(axis=1, keepdims=True)
        return (1 - noise) * np.where(known, follows[past.items[np.arange(len(old)), decides]], popular) + noise * popular

    def blind(past: Past) -> Chances:
        weight = 0.5 ** np.arange(past.items.shape[1], 0, -1)
        likely: Chances = np.einsum("t,uti->ui", weight, follows[past.items])
        return (1 - noise) * likely + noise * popular

    return _draw("time-world", rule, rng, (users, items, length), popular, blind=blind)


def text_world(users: int = 400, items: int = 200, length: int = 10, noise: float = 0.05, seed: int = 0) -> World:
    """The item text decides: tastes as in `taste_world`, but every user's last event is one of the new items, which nobody met before."""
    rng = np.random.default_rng(seed)
    group = _groups(items)
    new = np.arange(items) >= items * 3 // 4
    chance = _taste(rng, group, _tastes(rng, users), noise)
    return _draw("text-world", lambda past: chance * (new if past.final else ~new), rng, (users, items, length), chance * ~new)


def taste_and_wish_world(users: int = 400, items: int = 160, length: int = 8, noise: float = 0.05, seed: int = 0) -> World:
    """Taste and wish decide together: tastes as in `taste_world`, and of the kind of each item only a wish can tell.

    Items have a title and two categories: the field of their group, and one of four kinds, which change from event to event without a rule.
    `best_ndcg` is that of one who knows the taste and hears a wish for the target's kind, `blind_ndcg` that of one who hears none.
    """
    rng = np.random.default_rng(seed)
    group, kind = _groups(items), np.arange(items) // len(GROUP_WORDS) % len(KINDS)
    chance = _taste(rng, group, _tastes(rng, users), noise)
    world = _draw("taste-and-wish-world", lambda past: chance, rng, (users, items, length), chance)
    names, words = list(KINDS), list(KINDS.values())
    titles = [f"{words[k]} {GROUP_WORDS[g - 1][0]} {i}" for i, (g, k) in enumerate(zip(group, kind, strict=True), start=1)]
    fields = pl.DataFrame({"title": titles, "categories": [[FIELDS[g - 1], names[k]] for g, k in zip(group, kind, strict=True)]})
    data = dataclasses.replace(world.data, item_text=pl.Series("text", titles), item_fields=fields)
    target = data.item[data.offset[1:] - 1].astype(np.int64) - 1
    free = np.ones(chance.shape, np.bool_)
    free[data.event_user - 1, data.item - 1] = False
    free[np.arange(users), target] = True
    heard = chance * free * (kind == kind[target][:, None])
    return World(data, world.group, _ndcg(heard, target), _ndcg(chance * free, target))


def wish_world(users: int = 600, items: int = 150, length: int = 10, noise: float = 0.05, seed: int = 0) -> World:
    """The wish decides: each event is in a group drawn anew, of which the history tells nothing; within it, popularity.

    A specific wish (`tongtu.data.wishes`) says section and group, "arts, jazz", and a vague one the section alone. The item field "title"
    has the other words, "piano record number 1", so that no title holds a word of its item's wish. `best_ndcg` is that of one who
    is told the group, `blind_ndcg` that of one who hears no wish.
    """
    rng = np.random.default_rng(seed)
    group, popular, wanted = _groups(items), _popularity(rng, items), rng.integers(1, len(GROUP_WORDS) + 1, (users, length))

    def rule(past: Past) -> Chances:
        inside = (wanted[:, past.items.shape[1], None] == group) * popular
        chance: Chances = (1 - noise) * inside / inside.sum(axis=1, keepdims=True) + noise * popular
        return chance

    empty = np.zeros((users, 0), np.int64)
    world = _draw("wish-world", rule, rng, (users, items, length), rule(Past(empty, empty, final=False)), blind=lambda past: np.tile(popular, (users, 1)))
    titles = pl.Series("title", [f"{' '.join(GROUP_WORDS[g - 1][1:])} number {i}" for i, g in enumerate(group, start=1)])
    return dataclasses.replace(world, data=dataclasses.replace(world.data, item_fields=world.data.item_fields.with_columns(titles)))


def _taste(rng: np.random.Generator, group: Codes, taste: Codes, noise: float) -> Chances:
    """Chances [users, items]: popularity within the user's group, but for the noise."""
    popular = _popularity(rng, len(group))
    inside = (taste[:, None] == group) * popular
    chance: Chances = (1 - noise) * inside / inside.sum(axis=1, keepdims=True) + noise * popular
    return chance


def _draw(
    name: str,
    rule: Rule,
    rng: np.random.Generator,
    size: tuple[int, int, int],
    first: Chances,
    *,
    blind: Rule | None = None,
    attributes: pl.DataFrame | None = None,
) -> World:
    """Draw the first event of each of `users` users, play the rule up to `length` events, and let each keep the last few."""
    users, items, length = size
    group = _groups(items)
    everybody = np.arange(users)
    free = np.ones((users, items), np.bool_)
    events = np.zeros((users, length), np.int64)
    time = 1_600_000_000 + rng.integers(0, 30 * DAY, users)[:, None] + np.cumsum(rng.choice(_GAPS, (users, length)), axis=1)
    for step in range(length):
        past = Past(events[:, :step], time[:, step, None] - time[:, :step], final=step == length - 1)
        chance = (rule(past) if step else first) * free
        bound = np.cumsum(chance, axis=1)
        events[:, step] = (bound < (rng.random(users) * bound[:, -1])[:, None]).sum(axis=1)
        if not past.final:
            free[everybody, events[:, step]] = False
    kept = np.arange(length) >= length - rng.integers(_SHORTEST, length + 1, users)[:, None]
    data = Dataset(
        name=name,
        users=Vocab([f"user-{u}" for u in range(1, users + 1)]),
        items=Vocab([f"item-{i}" for i in range(1, items + 1)]),
        item=(events[kept] + 1).astype(np.int32),
        offset=np.concatenate([np.zeros(1, np.int64), np.cumsum(kept.sum(axis=1))]),
        time=time[kept],
        item_text=pl.Series("text", [f"{' '.join(GROUP_WORDS[g - 1])} number {i}" for i, g in enumerate(group, start=1)]),
        item_fields=pl.DataFrame({"categories": [[SECTIONS[g - 1], GROUP_WORDS[g - 1][0]] for g in group]}),
        user_attributes=pl.DataFrame() if attributes is None else attributes,
    )
    best = _ndcg(chance, events[:, -1])
    return World(data, np.concatenate([np.zeros(1, np.int32), group]), best, None if blind is None else _ndcg(blind(past) * free, events[:, -1]))


def _ndcg(chance: Chances, target: Indices) -> float:
    """Mean NDCG of ranking by `chance`, ties against."""
    rank = (chance >= chance[np.arange(len(target)), target][:, None]).sum(axis=1)
    return float(np.where(rank <= _CUTOFF, 1 / np.log2(rank + 1), 0).mean())


def _popularity(rng: np.random.Generator, items: int) -> Chances:
    """A mildly skewed popularity of the items, summing to 1."""
    weight = (1 + rng.permutation(items)) ** -0.5
    share: Chances = weight / weight.sum()
    return share


def _followers(rng: np.random.Generator, items: int, each: int) -> Chances:
    """Chances [items, items]: every item has `each` equally likely followers, far apart on a closed chain through all items."""
    chain = rng.permutation(items)
    follows = np.zeros((items, items))
    for ahead in range(each):
        follows[chain, np.roll(chain, -1 - 7 * ahead)] = 1 / each
    return follows


def _groups(items: int) -> Codes:
    """int32[items], the group of each item, from 1."""
    return (1 + np.arange(items) % len(GROUP_WORDS)).astype(np.int32)


def _tastes(rng: np.random.Generator, users: int) -> Codes:
    return rng.integers(1, len(GROUP_WORDS) + 1, users).astype(np.int32)
