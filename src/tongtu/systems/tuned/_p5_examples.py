"""From a log to the (prompt, answer) pairs of P5, drawn anew for each epoch.

Only what it is given is drawn from: of a split, that is the training part. A pair that was held out for the test of the next item can so stand in
no prompt about a rating, a review or an explanation either (P5's own files were split family by family, and let it).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from tongtu.config import configuration
from tongtu.core import Codes
from tongtu.data.dataset import Dataset
from tongtu.data.item_text import clean
from tongtu.errors import ConfigError
from tongtu.semantic.indexing import ItemIndex
from tongtu.systems.tuned._p5_negatives import Unmet
from tongtu.systems.tuned._p5_prompts import Writing
from tongtu.systems.tuned._p5_templates import FAMILIES, NO, YES, Family, templates

Pair = tuple[str, str]
Rows = npt.NDArray[np.int64]

_NOISE = {1: (1.2, 0.1), 2: (1.95, 0.225), 3: (2.95, 0.225), 4: (3.95, 0.225), 5: (4.75, 0.125)}
"""P5's normal distributions (mean, deviation) for the ratings that are learned instead of whole stars."""
_LIKED = 0.75  # of the way from the lowest to the highest rating: 4 of 5 stars
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_LEAST_WORDS = 3  # "Great!" explains nothing


@configuration
class Drawing:
    """How many pairs an epoch draws, and what stands in them. A number that is not whole is met on average.

    Attributes:
        items, choices, yes_no: Sequential pairs of each user: the next item out of everything, out of candidates, and whether an item is next.
        direct_choices, direct_yes_no: Direct pairs of each user.
        ratings, explanations, reviews: Pairs of each event that has what they need.
        scale: Times all these numbers.
        last: The next item is one of each user's last so many events; None for any but the first.
        candidates: Among how many a choice is made (the paper: 100).
        max_history: The newest events that a prompt tells.
        told: Share of the prompts that tell which user it is.
        noise: Learn ratings with the paper's noise in place of whole stars, 1 to 5.
        separators: What stands between items; one is drawn for each prompt, and the first stands in questions.
        words: Of a review that a prompt or an answer holds, at most.
    """

    items: Annotated[float, Field(ge=0)] = 5
    choices: Annotated[float, Field(ge=0)] = 5
    yes_no: Annotated[float, Field(ge=0)] = 10
    direct_choices: Annotated[float, Field(ge=0)] = 5
    direct_yes_no: Annotated[float, Field(ge=0)] = 10
    ratings: Annotated[float, Field(ge=0)] = 1
    explanations: Annotated[float, Field(ge=0)] = 1
    reviews: Annotated[float, Field(ge=0)] = 1
    scale: Annotated[float, Field(gt=0)] = 1
    last: Annotated[int, Field(ge=1)] | None = 3
    candidates: Annotated[int, Field(ge=2)] = 20
    max_history: Annotated[int, Field(ge=1)] = 20
    told: Annotated[float, Field(ge=0, le=1)] = 0.5
    noise: bool = False
    separators: tuple[str, ...] = (" , ", " -> ")
    words: Annotated[int, Field(ge=4)] = 40

    def __post_init__(self) -> None:
        if not self.separators:
            raise ValueError("separators must name at least one")


