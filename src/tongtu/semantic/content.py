"""Items by what the catalogue says of them: paths of categories, and titles made distinct."""

from __future__ import annotations

import re
from typing import Any

import polars as pl

from tongtu.data.dataset import Dataset
from tongtu.data.item_text import clean, item_names
from tongtu.errors import DataError

CATEGORY = "<c_{}>"
NUMBER = "<n_{}>"
_COLUMNS = ("categories", "category")
_NO_CATEGORY = CATEGORY.format("none")
_SPACE = re.compile(r"[\s<>]+")


def category_paths(data: Dataset, depth: int) -> tuple[list[list[str]], dict[str, Any]]:
    """The first `depth` categories of each item as tokens, and how many items have none.

    Raises:
        DataError: If the catalogue has no categories.
    """
    column = next((name for name in _COLUMNS if name in data.item_fields.columns), None)
    if column is None:
        raise DataError(f"{data.name} has no item field 'categories', which the index needs: import the catalogue with it, or choose another index.kind")
    told = data.item_fields[column]
    lists = told if isinstance(told.dtype, pl.List) else told.cast(pl.String).str.split(", ")
    paths = []
    for names in lists.cast(pl.List(pl.String)).fill_null(pl.Series([[]], dtype=pl.List(pl.String))).to_list():
        words = [_SPACE.sub(" ", name or "").strip().replace(" ", "_") for name in names[:depth]]
        paths.append([CATEGORY.format(word) for word in words if word] or [_NO_CATEGORY])
    without = sum(path == [_NO_CATEGORY] for path in paths)
    if without == len(paths):
        raise DataError(f"{data.name}: no item has a category, which the index needs: import the catalogue with them, or choose another index.kind")
    return paths, {"without categories": without}


def distinct_titles(data: Dataset, longest: int) -> tuple[list[str], dict[str, Any]]:
    """Each item's title in brackets, the later ones of equal titles with a number behind, and how many these are.

    An item without a title is called by its code. Brackets end a title, so that none begins another.

    Raises:
        DataError: If no item has a title or text.
    """
    names = clean(item_names(data.item_text, data.item_fields, longest)).fill_null("").to_list()
    if not any(names):
        raise DataError(f"{data.name}: no item has a title or text to be named by: import it with --items FILE --text COLUMN, or choose another index.kind")
    plain = [name.replace("[", "(").replace("]", ")") or f"item {code}" for code, name in enumerate(names, start=1)]
    taken, found, repeated = set(plain), [], 0
    met: dict[str, int] = {}
    for name in plain:
        number, text = met.get(name, 0) + 1, name
        if number > 1:
            repeated += 1
            while (text := f"{name} #{number}") in taken:
                number += 1
        met[name] = number
        taken.add(text)
        found.append(f"[{text}]")
    return found, {"equal titles": repeated, "without title": names.count("")}
