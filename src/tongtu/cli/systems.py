"""`tongtu systems`: what there is to choose from."""

from __future__ import annotations

from importlib.util import find_spec


def systems() -> None:
    """Every system: its road, its paper, what it needs, and whether that is installed."""
    from tongtu.cli.output import table
    from tongtu.systems import cards

    rows = []
    for card in cards().values():
        missing = [package for package in card.packages if find_spec(package) is None]
        rows.append((card.name, card.road, card.paper, card.needs or "a log", f"pip install 'tongtu[{card.extra}]'" if missing else "yes"))
    table(["system", "road", "paper", "needs", "installed"], rows)
