"""How commands print: tables on standard output, remarks on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None, right: Iterable[str] = ()) -> None:
    """Print a table; `right` names the columns that hold numbers. Away from a terminal nothing is cut or wrapped."""
    console = Console() if sys.stdout.isatty() else Console(width=240, no_color=True)
    numbers = set(right)
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        shown.add_column(column, justify="right" if column in numbers else "left", no_wrap=column in numbers)
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    console.print(shown)


def note(text: str) -> None:
    """A remark that is not part of the answer."""
    print(text, file=sys.stderr, flush=True)
