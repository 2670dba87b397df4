"""`tongtu demo`: the whole road on a real data set."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer


@dataclass(frozen=True)
class Part:
    """A comparison of the demo.

    Attributes:
        file: The experiment is `demo{file}.toml`, and with --full `demo{file}-full.toml`.
        folder: Where its results go, within those of the demo.
        workers: Systems that are fitted side by side, or None for as many as there are cores.
        package: An optional package without which there is nothing to compare, or "".
    """

    file: str
    folder: str
    workers: int | None = None
    package: str = ""


PARTS = (
    Part("", ""),
    Part("-wishes", "wishes"),
    Part("-new-users", "new-users"),
    Part("-prompted", "prompted", workers=1, package="gguf"),  # a language model is given all threads
)


def demo(
    out: Annotated[Path, typer.Option(help="Where results and reports go; what is there already is not done again.")] = Path("demo"),
    full: Annotated[bool, typer.Option("--full", help="Train to the end and with three seeds, and ask the language model about 200 users.")] = False,
) -> None:
    """Fetch MovieLens-100K and compare every system on it, then those that hear wishes, those for new users, and a language model that is only asked."""
    from tongtu.cli.data import stats
    from tongtu.cli.output import note
    from tongtu.config import read_toml
    from tongtu.data.public import load

    started = time.monotonic()
    name = read_toml(file_of(PARTS[0], full))["data"]
    data = load(name)
    note(f"data: {time.monotonic() - started:,.1f} s, {data!r}")
    stats(Path(name))
    for part in PARTS:
        _compare(part, out, full)
    print(f"all:     {time.monotonic() - started:,.0f} s")


def file_of(part: Part, full: bool) -> Path:
    """The experiment file of a part."""
    return Path(__file__).with_name(f"demo{part.file}{'-full' if full else ''}.toml")


def _compare(part: Part, out: Path, full: bool) -> None:
    import tongtu.systems
    from tongtu.cli.compare import run
    from tongtu.cli.output import note
    from tongtu.config import read_toml
    from tongtu.evaluation.experiment import experiment_from

    if part.package and find_spec(part.package) is None:
        note(f"left out: the comparison {part.folder}, whose language model needs pip install 'tongtu[llm]'")
        return
    file = file_of(part, full)
    values = _installed(read_toml(file))
    command = f"tongtu demo --out {out}{' --full' if full else ''}"
    run(experiment_from(values, tongtu.systems, str(file)), out / part.folder, command, part.workers or _workers())


def _workers() -> int:
    """Small models gain little from a second thread, and lose much where threads contend: systems side by side use the cores better."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, cores)


def _installed(values: dict[str, Any]) -> dict[str, Any]:
    """The experiment without systems whose optional packages are absent, each of which is named."""
    from tongtu.cli.output import note
    from tongtu.systems import cards, missing_packages

    kept = []
    for one in values["systems"]:
        card = cards()[one["name"]]
        if missing_packages(card):
            note(f"left out: {card.title}, which needs pip install 'tongtu[{card.extra}]'")
        else:
            kept.append(one)
    return values | {"systems": kept}
