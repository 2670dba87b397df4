"""`tongtu compare`: the table and report of an experiment file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tongtu.evaluation.runs import Outcome

_METRICS = ("recall@10", "ndcg@10", "mrr@10", "coverage@10")
_IMPRESSIONS = ("auc", "ndcg@10", "mrr", "ndcg@5")
_COSTS = ("fit", "ms/request", "memory", "parameters")


def compare(
    experiment: Annotated[Path, typer.Argument(help="An experiment file in TOML.")],
    out: Annotated[Path, typer.Option(help="The comparison's folder; what is in it already is not done again.")],
    workers: Annotated[int, typer.Option(min=1, help="How many systems to fit at a time; with more than one, times tell less.")] = 1,
) -> None:
    """Search, fit and judge every system of an experiment, and write results.json, users.parquet and report.html.

    Each step runs in a process of its own. Started again after an interruption, it goes on where it stopped.
    """
    import tongtu.systems
    from tongtu.evaluation.experiment import read_experiment

    run(read_experiment(experiment, tongtu.systems), out, f"tongtu compare {experiment} --out {out}", workers)


def run(experiment: Any, out: Path, command: str, workers: int = 1) -> dict[str, Any]:
    """Run an `Experiment` as the command does, print the table, write the report, and return the results.

    Args:
        experiment: What to compare.
        out: The comparison's folder.
        command: What a reader of the report types to repeat it.
        workers: How many systems to fit at a time.
    """
    import tongtu.systems
    from tongtu.evaluation.compare import compare as work
    from tongtu.report import write_report
    from tongtu.scale.local import LocalEngine
    from tongtu.scale.worker import isolated

    results = work(experiment, out, tongtu.systems, isolated, LocalEngine(workers), _tell)
    write_report(results | {"command": command}, out / "report.html")
    show(results)
    print(f"results: {out / 'results.json'}\nreport:  {out / 'report.html'}")
    return results


def show(results: dict[str, Any]) -> None:
    """Print the table of a comparison."""
    from tongtu.cli.output import note, table

    done = [row for row in results["systems"] if row["status"] == "done"]
    best = max(row["metrics"]["ndcg@10"] for row in done)
    metrics = _IMPRESSIONS if "auc" in done[0]["metrics"] else _METRICS
    columns = ("system", *metrics, *_COSTS)
    lines = [_cells(row, best, metrics) for row in sorted(done, key=lambda row: -row["metrics"]["ndcg@10"])]
    cases, protocol = results["data"]["test_cases"], results["protocol"]["name"]
    seeds = len(results["seeds"])
    title = f"{results['name']}: {protocol}, {cases:,} cases, {seeds} seed{'s' if seeds > 1 else ''}, sorted by ndcg@10"
    table(columns, lines, title=title, right=columns[1:])
    _show_answering(done)
    for row in results["systems"]:
        if row["status"] == "failed":
            note(f"failed: {row['label']}: {row['error']}")


def _show_answering(done: Sequence[dict[str, Any]]) -> None:
    """What language models cost and did, for one request on average."""
    from tongtu.cli.output import note, table
    from tongtu.report.analyses import answering

    found = answering(done)
    if found is not None:
        lines = [[label, *(text for _, text in cells)] for label, cells in found["rows"]]
        table(["system", *found["names"]], lines, title="language models, a request", right=found["names"])
    for row in done:
        if row.get("answering", {}).get("degraded"):
            note(f"warning: {row['label']}: {row['answering']['degraded']:.0%} of the answers came without the language model, which failed")


def _cells(row: dict[str, Any], best: float, metrics: Sequence[str]) -> list[str]:
    figures = row["metrics"]
    low, high = row["interval"]["ndcg@10"]
    mark = " *" if figures["ndcg@10"] == best else "  "
    memory, parameters = row["peak_memory_mb"], row["parameters"]
    return [
        row["label"],
        *(_figure(name, figures[name]) if name != "ndcg@10" else f"{figures[name]:.4f} [{low:.4f}, {high:.4f}]{mark}" for name in metrics),
        f"{row['fit_seconds']:,.1f} s",
        f"{row['ms_per_request']:,.2f}" if row["ms_per_request"] < 100 else f"{row['ms_per_request']:,.0f}",
        "" if memory is None else f"{memory:,.0f} MB",
        "" if parameters is None else f"{parameters:,}",
    ]


def _figure(name: str, value: float) -> str:
    return f"{value:.1%}" if name.startswith("coverage") else f"{value:.4f}"


def _tell(outcome: Outcome) -> None:
    from tongtu.cli.output import note

    if outcome.error is not None:
        note(f"{outcome.task}: failed: {outcome.error}")
    elif outcome.kept:
        note(f"{outcome.task}: kept from before")
    else:
        note(f"{outcome.task}: {outcome.seconds:,.1f} s")
