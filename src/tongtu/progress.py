"""Progress of long work: a bar with rate and time left on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 15.0


class Bar:
    """One line of progress; made by `progress`."""

    def __init__(self, label: str, total: float | None, unit: str, quiet: bool) -> None:
        self.label, self.total, self.unit, self.quiet = label, total, unit, quiet
        self.done, self.note = 0.0, ""
        self._start = self._last = time.monotonic()
        self._live: Progress | None = None
        self._task: TaskID | None = None

    def advance(self, by: float = 1, note: str | None = None) -> None:
        """Count `by` more units; `note` stands at the end of the line."""
        self.done += by
        if note is not None:
            self.note = note
        if self.quiet:
            return
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=self.done, note=self._tail())
        elif time.monotonic() - self._last > _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            print(f"{self.label}: {self._plain()}", file=sys.stderr, flush=True)

    def _rate(self) -> float:
        return self.done / max(time.monotonic() - self._start, 1e-9)

    def _tail(self) -> str:
        return f"{self._rate():,.0f} {self.unit}/s  {self.note}"

    def _plain(self) -> str:
        if not self.total:
            return f"{self.done:,.0f} {self.unit}, {self._tail()}"
        left = (self.total - self.done) / max(self._rate(), 1e-9)
        return f"{self.done:,.0f} of {self.total:,.0f} {self.unit} ({self.done / self.total:.0%}), {left:,.0f} s left, {self._tail()}"


@contextmanager
def progress(label: str, total: float | None, unit: str = "", quiet: bool = False) -> Iterator[Bar]:
    """Show progress on standard error while the block runs.

    Args:
        label: What is being done.
        total: How many units there are, or None if that is not known.
        unit: What is counted ("events", "users").
        quiet: Whether to show nothing.
    """
    bar = Bar(label, total, unit, quiet)
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield bar
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=console, transient=True) as live:
        bar._live, bar._task = live, live.add_task(label, total=total, note="")
        yield bar
