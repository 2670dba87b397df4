"""What a table of accuracies does not show: what a setting changes, what depends on places, and what a language model did for its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tongtu.report import charts, words

Row = Mapping[str, Any]

PLACES = "target's place"
"""The slice by the target's place among the candidates."""

_ANSWERING = (
    ("prompt_tokens", "Tokens read", "{:,.0f}"),
    ("completion_tokens", "Tokens written", "{:,.1f}"),
    ("seconds", "Seconds", "{:.2f}"),
    ("asked again", "Asked again", "{:.1%}"),
    ("unnamed", "Candidates not named", "{:.1f}"),
    ("outside", "Named outside the list", "{:.1f}"),
    ("repeated", "Named twice", "{:.1f}"),
    ("degraded", "Answered without the model", "{:.1%}"),
)


def variant_charts(ranked: Sequence[Row], metric: str) -> list[charts.Chart]:
    """Rows of one system that differ in their settings, side by side, in the order of the experiment; one chart a system."""
    by_system: dict[str, list[Row]] = {}
    for row in ranked:
        by_system.setdefault(str(row.get("title") or row["system"]), []).append(row)
    title = words.metric_name(metric)
    made = [charts.abreast(_points(rows, metric), f"What a setting changes in {name}", title) for name, rows in by_system.items() if len(rows) > 1]
    return [chart for chart in made if chart is not None]


def habit_charts(ranked: Sequence[Row], metric: str) -> list[charts.Chart]:
    """Position bias, where the targets' places among the candidates are known, and popularity bias."""
    title = words.metric_name(metric)
    by_place = [(row["label"], _by_place(row, metric)) for row in ranked]
    popularity = [(row["label"], _by_rank(row)) for row in ranked]
    made = [
        charts.lines(by_place, f"{title} by the place at which the target was shown", "place in the list shown", title, highest=False),
        charts.lines(popularity, "Popularity of what stands at each rank", "rank in the answer", "training events, share of the most popular", highest=False),
    ]
    return [chart for chart in made if chart is not None]


def answering(ranked: Sequence[Row]) -> dict[str, Any] | None:
    """A table of what language models did, for one request on average; None where none was asked."""
    told = [row for row in ranked if any(key in (row.get("answering") or {}) for key, _, _ in _ANSWERING)]
    columns = [(key, title, form) for key, title, form in _ANSWERING if any(key in row["answering"] for row in told)]
    if not columns:
        return None
    rows = [(row["label"], [(row["answering"].get(key, 0), form.format(row["answering"].get(key, 0))) for key, _, form in columns]) for row in told]
    return {"names": [title for _, title, _ in columns], "rows": rows}


def _points(rows: Sequence[Row], metric: str) -> list[charts.Point]:
    points = []
    for place, row in enumerate(sorted(rows, key=lambda row: int(row.get("place", 0)))):
        value = row["metrics"][metric]
        low, high = row["interval"].get(metric, (value, value))
        tip = f"{row['label']}: {words.metric_value(value)}, {words.metric_value(low)} to {words.metric_value(high)}"
        points.append(charts.Point(float(place), value, low, high, row["label"], tip, f"road-{row['road']}"))
    return points


def _by_place(row: Row, metric: str) -> list[tuple[float, float]]:
    """Points at each place, or at the middle of each band of places, counted from 1."""
    points = []
    for band, found in row["slices"].get(PLACES, {}).items():
        first, _, last = band.removesuffix("+").partition("-")
        if first.isdigit() and found.get(metric) is not None:  # "absent" is no place
            points.append(((int(first) + int(last or first)) / 2 + 1, found[metric]))
    return points


def _by_rank(row: Row) -> list[tuple[float, float]]:
    return [(float(rank), share) for rank, share in enumerate(row.get("popularity by rank") or [], start=1) if share is not None]
