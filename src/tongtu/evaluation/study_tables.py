"""From the answers of a study to its tables: metrics with intervals, what was made up, what it cost, and what costs nothing beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from tongtu.candidates import MostPopular
from tongtu.core import Offsets
from tongtu.data.dataset import Dataset
from tongtu.evaluation.metrics import MISS, Values
from tongtu.evaluation.study import Asked, Sample, Study, users_of
from tongtu.evaluation.task_metrics import CUTOFFS, Measure, chance, ranks, ratings, texts
from tongtu.llm.ledger import Ledger, Price
from tongtu.llm.tasks import EventCase, Task, answerable
from tongtu.ranking import target_ranks

_WORDS = 4  # of a review that the simplest summary repeats


def tables(study: Study, drawn: Sample, asked: Sequence[Asked]) -> dict[Task, list[dict[str, Any]]]:
    """One table a task, a row a model and number of examples; first what costs nothing.

    Raises:
        MissingExtra: If texts are to be compared and the packages for it are absent.
    """
    found: dict[Task, list[dict[str, Any]]] = {}
    for task in study.tasks:
        rows = answerable(task, drawn.events)
        found[task] = [_row(label, None, measure, drawn, rows, study.seed) for label, measure in _baselines(task, drawn, rows).items()]
        for one in asked:
            if one.task == task:
                row = _row(one.label, one.shots, measured(one, drawn), drawn, one.rows, study.seed)
                found[task].append(row | _habits(one) | _cost(one, study.price))
    return found


def cases_table(drawn: Sample, asked: Sequence[Asked]) -> pl.DataFrame:
    """Every question and answer, with external ids, for a person to read."""
    return pl.concat([_case_rows(drawn, one) for one in asked])


def measured(one: Asked, drawn: Sample) -> Measure:
    """What the answers of one row are worth."""
    cases = [drawn.events[row] for row in one.rows]
    if one.task == "rating":
        mean = _mean(drawn.train)
        return ratings(np.array([mean if answer.value is None else answer.value for answer in one.answers], np.float64), _given(cases))
    if one.task in ("explanation", "summary"):
        return texts([str(answer.value or "") for answer in one.answers], _references(one.task, cases))
    return ranks(_ranks(one, cases))


def _baselines(task: Task, drawn: Sample, rows: list[int]) -> dict[str, Measure]:
    cases = [drawn.events[row] for row in rows]
    if task == "rating":
        return _rating_baselines(drawn, rows, cases)
    if task in ("explanation", "summary"):
        return _text_baselines(task, drawn.train, cases)
    requests = drawn.cases.take(np.asarray(rows, np.int64)).requests
    if task == "sequential":
        requests = dataclasses.replace(requests, candidates=None)
    train = drawn.train
    targets = np.array([case.target.item for case in cases], np.int32)
    place = target_ranks(MostPopular(train.items, train.item_counts, max(CUTOFFS)), requests, targets)
    found = {"Popular": ranks(np.where(place > len(train.items), MISS, place))}
    if task == "direct":
        counts = np.array([0 if case.candidates is None else len(case.candidates) for case in cases])
        found = {"random order, on average": chance(counts), **found}
    return found


def _rating_baselines(drawn: Sample, rows: list[int], cases: list[EventCase]) -> dict[str, Measure]:
    """Means of everybody, of the user and of the item; who has none gets everybody's."""
    train, given, mean = drawn.train, _given(cases), _mean(drawn.train)
    rating = train.ratings
    assert rating is not None
    known = ~np.isnan(rating)

    def means(codes: Any, size: int) -> Values:
        count = np.bincount(codes[known], minlength=size)
        return np.where(count > 0, np.bincount(codes[known], rating[known], size) / np.maximum(count, 1), mean)

    user = means(train.event_user, train.users.size)[users_of(drawn, rows)]
    item = means(train.item, train.items.size)[[case.target.item for case in cases]]
    return {name: ratings(np.broadcast_to(value, given.shape), given) for name, value in (("global mean", mean), ("user mean", user), ("item mean", item))}


