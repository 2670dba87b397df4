"""What a language model can be asked about one event of a user, and how it answered: known to who writes the prompts and to who judges.

    rating       how many stars the user gave
    sequential   which item came next, out of everything: the model writes titles freely
    direct       which of the candidates it was
    explanation  why the user gave so many stars, against the review
    summary      the review in a few words, against the user's own headline

A case holds what came before its target and nothing of what came after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl

from tongtu.core import Codes, Offsets
from tongtu.data.dataset import Dataset
from tongtu.data.item_text import clean
from tongtu.data.splits import Cases
from tongtu.errors import DataError

Task = Literal["rating", "sequential", "direct", "explanation", "summary"]
TASKS: tuple[Task, ...] = get_args(Task)
NEEDED: dict[Task, tuple[str, ...]] = {
    "rating": ("rating",),
    "sequential": (),
    "direct": (),
    "explanation": ("rating", "review"),
    "summary": ("review", "summary"),
}
"""Event fields without which a task cannot be asked or judged."""

_NEWEST = 32


@dataclass(frozen=True)
class Event:
    """One event: the item's code, and the rating (None), review ("") and summary ("") where the log has them."""

    item: int
    rating: float | None = None
    review: str = ""
    summary: str = ""


@dataclass(frozen=True, eq=False)
class EventCase:
    """An event, and what came before it.

    Attributes:
        user: External id.
        history: The newest events before the target, oldest first.
        target: The event that is asked about.
        seen: int32, every item before the target.
        candidates: int32, among which the target stands; None where there are none.
    """

    user: str
    history: tuple[Event, ...]
    target: Event
    seen: Codes
    candidates: Codes | None = None


@dataclass(frozen=True)
class TaskAnswer:
    """What a model answered to one case.

    Attributes:
        prompt, text: As asked and answered.
        value: A rating, item codes (best first) or a text; None where nothing could be read from the answer.
        entries: Entries of a list; `outside` of them are no item that could be meant, `repeated` name one again and `seen` one of the history.
        prompt_tokens, tokens, seconds: See `tongtu.llm.model.Completion`.
    """

    prompt: str
    text: str
    value: float | tuple[int, ...] | str | None
    entries: int = 0
    outside: int = 0
    repeated: int = 0
    seen: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0


def require_fields(data: Dataset, tasks: Sequence[Task]) -> None:
    """Check that the log has what the tasks need.

    Raises:
        DataError: Naming the first field that is missing.
    """
    for task in tasks:
        for name in NEEDED[task]:
            if name not in data.event_fields.columns:
                option = "--rating COLUMN" if name == "rating" else f"--field {name}"
                raise DataError(f"{data.name} has no event field {name!r}, which the task {task} needs: import it with {option}, or leave the task out")


def event_cases(data: Dataset, cases: Cases) -> list[EventCase]:
    """Cases of a split of `data` with ratings and texts of the target and of the newest 32 events before it.

    Args:
        data: The whole log, out of which the cases were cut.
        cases: Each target is the event right after its history; candidates are taken from the requests.
    """
    requests = cases.requests
    first = np.maximum(requests.start, requests.stop - _NEWEST)
    users = data.users.ids.gather(cases.user.astype(np.int64) - 1).to_list()
    found = []
    for row, (user, start, stop) in enumerate(zip(users, first.tolist(), requests.stop.tolist(), strict=True)):
        *history, target = _events(data, np.arange(start, stop + 1))
        candidates = None if requests.candidates is None else requests.candidates[row]
        found.append(EventCase(user, tuple(history), target, data.item[requests.start[row] : stop], candidates))
    return found


def answerable(task: Task, cases: Sequence[EventCase]) -> list[int]:
    """Indices of the cases whose target has what the task needs."""
    return [row for row, case in enumerate(cases) if all(getattr(case.target, name) not in (None, "") for name in NEEDED[task])]


def _events(data: Dataset, place: Offsets) -> list[Event]:
    fields = data.event_fields
    rating = fields["rating"].gather(place).cast(pl.Float64).fill_nan(None).to_list() if "rating" in fields.columns else [None] * len(place)
    review, summary = (
        clean(fields[name].gather(place).cast(pl.String)).fill_null("").to_list() if name in fields.columns else [""] * len(place)
        for name in ("review", "summary")
    )
    return [Event(*parts) for parts in zip(data.item[place].tolist(), rating, review, summary, strict=True)]
