"""From a log to instructions and their answers, drawn anew each epoch.

Of its target a prompt tells what the user asks for (its category, or what their review says they wanted) and nothing more, and that only where
the instruction is one with an intention; of the user it tells what came strictly before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tongtu.config import configuration
from tongtu.core import Codes
from tongtu.data.dataset import Dataset
from tongtu.llm.wording import LONGEST_WISH, quoted
from tongtu.systems.prompted._templates import Words
from tongtu.systems.tuned._instruct_templates import FORMS, TEMPLATES, Form, Template
from tongtu.systems.tuned._taste import ItemFacts, taste
from tongtu.systems.tuned._wants import Wants

Pair = tuple[str, str]
Slot = tuple[str, str]
"""What stands in a slot of a prompt, and of an answer."""

_OTHERS = 3  # drawn for each item that is listed, since some are the user's own


@configuration
class Shares:
    """How often each form of instruction is drawn, against the others; 0 leaves a form out.

    Attributes:
        pointwise, pairwise, matching, reranking: Yes or no, one of two, any item, one of those listed.
        turned: From the item to the words that led to it (first diversification).
        reasoned: The answer says taste and wish before the item (third diversification).
    """

    pointwise: Annotated[float, Field(ge=0)] = 0.5
    pairwise: Annotated[float, Field(ge=0)] = 0.5
    matching: Annotated[float, Field(ge=0)] = 3.0
    reranking: Annotated[float, Field(ge=0)] = 1.0
    turned: Annotated[float, Field(ge=0)] = 0.5
    reasoned: Annotated[float, Field(ge=0)] = 0.5

    def __post_init__(self) -> None:
        if not sum(getattr(self, form) for form in FORMS) > 0:
            raise ValueError("at least one share must be above 0")


@configuration
class Instructing:
    """How instructions are drawn.

    Attributes:
        per_user: Targets of each user in an epoch.
        listed: Items that a reranking instruction lists.
        related: A vague wish beside a history or a taste is one that they hold as well (second diversification).
        shares: Of the forms.
    """

    per_user: Annotated[int, Field(ge=1)] = 4
    listed: Annotated[int, Field(ge=2)] = 10
    related: bool = True
    shares: Shares = Field(default_factory=Shares)


@dataclass(frozen=True)
class Taught:
    """What a teacher wrote.

    Attributes:
        tastes: Of a user code: the event from which on it may be told, since it was made of what came before, and the text.
        wishes: What the user may have said before an event, by its place in the log.
    """

    tastes: dict[int, tuple[int, str]] = field(default_factory=dict)
    wishes: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """A log, what is known of its items, and what may be wished for.

    Attributes:
        quoted: The items' names by code, as they stand in prompts.
    """

    data: Dataset
    facts: ItemFacts
    wants: Wants
    quoted: tuple[str, ...]

    @classmethod
    def of(cls, data: Dataset, field: str, thing: str, longest: int) -> Self:
        """What is known of a log.

        Args:
            data: The log.
            field: Item field of the categories.
            thing: What an item without a title is called, before its id.
            longest: Letters of a name.

        Raises:
            DataError: If no item has a title or text.
        """
        wants = Wants(data, field)
        facts = ItemFacts.of(data, [wants.kinds(code) for code in range(data.items.size)], thing, longest)
        return cls(data, facts, wants, tuple(quoted(name, max(len(name), 1)) for name in facts.names))


class Instructions:
    """Draws instructions out of a log, all of which may be learned.

    Args:
        known: The log, its items and what may be wished for.
        config: How they are drawn.
        words: How the things are called.
        max_history: The newest events told.
        seed: Every draw follows from it and the epoch.
        taught: What a teacher wrote, or nothing.
    """

    def __init__(self, known: Known, config: Instructing, words: Words, max_history: int, seed: int, taught: Taught = Taught()) -> None:
        self.known, self.config, self.seed = known, config, seed
        self.max_history, self.taught = max_history, taught
        self.words = {"thing": words.thing, "things": words.things, "act": words.act, "acted": words.acted}
        self._templates: dict[Form, list[Template]] = {form: [one for one in TEMPLATES if one.form == form] for form in FORMS}

    def draw(self, epoch: int) -> list[Pair]:
        """The instructions and answers of an epoch; the same for the same seed and epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        place = self._targets(rng)
        shares = np.array([getattr(self.config.shares, form) for form in FORMS])
        forms = rng.choice(len(FORMS), len(place), p=shares / shares.sum())
        others = self._others(rng, len(place))
        pairs = (self._pair(Event(self, int(at), other, rng), FORMS[form]) for at, form, other in zip(place, forms, others, strict=True))
        return [pair for pair in pairs if pair is not None]

    def _targets(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Places in the log of an epoch's targets: of each user so many, with something before them where there is anything."""
        data = self.known.data
        met = data.lengths > 0
        start, length = data.offset[:-1][met, None], data.lengths[met, None]
        before = np.minimum(length - 1, 1)
        drawn = start + before + (rng.random((len(start), self.config.per_user)) * (length - before)).astype(np.int64)
        return np.concatenate([drawn.ravel(), np.fromiter(self.taught.wishes, np.int64, len(self.taught.wishes))])

    def _others(self, rng: np.random.Generator, n: int) -> Codes:
        """Items int32[n, 3 * listed] to set beside a target, in turn that of a random event and any: frequent items shall be wrong as often as right."""
        data, width = self.known.data, _OTHERS * self.config.listed
        drawn = rng.integers(1, data.items.size, (n, width), dtype=np.int32)
        drawn[:, ::2] = data.item[rng.integers(0, data.n_events, drawn[:, ::2].shape)]
        return drawn

    def _pair(self, event: Event, form: Form) -> Pair | None:
        """An instruction of this form about an event, by one of the templates whose slots can be filled; None if there is none."""
        templates = self._templates[form]
        for number in event.rng.permutation(len(templates)):
            template = templates[number]
            filled = event.filled(template)
            if filled is not None:
                asked = template.prompt.format(**self.words, **{name: slot[0] for name, slot in filled.items()})
                return asked, template.answer.format(**self.words, **{name: slot[1] for name, slot in filled.items()})
        return None


class Event:
    """A target, and what can be told of it and of what came before.

    Args:
        source: Who draws.
        place: Of the target, in the log.
        others: Items to set beside it, as they are drawn.
        rng: Of the draws about this event.
    """

    def __init__(self, source: Instructions, place: int, others: Codes, rng: np.random.Generator) -> None:
        self.source, self.place, self.rng = source, place, rng
        data = source.known.data
        self.user, self.target = int(data.event_user[place]), int(data.item[place])
        self.history: list[int] = data.item[max(int(data.offset[self.user - 1]), place - source.max_history) : place].tolist()
        self._drawn = others
        self._filled: dict[str, Slot | None] = {}

    def filled(self, template: Template) -> dict[str, Slot] | None:
        """What stands in each slot of a template; None if there is nothing for one of them."""
        related = self.source.config.related and template.preference != "none"
        found: dict[str, Slot] = {}
        for name in sorted(template.slots - self.source.words.keys()):
            key = "held" if name == "vague" and related else name
            if key not in self._filled:
                self._filled[key] = _SLOTS[key](self)
            slot = self._filled[key]
            if slot is None:
                return None
            found[name] = slot
        return found

    def others(self, most: int) -> list[int]:
        """At most so many items that the user never met."""
        data = self.source.known.data
        own = set(data.history(self.user).tolist())
        return list(dict.fromkeys(code for code in self._drawn.tolist() if code not in own))[:most]

    @cached_property
    def asked(self) -> int | None:
        """The target or another item, as often this as that; None if there is no other."""
        other = self.others(1)
        return None if not other else self.target if self.rng.random() < 0.5 else other[0]

    @cached_property
    def two(self) -> list[int]:
        """The target and another item in any order; the target alone if there is no other."""
        codes = [self.target, *self.others(1)]
        return codes if self.rng.random() < 0.5 else codes[::-1]

    def name(self, code: int) -> Slot:
        """An item's name, quoted and as it is."""
        known = self.source.known
        return known.quoted[code], known.facts.names[code]


def _history(event: Event) -> Slot | None:
    return (", ".join(event.source.known.quoted[code] for code in event.history), "") if event.history else None


def _taste(event: Event) -> Slot | None:
    """By the teacher where it wrote of what came before, and half of the time by rules all the same, as at the time of asking."""
    own = taste(event.source.known.facts, event.history)
    since, written = event.source.taught.tastes.get(event.user, (event.place + 1, ""))
    return _words(written if since <= event.place and (not own or event.rng.random() < 0.5) else own)


def _specific(event: Event) -> Slot | None:
    return _words(event.source.known.wants.specific(event.target, event.rng.random()))


def _vague(event: Event, held: frozenset[int] | None = None) -> Slot | None:
    """What the teacher wrote, else what the review says, else a broad category."""
    wants, draws = event.source.known.wants, (event.rng.random(), event.rng.random())
    said = event.source.taught.wishes.get(event.place) or wants.said(event.place, event.target)
    return _words(said or wants.vague(event.target, draws, held))


def _held(event: Event) -> Slot | None:
    """A vague wish; a category must be one that the history has."""
    return _vague(event, event.source.known.wants.held(event.history))


def _verdict(event: Event) -> Slot | None:
    if event.asked is None:
        return None
    verdict = "yes" if event.asked == event.target else "no"
    return verdict, verdict


def _named(place: str) -> Callable[[Event], Slot | None]:
    """One of two, by its place."""
    return lambda event: event.name(event.two[("first", "second").index(place)]) if len(event.two) == 2 else None


def _candidates(event: Event) -> Slot | None:
    listed = event.rng.permutation([event.target, *event.others(event.source.config.listed - 1)]).tolist()
    return (", ".join(event.source.known.quoted[code] for code in listed), "") if len(listed) > 1 else None


def _words(text: str) -> Slot | None:
    return (quoted(text, LONGEST_WISH), text) if text else None


_SLOTS: Mapping[str, Callable[[Event], Slot | None]] = {
    "history": _history,
    "taste": _taste,
    "specific": _specific,
    "vague": _vague,
    "held": _held,
    "item": lambda event: None if event.asked is None else event.name(event.asked),
    "verdict": _verdict,
    "target": lambda event: event.name(event.target),
    "first": _named("first"),
    "second": _named("second"),
    "candidates": _candidates,
}
