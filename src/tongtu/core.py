"""What every part of Tongtu agrees on: a question, an answer, and the protocols of those who answer.

Nothing here imports torch. Items are dense integer codes (see `tongtu.vocab`); code 0 is `PAD` everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, overload, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import polars as pl

    from tongtu.data.dataset import Dataset
    from tongtu.vocab import Vocab

PAD = 0
"""The item code that is no item: padding, unknown ids, empty places of a short list."""

Codes = npt.NDArray[np.int32]
Times = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
Offsets = npt.NDArray[np.int64]

NO_ITEMS: Codes = np.zeros(0, np.int32)
NO_ATTRIBUTES: Mapping[str, str] = {}


@dataclass(frozen=True, eq=False)
class Request:
    """One question to a recommender. Unseen users, empty histories and free-text wishes are ordinary.

    Attributes:
        history: Item codes in the order they happened, oldest first; `PAD` marks an item the model does not know.
        times: Seconds since 1970 of each event of the history, or None where only the order is known.
        ratings: One rating for each event of the history, or None.
        now: Seconds since 1970 at which the recommendation is asked for, or None.
        user: The user's code in the data set the model was fitted on, or None for anybody else.
        attributes: What is known of the user, by field name ("gender": "F").
        forget: Attributes the user wants left out of the recommendation.
        candidates: Item codes the answer is limited to, or None for the whole catalogue.
        wish: What the user asks for in their own words, or None.
        exclude_seen: Whether items of the history are left out of the answer.
    """

    history: Codes = field(default_factory=lambda: NO_ITEMS)
    times: Times | None = None
    ratings: Scores | None = None
    now: int | None = None
    user: int | None = None
    attributes: Mapping[str, str] = field(default_factory=lambda: NO_ATTRIBUTES)
    forget: frozenset[str] = frozenset()
    candidates: Codes | None = None
    wish: str | None = None
    exclude_seen: bool = True


@dataclass(frozen=True, eq=False)
class RequestBatch(Sequence[Request]):
    """Many requests held in columns, so that a million users cost a few arrays and not a million objects.

    A history is `item[start[i]:stop[i]]`: many requests share one array of events, which may be mapped from disk.
    It is a sequence of `Request`, so whoever takes requests takes this; `RequestBatch.of` makes one from plain requests.

    Attributes:
        item: int32, the events of all histories, and `time`, `rating` beside them where they are known; in a batch where only
            some requests know them, the others have -1 and NaN.
        start, stop: int64[n], each history's range in `item`.
        exclude_seen: bool[n].
        now: int64[n] seconds, -1 for unknown; user: int64[n] user codes, 0 for unknown.
        attributes, forget, candidates, wish: One entry a request, or None where no request has any.
    """

    item: Codes
    start: Offsets
    stop: Offsets
    exclude_seen: npt.NDArray[np.bool_]
    time: Times | None = None
    rating: Scores | None = None
    now: Times | None = None
    user: Times | None = None
    attributes: Sequence[Mapping[str, str]] | None = None
    forget: Sequence[frozenset[str]] | None = None
    candidates: Sequence[Codes | None] | None = None
    wish: Sequence[str | None] | None = None

    @classmethod
    def of(cls, requests: Sequence[Request]) -> RequestBatch:
        """Columns of plain requests; a batch is returned as it is."""
        if isinstance(requests, RequestBatch):
            return requests
        lengths = np.fromiter((len(r.history) for r in requests), np.int64, len(requests))
        stop = np.cumsum(lengths)
        has_time = any(r.times is not None for r in requests)
        has_rating = any(r.ratings is not None for r in requests)
        return cls(
            item=_joined([r.history for r in requests], np.int32),
            start=stop - lengths,
            stop=stop,
            exclude_seen=np.fromiter((r.exclude_seen for r in requests), np.bool_, len(requests)),
            time=_joined([np.full(len(r.history), -1) if r.times is None else r.times for r in requests], np.int64) if has_time else None,
            rating=_joined([np.full(len(r.history), np.nan) if r.ratings is None else r.ratings for r in requests], np.float32) if has_rating else None,
            now=_optional([r.now for r in requests], -1),
            user=_optional([r.user for r in requests], PAD),
            attributes=[r.attributes for r in requests] if any(r.attributes for r in requests) else None,
            forget=[r.forget for r in requests] if any(r.forget for r in requests) else None,
            candidates=[r.candidates for r in requests] if any(r.candidates is not None for r in requests) else None,
            wish=[r.wish for r in requests] if any(r.wish is not None for r in requests) else None,
        )

    def __len__(self) -> int:
        return len(self.start)

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> RequestBatch: ...
    def __getitem__(self, index: int | slice) -> Request | RequestBatch:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        place = slice(self.start[index], self.stop[index])
        return Request(
            history=self.item[place],
            times=None if self.time is None or (self.time[place] < 0).any() else self.time[place],
            ratings=None if self.rating is None or np.isnan(self.rating[place]).all() else self.rating[place],
            now=None if self.now is None or self.now[index] < 0 else int(self.now[index]),
            user=None if self.user is None or self.user[index] == PAD else int(self.user[index]),
            attributes=NO_ATTRIBUTES if self.attributes is None else self.attributes[index],
            forget=frozenset() if self.forget is None else self.forget[index],
            candidates=None if self.candidates is None else self.candidates[index],
            wish=None if self.wish is None else self.wish[index],
            exclude_seen=bool(self.exclude_seen[index]),
        )

    def __iter__(self) -> Iterator[Request]:
        return (self[i] for i in range(len(self)))

    def take(self, rows: npt.NDArray[np.int64]) -> RequestBatch:
        """The requests at `rows`, in that order; the events are shared, not copied."""
        return RequestBatch(
            item=self.item,
            start=self.start[rows],
            stop=self.stop[rows],
            exclude_seen=self.exclude_seen[rows],
            time=self.time,
            rating=self.rating,
            now=None if self.now is None else self.now[rows],
            user=None if self.user is None else self.user[rows],
            attributes=None if self.attributes is None else _taken(self.attributes, rows),
            forget=None if self.forget is None else [self.forget[i] for i in rows],
            candidates=None if self.candidates is None else [self.candidates[i] for i in rows],
            wish=None if self.wish is None else [self.wish[i] for i in rows],
        )

    @property
    def lengths(self) -> Offsets:
        """int64[n], the number of events in each history."""
        return self.stop - self.start

    def events(self, last: int | None = None) -> tuple[Offsets, Offsets]:
        """Where all histories' events are: the row of each event (0..n-1) and its place in `item`, both int64.

        Args:
            last: Only each history's newest `last` events.
        """
        length = self.lengths if last is None else np.minimum(self.lengths, last)
        row = np.repeat(np.arange(len(self)), length)
        first = np.cumsum(length) - length
        place = np.arange(length.sum()) - np.repeat(first, length) + np.repeat(self.stop - length, length)
        return row, place


@dataclass(frozen=True)
class TopK:
    """Ranked lists: `items` int32[n, k] and `scores` float32[n, k], best first; short lists end in `PAD` and -inf.

    `notes` holds facts of single requests (tokens used, degraded, a reason), one mapping a request, or is empty.
    """

    items: Codes
    scores: Scores
    notes: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class FitOptions:
    """What a fit may use besides the data.

    Attributes:
        seed: Every random choice of the fit follows from it.
        validate: Measures the recommender as it stands on held-out cases, say {"ndcg@10": .05}; None if there is nothing
            to select by, and then the full number of epochs is trained.
        checkpoint: Folder for resumable state, or None to keep none.
        resume: Whether to go on from `checkpoint`, where it holds a state.
        quiet: Whether to show no progress.
        tracker: Folder for TensorBoard event files, or None.
        device: "cpu", "cuda", or None for the best there is.
        objective: Takes the objective of a network that is about to learn and gives the one to learn instead (`tongtu.nn.sequence.Objective`):
            how attacks and robust losses get in (`tongtu.trust`). Systems without a network leave it alone.
        start: A fitted recommender of the same class and settings, perhaps of fewer or other items, whose weights are gone on from. Systems that can
            write `provenance["started_from_weights"]`, the share of items it knew; others learn from nothing as ever.
    """

    seed: int = 0
    validate: Callable[[Recommender], Mapping[str, float]] | None = None
    checkpoint: Path | None = None
    resume: bool = False
    quiet: bool = False
    tracker: Path | None = None
    device: str | None = None
    objective: Callable[[Any], Any] | None = None
    start: Recommender | None = None


@runtime_checkable
class Recommender(Protocol):
    """All that evaluation, serving and reports know of a system. There is no base class."""

    config: Any
    items: Vocab

    def fit(self, data: Dataset, options: FitOptions = ...) -> Self:
        """Learn from every event of `data`; returns itself."""
        ...

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        ...

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder, whole or not at all."""
        ...

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A recommender that can score any item: `recommend` is then a running top-k over slices."""

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Scores float32[n, width of the slice] for the codes in `items`; filters of the request are not applied here."""
        ...