class Pairs:
    """The pairs of a log, by seed.

    Args:
        data: The events that may be learned from.
        index: How items are written.
        config: How many, and what stands in them.
        families: Those wanted; one whose texts or ratings the log lacks has no pairs.

    Raises:
        ConfigError: If noise is asked for where ratings are not 1 to 5 stars.
    """

    def __init__(self, data: Dataset, index: ItemIndex, config: Drawing, families: Sequence[Family] = FAMILIES) -> None:
        self.data, self.config = data, config
        self.writing = Writing(index, config.separators, config.max_history)
        self.place = np.arange(data.n_events) - data.offset[data.event_user - 1]
        self.families = tuple(family for family in FAMILIES if family in families and self._possible(family))
        if config.noise and self.known.any() and not np.isin(self.ratings[self.known], list(_NOISE)).all():
            raise ConfigError(f"{data.name}: noise is made for ratings of 1, 2, 3, 4 or 5: leave it out")

    @cached_property
    def ratings(self) -> npt.NDArray[np.float32]:
        """float32[events], NaN where there is none."""
        ratings = self.data.ratings
        return np.full(self.data.n_events, np.nan, np.float32) if ratings is None else ratings

    @cached_property
    def known(self) -> npt.NDArray[np.bool_]:
        """bool[events], which events have a rating."""
        return ~np.isnan(self.ratings)

    @property
    def stars(self) -> tuple[str, ...]:
        """The ratings that can be answers."""
        values = np.arange(10, 51) / 10 if self.config.noise else np.unique(self.ratings[self.known])
        return tuple(dict.fromkeys(self.writing.stars(value) for value in values))

    def __call__(self, seed: int) -> list[Pair]:
        """The pairs of one seed, in no particular order."""
        rng = np.random.default_rng(seed)
        draw = {"sequential": self._sequential, "direct": self._direct, "rating": self._rating, "explanation": self._explanation, "review": self._review}
        return [pair for family in self.families for pair in draw[family](rng)]

    def _possible(self, family: Family) -> bool:
        needs = {"rating": self.known.any(), "explanation": any(self._texts("review")), "review": any(self._texts("review"))}
        return bool(needs.get(family, True))

    # ---- sequential and direct: pairs of users

    def _sequential(self, rng: np.random.Generator) -> list[Pair]:
        config, found = self.config, []
        for form, number in (("item", config.items), ("choices", config.choices), ("yes or no", config.yes_no)):
            found += self._about_items(rng, "sequential", form, self._targets(rng, number, config.last))
        return found

    def _direct(self, rng: np.random.Generator) -> list[Pair]:
        config, found = self.config, []
        for form, number in (("choices", config.direct_choices), ("yes or no", config.direct_yes_no)):
            found += self._about_items(rng, "direct", form, self._targets(rng, number, None))
        return found

    def _targets(self, rng: np.random.Generator, number: float, last: int | None) -> Rows:
        """int64[n], events that a user's earlier ones lead to: `number` of each user on average, drawn among the `last`."""
        users = np.flatnonzero(self.data.lengths >= 2)
        users = np.repeat(users, _times(rng, number * self.config.scale, len(users)))
        length = self.data.lengths[users]
        span = length - 1 if last is None else np.minimum(length - 1, last)
        return self.data.offset[users + 1] - 1 - (rng.random(len(users)) * span).astype(np.int64)

    def _about_items(self, rng: np.random.Generator, family: Family, form: str, target: Rows) -> list[Pair]:
        """Pairs that ask for, or about, the item of an event."""
        start = self._starts(rng, target)
        code, true = self.data.item[target].astype(np.int64), np.ones(len(target), np.bool_)
        shown: npt.NDArray[np.int64] = code[:, None]
        if form != "item":
            shown, kept = self._unmet.beside(rng, self.data.event_user[target].astype(np.int64), code, self.config.candidates if form == "choices" else 2)
            target, start, code, shown = target[kept], start[kept], code[kept], shown[kept]
            true = rng.random(len(target)) < 0.5
        if form == "choices":
            shown = rng.permuted(shown, axis=1)
        who = self._who(rng, target)
        texts = self.writing.texts
        write = self.writing.drawn(rng, templates(family, form), len(target))
        found = []
        for row, (asked, user, begin, stop) in enumerate(zip(write, who.tolist(), start.tolist(), target.tolist(), strict=True)):
            history = self._written[begin:stop]
            if form == "yes or no":
                item = texts[shown[row, 0 if true[row] else 1]]
                found.append((asked(user, history, item=item), YES if true[row] else NO))
            else:
                found.append((asked(user, history, choices=[texts[one] for one in shown[row].tolist()]), texts[code[row]]))
        return found

    def _starts(self, rng: np.random.Generator, target: Rows) -> Rows:
        """int64[n], where each history begins: at one of the user's first three events, and not longer than may be told."""
        first = target - self.place[target]
        begin = first + (rng.random(len(target)) * np.minimum(self.place[target], 3)).astype(np.int64)
        start: Rows = np.maximum(begin, target - self.config.max_history)
        return start

    @cached_property
    def _written(self) -> list[str]:
        """How the item of each event is written."""
        texts = self.writing.texts
        return [texts[code] for code in self.data.item.tolist()]

    @cached_property
    def _unmet(self) -> Unmet:
        return Unmet(self.data)

    def _who(self, rng: np.random.Generator, event: Rows) -> Codes:
        """int32[n], the code of each event's user, or 0 where the prompt does not tell it."""
        return np.where(rng.random(len(event)) < self.config.told, self.data.event_user[event], 0).astype(np.int32)

    # ---- rating, explanation and review: pairs of events

    def _rating(self, rng: np.random.Generator) -> list[Pair]:
        event = self._events(rng, self.config.ratings, self.known)
        stars = np.unique(self.ratings[self.known])
        forms = rng.choice(3, len(event), p=(0.5, 0.25, 0.25)) if len(stars) > 1 else np.zeros(len(event), np.int64)
        liked = stars[0] + _LIKED * (stars[-1] - stars[0])
        found = self._told(rng, "rating", "stars", event[forms == 0], self._learned(rng, event[forms == 0]))
        asked = event[forms == 1]
        other = stars[(np.searchsorted(stars, self.ratings[asked]) + rng.integers(1, max(len(stars), 2), len(asked))) % len(stars)]
        true = rng.random(len(asked)) < 0.5
        offered = [f"{value:g}" for value in np.where(true, self.ratings[asked], other)]
        found += self._told(rng, "rating", "yes or no", asked, [YES if one else NO for one in true], stars=offered)
        judged = event[forms == 2]
        return found + self._told(rng, "rating", "liked", judged, [YES if value >= liked else NO for value in self.ratings[judged]])

    def _explanation(self, rng: np.random.Generator) -> list[Pair]:
        event = self._events(rng, self.config.explanations, np.array([bool(text) for text in self._texts("review")]))
        said = [self._sentence(rng, self._texts("review")[one]) for one in event.tolist()]
        headline = np.array([bool(text) for text in self._texts("summary")])[event]
        drawn = rng.integers(0, 3, len(event))
        form = np.where((drawn == 1) & self.known[event], 1, np.where((drawn == 2) & headline, 2, 0))
        found = []
        for number, name in enumerate(("text", "with stars", "with headline")):
            rows = np.flatnonzero(form == number)
            stars = [f"{value:g}" for value in self.ratings[event[rows]]]
            heads = [self._texts("summary")[one] for one in event[rows].tolist()]
            found += self._told(rng, "explanation", name, event[rows], [said[row] for row in rows], stars=stars, headline=heads)
        return found

    def _review(self, rng: np.random.Generator) -> list[Pair]:
        texts, summaries = self._texts("review"), self._texts("summary")
        event = self._events(rng, self.config.reviews, np.array([bool(text) for text in texts]))
        headline = np.array([bool(text) for text in summaries])[event] & ((rng.random(len(event)) < 0.5) | ~self.known[event])
        rated = ~headline & self.known[event]
        found = []
        for form, part in (("headline", event[headline]), ("stars", event[rated])):
            answers = [summaries[one] for one in part.tolist()] if form == "headline" else [self.writing.stars(value) for value in self.ratings[part]]
            found += self._told(rng, "review", form, part, answers, review=[self.writing.short(texts[one], self.config.words) for one in part.tolist()])
        return found

    def _told(self, rng: np.random.Generator, family: Family, form: str, event: Rows, answers: Sequence[str], **told: Sequence[str]) -> list[Pair]:
        """Pairs about events, whose prompts hold what is `told` beside each."""
        item = self._written
        write = self.writing.drawn(rng, templates(family, form), len(event))
        start = np.maximum(event - self.place[event], event - self.config.max_history)
        found = []
        for row, (asked, user, begin, stop) in enumerate(zip(write, self._who(rng, event).tolist(), start.tolist(), event.tolist(), strict=True)):
            more = {name: values[row] for name, values in told.items()}
            found.append((asked(user, item[begin:stop], item=item[stop], told=more), answers[row]))
        return found

    def _events(self, rng: np.random.Generator, number: float, usable: npt.NDArray[np.bool_]) -> Rows:
        event = np.flatnonzero(usable)
        return np.repeat(event, _times(rng, number * self.config.scale, len(event)))

    def _learned(self, rng: np.random.Generator, event: Rows) -> list[str]:
        """Ratings as they are learned."""
        value = self.ratings[event].astype(np.float64)
        if self.config.noise and len(value):
            mean, deviation = np.array([_NOISE[round(one)] for one in value.tolist()]).T
            value = np.clip(rng.normal(mean, deviation), 1, 5)
        return [self.writing.stars(one) for one in value]

    def _texts(self, name: str) -> list[str]:
        """One text an event of an event field, "" where there is none."""
        if name not in self._fields:
            fields = self.data.event_fields
            given = clean(fields[name].cast(pl.String)).fill_null("").to_list() if name in fields.columns else [""] * self.data.n_events
            self._fields[name] = given
        return self._fields[name]

    @cached_property
    def _fields(self) -> dict[str, list[str]]:
        return {}

    def _sentence(self, rng: np.random.Generator, review: str) -> str:
        """One sentence of a review that says something, or its beginning."""
        sentences = [one for one in _SENTENCE.split(review) if len(one.split()) >= _LEAST_WORDS] or [review]
        return self.writing.short(sentences[int(rng.integers(len(sentences)))], self.config.words)


def _times(rng: np.random.Generator, number: float, n: int) -> Rows:
    """int64[n], how often each of n is drawn so that it is `number` on average."""
    return int(number) + (rng.random(n) < number % 1).astype(np.int64)
