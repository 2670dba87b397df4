"""A study of language models on the five tasks of `tongtu.llm.tasks`: who is asked what, what came of it, and what costs nothing beside it.

    name = "five tasks on ml-100k"
    data = "ml-100k"                # a known public set or a data set folder
    llm = ["smollm2"]               # one or several
    tasks = ["rating", "sequential", "direct"]
    shots = [0, 3]                  # examples in the prompt
    users = 50

    [settings]                      # of the prompts: see `FiveTasks.Config`
    items = "films"

Each user's last event is the target. Items, users and candidates are drawn by the seed, before any model is asked. Answers are
cached, so a study that was cut off goes on where it stood. What cannot be read counts: see `UNPARSED`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from tongtu.config import build, configuration, nearest, plain, read_toml
from tongtu.core import Codes
from tongtu.data.dataset import Dataset
from tongtu.data.item_text import from_events
from tongtu.data.public import load
from tongtu.data.splits import Cases
from tongtu.errors import ConfigError, DataError
from tongtu.evaluation.protocol import EvalProtocol
from tongtu.evaluation.task_metrics import bleu_and_rouge
from tongtu.llm.ledger import Budget, Price
from tongtu.llm.tasks import TASKS, EventCase, Task, TaskAnswer, answerable, event_cases, require_fields

UNPARSED = "a rating is taken to be the training mean, a list and a text to be empty; all of them count"
_MADE = "made from training summaries"


@configuration
class Study:
    """What a study does.

    Attributes:
        name: What to call it.
        data: A public data set's name or a data set folder.
        llm: Language models, each asked everything.
        tasks: Which.
        shots: Numbers of examples, each tried.
        users: How many are drawn and asked about.
        negatives: Unseen items beside the target in direct recommendation.
        texts: "catalogue" takes the items' own; "summaries" makes them from the summaries of the training events, for logs
            of reviews without titles, which every result then says.
        settings: Of the prompts.
        price: Of a million tokens.
        budget: The most that may be spent.
        seed: Of users, candidates and intervals.
    """

    name: str
    data: str
    llm: tuple[str, ...] = ("smollm2",)
    tasks: tuple[Task, ...] = TASKS
    shots: tuple[int, ...] = (0, 3)
    users: int = Field(50, ge=2)
    negatives: int = Field(19, ge=1)
    texts: Literal["catalogue", "summaries"] = "catalogue"
    settings: dict[str, Any] = Field(default_factory=dict)
    price: Price = Field(default_factory=Price)
    budget: Budget = Field(default_factory=Budget)
    seed: int = Field(0, ge=0)

    @field_validator("llm", "tasks", "shots", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | int) else value

    @field_validator("llm", "tasks", "shots")
    @classmethod
    def _each_once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value or len(set(value)) != len(value) or min((one for one in value if isinstance(one, int)), default=0) < 0:
            raise ValueError("must name at least one, each once, and no negative number")
        return value


class Studied(Protocol):
    """A language model with its prompts: `FiveTasks`, or anything like it."""

    @property
    def versions(self) -> Mapping[Task, str]: ...
    def fit(self, train: Dataset) -> Studied: ...
    def answer(self, task: Task, cases: Sequence[EventCase], shots: int = 0) -> list[TaskAnswer]: ...


@dataclass(frozen=True, eq=False)
class Sample:
    """Who is asked about, and what may be known of everybody.

    Attributes:
        data: The whole log.
        train: Without anybody's last event, with the texts of the study.
        cases: The drawn users' last events, with candidates.
        events: The same with ratings and texts.
        texts: Where the items' texts come from.
    """

    data: Dataset
    train: Dataset
    cases: Cases
    events: list[EventCase]
    texts: str


@dataclass(frozen=True, eq=False)
class Asked:
    """One row of a table: a model, or something that costs nothing, on one task; `shots` is None where there are none."""

    task: Task
    label: str
    shots: int | None
    rows: list[int]
    answers: list[TaskAnswer]


def read_study(path: Path, settings: type[Any]) -> Study:
    """Read and check a study's file.

    Args:
        path: A TOML file.
        settings: The `Config` that its [settings] must fit.

    Raises:
        ConfigError: Naming what is wrong and the nearest known word.
    """
    return study_from(read_toml(path), settings, str(path))


def study_from(values: Mapping[str, Any], settings: type[Any], where: str = "study") -> Study:
    """A study from plain values, as `read_study` checks it."""
    named = values.get("tasks", ())
    for task in (named,) if isinstance(named, str) else named:
        if task not in TASKS:
            raise ConfigError(f"{where}: no task {task!r}, {nearest(str(task), TASKS)}")
    study = build(Study, values, where)
    if "llm" in study.settings:
        raise ConfigError(f"{where}: llm stands above [settings], so that several models can be asked: move it there")
    build(settings, study.settings, f"{where}, settings")
    return study


def sample(study: Study) -> Sample:
    """Draw users and candidates and take their last events away from what may be known.

    Raises:
        DataError: If the log lacks what a task needs.
        MissingExtra: If texts are to be compared and the packages for it are absent: this is told before any model is asked.
    """
    data = load(study.data)
    require_fields(data, study.tasks)
    if not {"explanation", "summary"}.isdisjoint(study.tasks):
        bleu_and_rouge()
    protocol = EvalProtocol(name="five-tasks", users=study.users, candidates=f"uniform-{study.negatives}", seed=study.seed)
    cases, train = protocol.split(data).test, protocol.without_test(data)
    texts = "of the catalogue"
    if study.texts == "summaries":
        train, texts = _with_made_texts(train), _MADE
    if not (train.item_text != "").any():
        raise DataError(f'{data.name} has no item texts, without which nobody can ask about an item: import a catalogue, or set texts = "summaries"')
    return Sample(data, train, cases, event_cases(data, cases), texts)


def ask(study: Study, drawn: Sample, models: Mapping[str, Studied], tell: Callable[[Asked], None] | None = None) -> list[Asked]:
    """Ask every model everything.

    Args:
        study: What is asked.
        drawn: About whom.
        models: By name, each fitted on `drawn.train` here.
        tell: Hears of each row when it is there.
    """
    found = []
    for name, model in models.items():
        model.fit(drawn.train)
        for task in study.tasks:
            rows = answerable(task, drawn.events)
            if not rows:
                raise DataError(f"{drawn.data.name}: no drawn user's last event has what the task {task} needs: draw more users, or leave the task out")
            for shots in study.shots:
                asked = Asked(task, name, shots, rows, model.answer(task, [drawn.events[row] for row in rows], shots))
                found.append(asked)
                if tell is not None:
                    tell(asked)
    return found


def facts(study: Study, drawn: Sample, versions: Mapping[Task, str]) -> dict[str, Any]:
    """What every number of the study depends on, besides the models."""
    data = drawn.data
    return {
        "name": study.name,
        "study": plain(study),
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "users": len(data.users),
            "items": len(data.items),
            "events": data.n_events,
            "texts": drawn.texts,
        },
        "protocol": {
            "split": "each user's last event is the target, and training is everything but these",
            "users": [case.user for case in drawn.events],
            "candidates": f"the target among {study.negatives} unseen items, drawn uniformly; their order tells nothing",
            "unparsed": UNPARSED,
            "interval": "95 %, bootstrap over users",
            "seed": study.seed,
        },
        "templates": {task: versions[task] for task in study.tasks},
    }


def users_of(drawn: Sample, rows: Sequence[int]) -> Codes:
    """int32[rows], the user code of each case."""
    return drawn.cases.user[np.asarray(rows, np.int64)]


def _with_made_texts(train: Dataset) -> Dataset:
    if "summary" not in train.event_fields.columns:
        raise DataError(f'{train.name} has no event field "summary" to make texts from: import it with --field summary')
    made = from_events(pl.Series(train.item), train.event_fields["summary"], len(train.items))
    return dataclasses.replace(train, item_text=made.rename("text"), item_fields=pl.DataFrame())