@runtime_checkable
class Extends(Protocol):
    """A recommender that takes new or foreign items without a refit."""

    def with_items(self, items: pl.DataFrame, keep: bool = True) -> Self:
        """The same recommender for other items; the one asked stays as it is.

        Args:
            items: Columns "id" and "text"; further ones do not matter.
            keep: Add the items that are not there yet; else answer for exactly these items.
        """
        ...


@runtime_checkable
class Rater(Protocol):
    """A recommender that predicts ratings."""

    def rate(self, requests: Sequence[Request], items: Codes) -> Scores: ...


@runtime_checkable
class Writer(Protocol):
    """A recommender that writes text: explanations, summaries, queries."""

    def write(self, requests: Sequence[Request], task: str) -> list[str]: ...


@runtime_checkable
class Represents(Protocol):
    """A recommender that has a vector for each user, from which it scores items."""

    def user_vectors(self, requests: Sequence[Request]) -> Scores:
        """float32[n, width]; zeros where nothing is known of a user, unless the system has an answer of its own for such users (prompts).

        `Request.forget` is heeded as in `recommend`; the limits of an answer (candidates, `exclude_seen`) change nothing.
        """
        ...


@runtime_checkable
class Indexable(Protocol):
    """A recommender whose score is a product of two vectors, so that the best items can be found without scoring all."""

    def query_vectors(self, requests: Sequence[Request]) -> Scores:
        """float32[n, width]; zeros where nothing is known of a user: such requests have no product, `recommend` answers them."""
        ...

    def item_vectors(self) -> Scores:
        """float32[items.size, width], not to be written to: the products of query vectors with these are what `score` gives, but for `PAD`."""
        ...


