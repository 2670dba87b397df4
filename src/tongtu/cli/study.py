"""`tongtu study`: language models on the five tasks, with what costs nothing beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tongtu.evaluation.study import Asked

_SHOWN = {
    "rating": ("rmse", "mae"),
    "sequential": ("hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10"),
    "direct": ("hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10"),
    "explanation": ("bleu-1", "bleu-4", "rouge-1", "rouge-2", "rouge-l"),
    "summary": ("bleu-1", "bleu-4", "rouge-1", "rouge-2", "rouge-l"),
}
_SURE = {"rmse", "mae", "hr@10", "ndcg@10", "rouge-1", "rouge-l"}  # shown with their intervals; study.json has all
_HABITS = ("outside", "repeated", "seen")


def study(
    experiment: Annotated[Path, typer.Argument(help="A study's file in TOML: data, llm, tasks, shots, users, [settings].")],
    out: Annotated[Path, typer.Option(help="Where study.json and cases.parquet go.")],
) -> None:
    """Ask language models about ratings, next items, candidates, explanations and summaries, and measure their answers.

    Answers are kept in the cache: started again after an interruption, it goes on where it stopped.
    """
    import dataclasses

    from tongtu.cli.output import note
    from tongtu.config import build, plain
    from tongtu.evaluation.compare import environment
    from tongtu.evaluation.study import ask, facts, read_study, sample
    from tongtu.evaluation.study_tables import cases_table, tables
    from tongtu.files import new_file, write_json
    from tongtu.llm.ledger import Ledger
    from tongtu.llm.opening import open_language_model
    from tongtu.systems.prompted.fivetasks import FiveTasks

    wanted = read_study(experiment, FiveTasks.Config)
    drawn = sample(wanted)
    config = build(FiveTasks.Config, wanted.settings, f"{experiment}, settings")
    ledger = Ledger(wanted.price, wanted.budget)
    models = {name: FiveTasks(dataclasses.replace(config, llm=name), open_language_model(name, ledger)) for name in wanted.llm}
    note(f"{drawn.data!r}, {len(drawn.events)} of its users, texts {drawn.texts}")
    asked = ask(wanted, drawn, models, _tell)
    found = tables(wanted, drawn, asked)
    prompts = facts(wanted, drawn, next(iter(models.values())).versions)
    fingerprints = {name: model.model.fingerprint for name, model in models.items()}
    write_json(out / "study.json", {"format": 1, **prompts, "settings": plain(config), "models": fingerprints, "environment": environment(), "tasks": found})
    with new_file(out / "cases.parquet") as file:
        cases_table(drawn, asked).write_parquet(file)
    show(found, drawn.texts)
    print(f"figures: {out / 'study.json'}\nanswers: {out / 'cases.parquet'}")


def show(found: Mapping[Any, list[dict[str, Any]]], texts: str) -> None:
    """Print one table a task."""
    from tongtu.cli.output import table

    for task, rows in found.items():
        habits = [name for name in _HABITS if any(name in row for row in rows)]
        columns = ("who", "shots", *_SHOWN[task], "read", *habits, *(["items"] if habits else []), "tokens in", "out", "s", "price")
        title = f"{task}: {rows[0]['cases']} users, 95 % intervals over users, item texts {texts}"
        table(columns, [_cells(task, row, habits) for row in rows], title=title, right=columns[1:])


def _cells(task: str, row: dict[str, Any], habits: list[str]) -> list[str]:
    shots = "" if row["shots"] is None else str(row["shots"])
    figures = [_figure(name, row) for name in _SHOWN[task]]
    if "calls" not in row:
        return [row["label"], shots, *figures, *[""] * (len(habits) + bool(habits) + 5)]
    each = [f"{row[name] / row['calls']:,.1f}" for name in ("prompt_tokens", "completion_tokens", "seconds")]
    found = [*(f"{row[name]:.0%}" for name in habits), *([f"{row['items']:.1f}"] if habits else [])]
    return [row["label"], shots, *figures, f"{row['parsed']:.0%}", *found, *each, f"{row['price']:.4g}"]


def _figure(name: str, row: dict[str, Any]) -> str:
    value, (low, high) = row["metrics"][name], row["interval"][name]
    digits = 1 if name.startswith(("bleu", "rouge")) else 3
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]" if name in _SURE else f"{value:.{digits}f}"


def _tell(asked: Asked) -> None:
    from tongtu.cli.output import note

    seconds = sum(answer.seconds for answer in asked.answers)
    read = sum(answer.value is not None for answer in asked.answers)
    note(f"{asked.task}, {asked.label}, {asked.shots} shots: {read} of {len(asked.answers)} answers read, {seconds:,.0f} s of the model")
