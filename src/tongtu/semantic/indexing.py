"""How a language model writes items: one text for each, all different, made from the training part alone.

Paper: Hua et al., "How to Index Item IDs for Recommendation Foundation Models" (SIGIR-AP 2023), whose kinds these are.

    random         numbers in random order, read and written piece by piece
    sequential     numbers in the order of first sight, user by user, so that items met together have numbers near each other
    collaborative  a path of clusters of items that the same users met (`tongtu.semantic.collaborative`), and a number within the last
    semantic       the path of the item's categories, and a number within the last
    title          what people call it
    independent    a token of its own
    legacy_p5      numbers in the order of first sight over the whole log, held-out events included, as P5 first did it:
                   a history then tells the number of what comes next. It is here to show that leak, and for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from tongtu.config import configuration
from tongtu.core import PAD, Codes, Offsets
from tongtu.data.dataset import Dataset
from tongtu.data.public import load
from tongtu.errors import ConfigError
from tongtu.semantic.collaborative import cluster_paths
from tongtu.semantic.content import NUMBER, category_paths, distinct_titles

Kind = Literal["random", "sequential", "collaborative", "semantic", "title", "independent", "legacy_p5"]
CLUSTER = "<CI{}>"
_OWN = "<item_{}>"
_NUMBERED = "item_{}"


@configuration
class Indexing:
    """Settings of an index.

    Attributes:
        kind: See the module's text.
        first: The lowest number that "random", "sequential" and "legacy_p5" give.
        users: In which order "sequential" walks the users: as the "data" has them, the "shortest" or "longest" history first, or at "random".
        clusters: Into how many parts "collaborative" cuts a set of items at once.
        most: Items that "collaborative" leaves together, and numbers that one token of a path counts.
        depth: Categories of an item that "semantic" tells, the first ones.
        last: How a path ends: by a number within the last cluster or category, or by a token of the item's own ("independent").
        longest: Characters of a title.
        log: For "legacy_p5", the name or folder of the whole log.
    """

    kind: Kind = "collaborative"
    first: Annotated[int, Field(ge=1)] = 1001
    users: Literal["data", "shortest", "longest", "random"] = "data"
    clusters: Annotated[int, Field(ge=2)] = 20
    most: Annotated[int, Field(ge=3)] = 200
    depth: Annotated[int, Field(ge=1)] = 4
    last: Literal["number", "independent"] = "number"
    longest: Annotated[int, Field(ge=8)] = 60
    log: str | None = None

    def __post_init__(self) -> None:
        if self.clusters >= self.most:
            raise ValueError(f"clusters ({self.clusters}) must be fewer than most ({self.most}), or a path would name two of them alike")
        if (self.kind == "legacy_p5") != (self.log is not None):
            raise ValueError('kind "legacy_p5" needs log, the whole log it leaks from, and no other kind may have it')


@dataclass(frozen=True)
class ItemIndex:
    """How items are written.

    Attributes:
        texts: How the item of code i + 1 is written, in prompts and as an answer; all different.
        tokens: New tokens that a tokenizer must not take apart.
        facts: What was made of the data: counts, and where the kind had to help itself.
    """

    texts: tuple[str, ...]
    tokens: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(set(self.texts)) == len(self.texts), "two items are written alike"


def make_index(config: Indexing, data: Dataset, seed: int) -> ItemIndex:
    """The index of a data set's items.

    Args:
        config: Settings.
        data: What may be learned from: the training part.
        seed: Of whatever is drawn.

    Raises:
        ConfigError: If the log of "legacy_p5" is of other items.
        DataError: If the data lacks what the kind needs.
    """
    return _KINDS[config.kind](config, data, seed)


def _random(config: Indexing, data: Dataset, seed: int) -> ItemIndex:
    return _numbered(config, np.random.default_rng(seed).permutation(len(data.items)), {})


def _sequential(config: Indexing, data: Dataset, seed: int) -> ItemIndex:
    item = data.item[_walk(data, config.users, seed)]
    return _numbered(config, _first_sight(item, len(data.items)), {"users": config.users, "without events": _unmet(data)})


def _legacy(config: Indexing, data: Dataset, seed: int) -> ItemIndex:
    """Numbers by the whole log: whoever writes a history in them tells what comes after it."""
    assert config.log is not None
    log = load(config.log, quiet=True)
    own = data.items.translation(log.items)
    item = own[log.item]
    if len(log.items) != len(data.items) or (own[1:] == PAD).any():
        raise ConfigError(f"the log {config.log} has other items than the data that is learned from: name the log that it was cut out of")
    leak = f"numbers follow {log.n_events} events, of which {data.n_events} may be learned from"
    return _numbered(config, _first_sight(item, len(data.items)), {"leak": leak})


def _collaborative(config: Indexing, data: Dataset, seed: int) -> ItemIndex:
    paths, facts = cluster_paths(data, config.clusters, config.most, seed)
    if config.last == "number":
        return ItemIndex(_joined(paths, CLUSTER), tuple(CLUSTER.format(number) for number in _used(paths)), facts)
    return _hybrid([[CLUSTER.format(number) for number in path[:-1]] for path in paths], facts)


def _semantic(config: Indexing, data: Dataset, seed: int) -> ItemIndex:
    paths, facts = category_paths(data, config.depth)
    if config.last == "independent":
        return _hybrid(paths, facts)
    leaf = {path: number for number, path in enumerate(dict.fromkeys(map(tuple, paths)))}
    member = np.array([leaf[tuple(path)] for path in paths], np.int64)
    texts = ["".join([*path, *map(NUMBER.format, number)]) for path, number in zip(paths, _within(member, config.most), strict=True)]
    numbers = min(config.most, int(np.bincount(member).max(initial=0)))
    names = dict.fromkeys(name for path in paths for name in path)
    return ItemIndex(tuple(texts), (*names, *(NUMBER.format(number) for number in range(1, numbers + 1))), facts)


def _title(config: Indexing, data: Dataset, seed: int) -> ItemIndex:
    titles, facts = distinct_titles(data, config.longest)
    return ItemIndex(tuple(titles), (), facts)


def _independent(config: Indexing, data: Dataset, seed: int) -> ItemIndex:
    return _hybrid([[] for _ in range(len(data.items))], {})


_KINDS: dict[str, Callable[[Indexing, Dataset, int], ItemIndex]] = {
    "random": _random,
    "sequential": _sequential,
    "collaborative": _collaborative,
    "semantic": _semantic,
    "title": _title,
    "independent": _independent,
    "legacy_p5": _legacy,
}


def _numbered(config: Indexing, place: Offsets, facts: Mapping[str, Any]) -> ItemIndex:
    """Items by their number, int64[items]."""
    return ItemIndex(tuple(_NUMBERED.format(number) for number in (place + config.first).tolist()), (), facts)


def _hybrid(paths: Sequence[Sequence[str]], facts: Mapping[str, Any]) -> ItemIndex:
    """Paths that end in a token of the item's own."""
    own = [_OWN.format(code) for code in range(1, len(paths) + 1)]
    shared = dict.fromkeys(token for path in paths for token in path)
    return ItemIndex(tuple("".join([*path, token]) for path, token in zip(paths, own, strict=True)), (*shared, *own), facts)