def _text_baselines(task: Task, train: Dataset, cases: list[EventCase]) -> dict[str, Measure]:
    references = _references(task, cases)
    found = {}
    if "summary" in train.event_fields.columns:
        kinds = train.event_fields["summary"].drop_nulls().str.strip_chars().value_counts(sort=False).sort(["count", "summary"], descending=[True, False])
        usual = str(kinds["summary"][0]) if kinds.height else ""
        found[f'always "{usual}"'] = texts([usual] * len(cases), references)
    if task == "summary":
        found[f"first {_WORDS} words of the review"] = texts([" ".join(case.target.review.split()[:_WORDS]) for case in cases], references)
    else:
        found["the item's text"] = texts([train.item_text[case.target.item - 1] for case in cases], references)
    return found


def _row(label: str, shots: int | None, measure: Measure, drawn: Sample, rows: list[int], seed: int) -> dict[str, Any]:
    interval = measure.interval(users_of(drawn, rows), seed)
    return {"label": label, "shots": shots, "cases": len(rows), "texts": drawn.texts, "metrics": measure.metrics(), "interval": interval}


def _habits(one: Asked) -> dict[str, Any]:
    """What can be read, and what lists hold that they should not, as shares of their entries."""
    answers = one.answers
    found: dict[str, Any] = {"parsed": float(np.mean([answer.value is not None for answer in answers]))}
    if one.task in ("sequential", "direct"):
        entries = sum(answer.entries for answer in answers)
        for name in ("outside", "repeated", "seen"):
            found[name] = sum(getattr(answer, name) for answer in answers) / max(entries, 1)
        found["items"] = float(np.mean([len(answer.value) if isinstance(answer.value, tuple) else 0 for answer in answers]))
    return found


def _cost(one: Asked, price: Price) -> dict[str, float]:
    """Of all answers of the row, as if none had been in the cache."""
    ledger = Ledger(price)
    for answer in one.answers:
        ledger.add(1, answer.prompt_tokens, answer.tokens, answer.seconds)
    return {name: value for name, value in ledger.facts().items() if name != "cached"}


def _ranks(one: Asked, cases: list[EventCase]) -> Offsets:
    found = np.full(len(cases), MISS, np.int64)
    for row, (answer, case) in enumerate(zip(one.answers, cases, strict=True)):
        if isinstance(answer.value, tuple) and case.target.item in answer.value:
            found[row] = answer.value.index(case.target.item) + 1
    return found


def _case_rows(drawn: Sample, one: Asked) -> pl.DataFrame:
    cases = [drawn.events[row] for row in one.rows]
    items, answers = drawn.data.items, one.answers
    lists = one.task in ("sequential", "direct")
    named = [items.ids[case.target.item - 1] for case in cases]
    place = _ranks(one, cases) if lists else np.full(len(cases), MISS, np.int64)
    return pl.DataFrame(
        {
            "task": [one.task] * len(cases),
            "model": one.label,
            "shots": one.shots,
            "user": [case.user for case in cases],
            "item": named,
            "prompt": [answer.prompt for answer in answers],
            "answer": [answer.text for answer in answers],
            "parsed": [answer.value is not None for answer in answers],
            "value": [_shown(answer.value, drawn) for answer in answers],
            "target": named if lists else [f"{case.target.rating:g}" for case in cases] if one.task == "rating" else _references(one.task, cases),
            "rank": [None if rank == MISS else int(rank) for rank in place],
            "prompt_tokens": [answer.prompt_tokens for answer in answers],
            "completion_tokens": [answer.tokens for answer in answers],
        },
        schema_overrides={"rank": pl.Int64, "shots": pl.Int64, "value": pl.String},
    )


def _shown(value: float | tuple[int, ...] | str | None, drawn: Sample) -> str | None:
    if isinstance(value, tuple):
        return " ".join(drawn.data.items.decode(np.array(value, np.int32)))
    return value if value is None or isinstance(value, str) else f"{value:g}"


def _references(task: Task, cases: Sequence[EventCase]) -> list[str]:
    return [case.target.review if task == "explanation" else case.target.summary for case in cases]


def _given(cases: Sequence[EventCase]) -> Values:
    return np.array([case.target.rating for case in cases], np.float64)


def _mean(train: Dataset) -> float:
    rating = train.ratings
    assert rating is not None
    return float(np.nanmean(rating))