@runtime_checkable
class Hears(Protocol):
    """A recommender that says whether its answers heed `Request.wish`; one without this attribute does not hear wishes."""

    @property
    def hears_wishes(self) -> bool: ...


class CandidateSource(Protocol):
    """Proposes the items a ranker chooses among."""

    def __call__(self, requests: Sequence[Request], targets: Codes | None) -> list[Codes]: ...


Shard = TypeVar("Shard")
Answer = TypeVar("Answer")


class Engine(Protocol):
    """Runs one function over many shards, here or on a cluster; the function is the same."""

    name: ClassVar[str]

    def map(self, function: Callable[[Shard], Answer], shards: Iterable[Shard]) -> Iterator[Answer]: ...


def _taken(attributes: Sequence[Mapping[str, str]], rows: npt.NDArray[np.int64]) -> Sequence[Mapping[str, str]]:
    """Attributes at `rows`; a lazy sequence (it has a `take` of its own) stays lazy."""
    take = getattr(attributes, "take", None)
    return take(rows) if take is not None else [attributes[i] for i in rows]


def _joined(parts: list[Any], kind: type) -> npt.NDArray[Any]:
    return np.concatenate([np.asarray(p, kind) for p in parts]) if parts else np.zeros(0, kind)


def _optional(values: list[int | None], unknown: int) -> Times | None:
    return np.array([unknown if v is None else v for v in values], np.int64) if any(v is not None for v in values) else None