def _walk(data: Dataset, users: str, seed: int) -> Offsets:
    """int64[events], the places of `data.item` in the order in which users are walked."""
    lengths = data.lengths
    if users == "data":
        return np.arange(data.n_events)
    if users == "random":
        rank = np.random.default_rng(seed).permutation(len(lengths))
    else:
        rank = np.argsort(np.argsort(lengths if users == "shortest" else -lengths, kind="stable"))
    return np.argsort(rank[data.event_user - 1], kind="stable")


def _first_sight(item: Codes, items: int) -> Offsets:
    """int64[items], the place of each item among all by its first event; those without events follow in the order of their codes."""
    first = np.full(items, len(item))
    met, place = np.unique(item, return_index=True)
    first[met.astype(np.int64) - 1] = place
    rank = np.empty(items, np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(items)
    return rank


def _within(member: Offsets, most: int) -> list[list[int]]:
    """Each item's number, from 1, within the group that `member` int64[items] names; in digits to the base `most` where a group is larger."""
    order = np.argsort(member, kind="stable")
    size = np.bincount(member)
    number = np.empty(len(member), np.int64)
    number[order] = np.arange(len(member)) - np.repeat(np.cumsum(size) - size, size)
    return [_digits(n, of, most) for n, of in zip(number.tolist(), size[member].tolist(), strict=True)]


def _digits(number: int, of: int, most: int) -> list[int]:
    """A number below `of` in so many digits, from 1 to `most`, as `of` numbers need."""
    digits = [number % most + 1]
    while of > most:
        of, number = -(-of // most), number // most
        digits.append(number % most + 1)
    return digits[::-1]


def _joined(paths: Sequence[Sequence[int]], form: str) -> tuple[str, ...]:
    return tuple("".join(map(form.format, path)) for path in paths)


def _used(paths: Sequence[Sequence[int]]) -> list[int]:
    return sorted({number for path in paths for number in path})


def _unmet(data: Dataset) -> int:
    return int((data.item_counts[1:] == 0).sum())

