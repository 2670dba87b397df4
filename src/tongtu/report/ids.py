"""Semantic ids as a picture: the first level's codes in a square, like ones beside each other, each with its words and a title."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tongtu.errors import MissingExtra
from tongtu.files import new_file
from tongtu.report import page
from tongtu.semantic.folder import NamedIds
from tongtu.semantic.meaning import CodeMeaning, Wording, meanings, places

_DRAWN = 400  # codes in the square: those of most items
_WIDE, _HIGH = 128.0, 74.0
_LETTERS = 17  # of a line in a cell
_BEHIND = 8  # codes of the second level that are told of each of the first
_TITLES = 6


@dataclass(frozen=True)
class Cell:
    """A code's place in the square; `shade` is 1 for the code of most items."""

    x: float
    y: float
    code: int
    items: int
    lines: tuple[str, ...]
    tip: str
    shade: float


def cells(named: NamedIds, found: list[CodeMeaning]) -> list[Cell]:
    """The codes of the first level, those of most items where there are too many to draw."""
    found = found[:_DRAWN]
    made = []
    for one, (column, row) in zip(found, places(named.ids, [one.prefix[0] for one in found]).tolist(), strict=True):
        titles = named.titles(one.nearest[:3], 90)
        lines = tuple(_cut(line) for line in (*one.words[:2], titles[0]))
        tip = f"code {one.prefix[0]}, {one.items} items: {', '.join(one.words)}. {' | '.join(titles)}"
        made.append(Cell(column * _WIDE, row * _HIGH, one.prefix[0], one.items, lines, tip, round(one.items / found[0].items, 3)))
    return made


def view(named: NamedIds) -> dict[str, Any]:
    """What the page shows."""
    ids, wording = named.ids, Wording(named.item_text.to_list())
    found = meanings(ids, wording)
    square = cells(named, found)
    behind = [_told(named, one, wording if ids.config.levels > 1 else None) for one in found]
    return {
        "name": named.provenance["data"],
        "encoder": named.provenance["encoder"],
        "kind": ids.kind,
        "items": len(named.items),
        "before": ids.facts["collision rate before repair"],
        "after": ids.collision_rate(),
        "lost": ids.facts["lost"],
        "levels": [(level, level > ids.config.levels, use) for level, use in enumerate(ids.use(), start=1)],
        "cells": square,
        "width": max(cell.x for cell in square) + _WIDE,
        "height": max(cell.y for cell in square) + _HIGH,
        "wide": _WIDE,
        "high": _HIGH,
        "codes": sorted(behind, key=lambda code: code["code"]),
    }


def write_page(named: NamedIds, path: Path) -> None:
    """Write the page: one file that loads nothing.

    Raises:
        StorageError: If it cannot be written.
    """
    text = page("ids.html", ("report.css", "ids.css"), view(named))
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_picture(named: NamedIds, path: Path) -> None:
    """Write the square alone, as an image.

    Raises:
        MissingExtra: If matplotlib is not installed.
        StorageError: If it cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError:
        raise MissingExtra("an image of the codebook", "pictures") from None
    square = cells(named, meanings(named.ids, Wording(named.item_text.to_list())))
    width, height = max(cell.x for cell in square) + _WIDE, max(cell.y for cell in square) + _HIGH
    figure = Figure(figsize=(width / 100, height / 100), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for cell in square:
        axes.add_patch(Rectangle((cell.x + 1, cell.y + 1), _WIDE - 2, _HIGH - 2, facecolor=(0.04, 0.36, 0.56, 0.06 + 0.4 * cell.shade), edgecolor="#dedcd5"))
        for n, (line, size) in enumerate(zip((f"{cell.code}   {cell.items} items", *cell.lines), (6.5, 8, 8, 6.5), strict=False)):
            axes.text(cell.x + 6, cell.y + 15 + 16 * n, line.replace("$", r"\$"), fontsize=size, color="#1d2129" if n in (1, 2) else "#5d6470", clip_on=True)
    with new_file(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks is drawn as a box
        figure.savefig(temporary, format="png", facecolor="white")


def _told(named: NamedIds, one: CodeMeaning, wording: Wording | None) -> Mapping[str, Any]:
    """A code of the first level with what follows it."""
    following = meanings(named.ids, wording, one.prefix)[:_BEHIND] if wording is not None else []
    return {
        "code": one.prefix[0],
        "items": one.items,
        "words": ", ".join(one.words),
        "titles": named.titles(one.nearest[:_TITLES], 90),
        "behind": [("-".join(map(str, two.prefix)), two.items, ", ".join(two.words), named.titles(two.nearest[:3])) for two in following],
    }


def _cut(text: str) -> str:
    return text if len(text) <= _LETTERS else text[: _LETTERS - 1].rstrip() + "…"
