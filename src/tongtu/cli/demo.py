"""`tongtu demo`: the whole road on a real data set."""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Where results and report go; what is there already is not done again.")] = Path("demo"),
    full: Annotated[bool, typer.Option("--full", help="Train to the end and with three seeds, and ask the language model about 200 users.")] = False,
) -> None:
    """Fetch MovieLens-100K, compare every system on it, then a language model that is only asked, and write a report of each."""
    import tongtu.systems
    from tongtu.cli.compare import run
    from tongtu.cli.data import stats
    from tongtu.cli.output import note
    from tongtu.config import read_toml
    from tongtu.data.public import load
    from tongtu.evaluation.experiment import experiment_from

    started = time.monotonic()
    file = Path(__file__).with_name("demo-full.toml" if full else "demo.toml")
    values = _installed(read_toml(file))
    data = load(values["data"])
    note(f"data: {time.monotonic() - started:,.1f} s, {data!r}")
    stats(Path(values["data"]))
    command = f"tongtu demo --out {out}{' --full' if full else ''}"
    run(experiment_from(values, tongtu.systems, str(file)), out, command, _workers())
    _prompted(out / "prompted", full)
    print(f"all:     {time.monotonic() - started:,.0f} s")


def _prompted(out: Path, full: bool) -> None:
    """The comparison that asks a language model: slow, so of a few users, and with all threads for one system."""
    import tongtu.systems
    from tongtu.cli.compare import run
    from tongtu.cli.output import note
    from tongtu.config import read_toml
    from tongtu.evaluation.experiment import experiment_from

    if find_spec("gguf") is None:
        note("left out: LLMRank, whose language model needs pip install 'tongtu[llm]'")
        return
    file = Path(__file__).with_name("demo-prompted-full.toml" if full else "demo-prompted.toml")
    run(experiment_from(read_toml(file), tongtu.systems, str(file)), out, f"tongtu demo --out {out.parent}{' --full' if full else ''}")


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
