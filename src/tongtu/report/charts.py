"""Where things stand in a chart. Only geometry is computed here; the template draws it, and escapes every text.

Coordinates are those of a picture `WIDTH` wide and `HEIGHT` high with the origin at the top left, as SVG has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 480.0, 310.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 16.0, 14.0, 46.0
_LETTER, _LINE = 7.8, 15.0  # how wide and high a letter of a label is, about

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Axis:
    """A scale from values to places between `start` and `end`, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, log: bool = False) -> Axis:
        """An axis that holds all values with a little room around them."""
        low, high = min(values), max(values)
        if log:
            return cls(low / 1.6, high * 1.6, start, end, True)
        room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
        return cls(max(0.0, low - room) if low >= 0 else low - room, high + room, start, end)

    def place(self, value: float) -> float:
        """Where a value stands."""
        low, high, at = (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return round(self.start + (at - low) / (high - low) * (self.end - self.start), 2)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values within the axis, about as many as wanted."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            spread = math.log10(self.high / self.low)
            steps = (1,) if spread > 4 else (1, 3) if spread > 1.5 else (1, 2, 5)
            return [m * 10.0**d for d in decades for m in steps if self.low <= m * 10.0**d <= self.high]
        rough = (self.high - self.low) / wanted
        unit = 10 ** math.floor(math.log10(rough))
        step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough)
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 12) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Mark:
    """A point with its interval on the y axis, its label, and the words shown when it is pointed at."""

    x: float
    y: float
    low: float
    high: float
    label: str
    tip: str
    tone: str
    label_x: float = 0.0
    label_y: float = 0.0
    anchor: str = "start"


@dataclass(frozen=True)
class Line:
    """A line through points; `best` is the point whose weights were kept."""

    path: str
    label: str
    tone: str
    end: tuple[float, float]
    best: tuple[float, float] | None = None


@dataclass(frozen=True)
class Chart:
    """One chart, ready to be drawn."""

    title: str
    description: str
    x_label: str
    y_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    marks: list[Mark] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Point:
    """A system in a scatter chart, in the units of the axes."""

    x: float
    y: float
    low: float
    high: float
    label: str
    tip: str
    tone: str


def scatter(points: Sequence[Point], title: str, x_label: str, y_label: str) -> Chart | None:
    """Accuracy against a cost on a logarithmic axis; None where fewer than two systems have that cost."""
    points = [p for p in points if p.x > 0 and math.isfinite(p.x)]
    if len(points) < 2:
        return None
    x_axis = Axis.over([p.x for p in points], LEFT, WIDTH - RIGHT, log=True)
    y_axis = Axis.over([v for p in points for v in (p.low, p.high)], HEIGHT - BOTTOM, TOP)
    marks = _labelled([Mark(x_axis.place(p.x), y_axis.place(p.y), y_axis.place(p.low), y_axis.place(p.high), p.label, p.tip, p.tone) for p in points])
    return Chart(title, "; ".join(p.tip for p in points), x_label, y_label, _ticks(x_axis), _ticks(y_axis), marks)


def abreast(points: Sequence[Point], title: str, y_label: str) -> Chart | None:
    """Systems side by side with their intervals, each named at its point; None for fewer than two."""
    if len(points) < 2:
        return None
    x_axis = Axis.over([p.x for p in points], LEFT + 20, WIDTH - RIGHT - 60)
    y_axis = Axis.over([v for p in points for v in (p.low, p.high)], HEIGHT - BOTTOM, TOP)
    marks = _labelled([Mark(x_axis.place(p.x), y_axis.place(p.y), y_axis.place(p.low), y_axis.place(p.high), p.label, p.tip, p.tone) for p in points])
    return Chart(title, "; ".join(p.tip for p in points), "", y_label, [], _ticks(y_axis), marks)


