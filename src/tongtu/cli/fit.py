"""`tongtu fit`: train one system and write its model folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tongtu.data.splits import Split

_SLOW_USERS = 50  # who asks a language model for every list takes seconds a user


def fit(
    system: Annotated[str, typer.Argument(help="The system's name, as `tongtu systems` lists it.")],
    data: Annotated[str, typer.Option(metavar="DIR|NAME", help="A data set folder, or the name of a public data set.")],
    out: Annotated[Path, typer.Option(help="Where to write the model folder.")],
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting, say training.epochs=5; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Every random choice follows from it.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run of the same command stopped.")] = False,
    protocol: Annotated[str, typer.Option(help="What is held out, for validation and a later `tongtu evaluate`.")] = "leave-one-out",
    all_events: Annotated[bool, typer.Option("--all-events", help="Hold nothing out, for a model that goes into service; trains all its epochs.")] = False,
    tracker: Annotated[Path | None, typer.Option(help="Folder for TensorBoard event files.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the best there is if left out.")] = None,
) -> None:
    """Train a system. By default on the training part alone, with early stopping on validation, so that it can be evaluated honestly.

    While it trains, its state is kept beside OUT in OUT.checkpoint, and removed when the model is written.
    """
    from tongtu.config import parse_settings
    from tongtu.core import FitOptions, Scorer
    from tongtu.data.public import load
    from tongtu.data.splits import whole
    from tongtu.evaluation.evaluate import validator
    from tongtu.evaluation.protocol import protocol_from, trained_on
    from tongtu.hub import refuse_foreign
    from tongtu.systems import make

    refuse_foreign(out)
    _try_to_write(out)
    model: Any = make(system, parse_settings(settings or []))
    rule = protocol_from(protocol)
    log = load(data)
    split = whole(log) if all_events else rule.split(log)
    validate = validator(split.valid) if len(split.valid) else None
    kept = out.with_name(f"{out.name}.checkpoint")
    model.fit(split.train, FitOptions(seed=seed, validate=validate, checkpoint=kept, resume=resume, tracker=tracker, device=device))
    if os.environ.get("RANK", "0") != "0":  # under torchrun every process trains and one writes
        return
    model.provenance["trained_on"] = trained_on(log, split.train, None if all_events else rule)
    few = None if isinstance(model, Scorer) else min(_SLOW_USERS, len(split.valid))
    figures = validator(split.valid, few)(model) if validate else {}
    model.provenance["validation"] = figures | ({"users": few} if figures and few else {})
    model.save_pretrained(out)
    shutil.rmtree(kept, ignore_errors=True)
    _report(model.provenance, figures, out, few)
    _next_step(split, out, data, None if all_events else protocol)


def _try_to_write(out: Path) -> None:
    """Better now than after hours of training."""
    from tongtu.errors import writing

    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()


def _report(provenance: Mapping[str, Any], figures: Mapping[str, float], out: Path, users: int | None) -> None:
    facts = [f"fitted in {provenance['fit_seconds']:,.1f} s", f"{provenance['parameters']:,} parameters"]
    if provenance.get("epochs"):
        facts.append(f"epoch {provenance['epochs']:,} kept")
    print(", ".join(facts))
    if figures:
        print(f"validation{f' of {users} users' if users else ''}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    print(f"model: {out}")


def _next_step(split: Split, out: Path, data: str, protocol: str | None) -> None:
    """Commands that really work, with items of this data set."""
    history = ",".join(split.train.items.decode(split.train.item[:3]))
    commands = [f"tongtu recommend {out} --history {history}"]
    if protocol is not None:
        chosen = "" if protocol == "leave-one-out" else f" --protocol {protocol}"
        commands.insert(0, f"tongtu evaluate {out} --data {data}{chosen}")
    print("next: " + "\n      ".join(commands))
