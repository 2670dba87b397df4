"""`tongtu evaluate`: a fitted model on held-out events."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    import polars as pl

    from tongtu.core import Recommender
    from tongtu.data.dataset import Dataset
    from tongtu.evaluation.evaluate import Evaluation
    from tongtu.evaluation.protocol import EvalProtocol


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    data: Annotated[str, typer.Option(metavar="DIR|NAME", help="A data set folder, or the name of a public data set.")],
    protocol: Annotated[str, typer.Option(help="How to ask and judge.")] = "leave-one-out",
    json: Annotated[Path | None, typer.Option(help="Also write the figures to this file.")] = None,
    categories: Annotated[str | None, typer.Option(metavar="FIELD", help="Also measure lists by the categories in this item field.")] = None,
) -> None:
    """Measure a model on the test part of a data set, with 95 % intervals.

    Says so if the model was fitted on events that the test holds out: its figures are then too good to be true.
    """
    from tongtu.cli.output import note
    from tongtu.config import plain
    from tongtu.data.public import load
    from tongtu.evaluation.evaluate import evaluate as measure
    from tongtu.evaluation.protocol import protocol_from
    from tongtu.evaluation.runs import finite
    from tongtu.files import write_json
    from tongtu.hub import open_model

    rule = protocol_from(protocol)
    log = load(data)
    fitted = open_model(model)
    known = known_items(fitted, log)
    system = fitted if known == len(log.items) else for_items(fitted, log)
    split = rule.split(log)
    warning = held_out_warning(getattr(system, "provenance", {}), rule, log) if known else None
    if rule.wish is not None:
        note_deaf(system, model)
    found = measure(system, split.test, split.train, rule.cutoffs, rule.seed, quiet=False, categories=categories)
    _print(found, rule)
    for text in filter(None, (warning, _unknown(found.counts), _degraded(found))):
        note(text)
    if json is not None:
        record = {
            "model": str(model),
            "data": {"name": log.name, "fingerprint": log.fingerprint},
            "protocol": plain(rule) | {"fingerprint": rule.fingerprint(log)},
            "warning": warning,
            "metrics": found.metrics,
            "interval": found.interval,
            "slices": found.slices,
            "counts": found.counts,
            "answering": {name: value / found.counts["cases"] for name, value in found.notes.items()},
            "ms_per_request": found.ms_per_request,
        }
        write_json(json, finite(record))


def hears(system: Recommender) -> bool:
    """Whether the system heeds wishes."""
    from tongtu.core import Hears

    return isinstance(system, Hears) and system.hears_wishes


def note_deaf(system: Recommender, model: Path) -> None:
    """Say so if the system does not hear wishes."""
    from tongtu.cli.output import note

    if not hears(system):
        remedy = f"tongtu fit filtered --set retriever={model} puts what fits a wish before its list"
        note(f"note: {type(system).__name__} does not hear wishes and goes by the history alone; {remedy}")


def known_items(system: Recommender, log: Dataset) -> int:
    """How many items of `log` the system has: by id, and by text where it reads texts, since ids like "17" stand in many catalogues."""
    from tongtu.core import Extends

    codes = system.items.encode(log.items.ids)
    known = codes != 0
    text: pl.Series | None = getattr(system, "item_text", None)
    if isinstance(system, Extends) and text is not None and known.any():
        known &= (text.gather(codes.clip(1) - 1) == log.item_text).to_numpy()
    return int(known.sum())


def for_items(system: Recommender, log: Dataset) -> Recommender:
    """The system with the catalogue of `log`, if it takes new items."""
    from tongtu.cli.output import note
    from tongtu.core import Extends

    if not isinstance(system, Extends):
        return system
    new = len(log.items) - known_items(system, log)
    if new:
        note(f"note: {new:,} of the {len(log.items):,} items are new to the model, which answers from their texts")
    return cast("Recommender", system.with_items(catalogue(log), keep=False))


def catalogue(log: Dataset) -> pl.DataFrame:
    """The items of a data set as `Extends.with_items` takes them."""
    import polars as pl

    return pl.DataFrame([log.items.ids, log.item_text.rename("text")])


def held_out_warning(provenance: Mapping[str, Any], rule: EvalProtocol, log: Dataset) -> str | None:
    """What must be said if the model may have learned from the events it is now asked about, or None."""
    learned = provenance.get("trained_on")
    if not learned:
        return "warning: the model does not say what it was fitted on, so nobody can tell whether it has seen the test events"
    if learned["data"] in (rule.split(log).train.fingerprint, rule.without_test(log).fingerprint):
        return None
    if learned["data"] == log.fingerprint:
        return (
            "warning: the model was fitted on the whole log, test events included: these figures are too good to be true; "
            "for honest ones fit it without --all-events"
        )
    return (
        f"warning: the model was fitted on other events than this protocol trains on ({learned['name']}, {learned['events']:,} events), "
        "perhaps on test events: compare its figures with nobody's"
    )


def _unknown(counts: Mapping[str, int]) -> str | None:
    if not counts["unknown_targets"] and not counts["unknown_history_events"]:
        return None
    targets, events = counts["unknown_targets"], counts["unknown_history_events"]
    return f"note: the model does not know {targets:,} of {counts['cases']:,} targets, which are misses, nor {events:,} events of the histories"


def _degraded(found: Evaluation) -> str | None:
    share = found.notes.get("degraded", 0) / found.counts["cases"]
    return f"warning: {share:.0%} of the answers came without the language model, which failed" if share else None


def _print(found: Evaluation, rule: EvalProtocol) -> None:
    from tongtu.cli.output import table

    def cell(name: str) -> str:
        low, high = found.interval[name]
        return f"{found.metrics[name]:.4f}  [{low:.4f}, {high:.4f}]"

    title = f"{rule.name}, {found.counts['cases']:,} cases, {found.ms_per_request:.2f} ms a request"
    if found.judged is not None:
        table(["metric", "mean over impressions"], [[name, cell(name)] for name in found.judged], title=title, right=["mean over impressions"])
        return
    columns = ["cutoff", "recall", "NDCG", "MRR"]
    cells = [[str(k), cell(f"recall@{k}"), cell(f"ndcg@{k}"), cell(f"mrr@{k}")] for k in rule.cutoffs]
    table(columns, cells, title=title, right=columns)
    by_category = [name for name in found.interval if name.startswith("category_")]
    if by_category:
        table(["by category", "mean over users"], [[name, cell(name)] for name in by_category], right=["mean over users"])
    print(", ".join(f"{name} {value:.3f}" for name, value in found.metrics.items() if name not in found.interval))
