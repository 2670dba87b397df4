"""What the drills of trust share: the data, the target items, the group that is attacked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from _data import read

from tongtu.core import Codes
from tongtu.data.dataset import Dataset
from tongtu.data.public import load


def opened(name: str) -> Dataset:
    """A data set folder, a file as `_data.read` takes it, or a public data set by name."""
    return read(Path(name)) if Path(name).exists() else load(name, quiet=True)


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [int(part) for part in text.split(",")]


def shares(text: str) -> list[float]:
    """Numbers with commas between them."""
    return [float(part) for part in text.split(",")]


def thirds(data: Dataset, each: int, seed: int) -> Codes:
    """int32[3 * each], item codes: `each` drawn from the least popular third of the items that have events, from the middle, from the most popular."""
    counts = data.item_counts
    known = np.flatnonzero(counts)
    order = known[np.argsort(counts[known], kind="stable")]
    draw = np.random.default_rng([seed, 3])
    return np.concatenate([draw.choice(part, each, replace=False) for part in np.array_split(order, 3)]).astype(np.int32)


def group_of(data: Dataset, text: str) -> npt.NDArray[np.bool_]:
    """bool[users.size], by user code: users of whom "name=value" is true; numbers may be given as a range, "age=18..24"."""
    name, _, value = text.partition("=")
    if name not in data.user_attributes.columns:
        raise SystemExit(f"{data.name} has no user attribute {name!r}; it has {', '.join(data.user_attributes.columns) or 'none'}")
    column, (low, dots, high) = data.user_attributes[name], value.partition("..")
    found = column.is_between(float(low), float(high)) if dots else column.cast(str) == value
    inside = np.concatenate([[False], found.fill_null(False).to_numpy()])
    if not inside.any():
        raise SystemExit(f"no user of {data.name} has {text}: its values are {', '.join(map(str, column.unique().sort().to_list()[:20]))}")
    return inside
