"""`tongtu systems`: what there is to choose from."""

from __future__ import annotations


def systems() -> None:
    """Every system: its road, its paper, what it needs, and whether that is installed."""
    from tongtu.cli.output import table
    from tongtu.systems import cards, missing_packages

    rows = [
        (card.name, card.road, card.paper, card.needs or "a log", f"pip install 'tongtu[{card.extra}]'" if missing_packages(card) else "yes")
        for card in cards().values()
    ]
    table(["system", "road", "paper", "needs", "installed"], rows)