def lines(series: Sequence[tuple[str, Sequence[tuple[float, float]]]], title: str, x_label: str, y_label: str, highest: bool = True) -> Chart | None:
    """Figures over epochs or seconds, one line a system; None without any. `highest` marks each line's best point."""
    series = [(label, points) for label, points in series if points]
    if not series:
        return None
    right = WIDTH - RIGHT - 10 - _LETTER * max(len(label) for label, _ in series)
    x_axis = Axis.over([0.0, *(x for _, points in series for x, _ in points)], LEFT, right)
    x_axis = Axis(0.0, x_axis.high, LEFT, right)
    y_axis = Axis.over([y for _, points in series for _, y in points], HEIGHT - BOTTOM, TOP)
    drawn = []
    for number, (label, points) in enumerate(series):
        places = [(x_axis.place(x), y_axis.place(y)) for x, y in points]
        best = min(places, key=lambda place: place[1]) if highest else None
        drawn.append(Line("M" + "L".join(f"{x} {y}" for x, y in places), label, f"line{number % 8}", places[-1], best))
    description = "; ".join(f"{label}: {len(points)} points, last {points[-1][1]:.4g}" for label, points in series)
    whole = all(x == int(x) for _, points in series for x, _ in points)  # half an epoch is nothing to mark
    x_ticks = [(place, text) for place, text in _ticks(x_axis) if not whole or "." not in text]
    return Chart(title, description, x_label, y_label, x_ticks, _ticks(y_axis), lines=_apart(drawn), right=right)


def bar(low: float, value: float, high: float, limit: float, width: float = 120.0) -> tuple[float, float, float]:
    """Places of an interval and its middle in a small picture of a table cell, whose right edge is `limit`."""
    return tuple(round(3 + (width - 6) * max(v, 0) / limit, 2) for v in (low, value, high))  # type: ignore[return-value]


def short(value: float) -> str:
    """A number for an axis: 0.05, 20, 3k."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else f"{value:g}"


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    return [(axis.place(value), short(value)) for value in axis.ticks()]


def _labelled(marks: Sequence[Mark]) -> list[Mark]:
    """Marks with a place for each label that touches no other label and no point, where there is one."""
    taken: list[Box] = [(m.x - 6, m.y - 6, m.x + 6, m.y + 6) for m in marks]
    done = []
    for mark in sorted(marks, key=lambda m: -m.y):
        width = _LETTER * len(mark.label)
        offers = [(10.0, 4.0, "start"), (-10.0, 4.0, "end"), (0.0, -11.0, "middle"), (0.0, 20.0, "middle"), (9.0, -8.0, "start"), (9.0, 16.0, "start")]
        boxes = [(_box(mark, dx, dy, anchor, width), dx, dy, anchor) for dx, dy, anchor in offers]
        box, dx, dy, anchor = min(boxes, key=lambda offer: _cost(offer[0], taken))
        taken.append(box)
        done.append(Mark(mark.x, mark.y, mark.low, mark.high, mark.label, mark.tip, mark.tone, mark.x + dx, mark.y + dy, anchor))
    return done


def _box(mark: Mark, dx: float, dy: float, anchor: str, width: float) -> Box:
    x = mark.x + dx - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return x, mark.y + dy - _LINE + 3, x + width, mark.y + dy + 3


def _cost(box: Box, taken: Sequence[Box]) -> float:
    """How much a label at `box` covers of what is there, or sticks out of the picture."""
    covered = sum(max(0.0, min(box[2], t[2]) - max(box[0], t[0])) * max(0.0, min(box[3], t[3]) - max(box[1], t[1])) for t in taken)
    outside = max(0.0, LEFT - box[0]) + max(0.0, box[2] - WIDTH) + max(0.0, TOP - box[1]) + max(0.0, box[3] - HEIGHT + BOTTOM)
    return covered + 50 * outside


def _apart(drawn: Sequence[Line]) -> list[Line]:
    """Lines whose end labels do not stand on one another: labels are moved down, and then up from the lower edge."""
    order = sorted(drawn, key=lambda line: line.end[1])
    heights: list[float] = []
    for line in order:
        heights.append(max(line.end[1], heights[-1] + _LINE if heights else TOP))
    floor = HEIGHT - BOTTOM
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], floor)
        floor = heights[i] - _LINE
    return [Line(line.path, line.label, line.tone, (line.end[0], height), line.best) for line, height in zip(order, heights, strict=True)]
