"""The catalogue of a system that reads texts: what becomes of the codes when items are added or exchanged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.core import PAD
from tongtu.errors import DataError
from tongtu.vocab import Vocab


@dataclass(frozen=True)
class Catalogue:
    """The items a system answers for after `with_items`.

    Attributes:
        items: Their ids.
        text: One text an item.
        old: int64[V], the code each item had before; `PAD` for a new one.
    """

    items: Vocab
    text: pl.Series
    old: npt.NDArray[np.int64]

    @property
    def new(self) -> npt.NDArray[np.bool_]:
        """bool[V - 1], which items, from code 1, were not there before."""
        new: npt.NDArray[np.bool_] = self.old[1:] == PAD
        return new


def with_items(items: Vocab, text: pl.Series | None, given: pl.DataFrame, keep: bool) -> Catalogue:
    """The catalogue of `core.Extends.with_items`; see there for `given` and `keep`.

    Where texts are exchanged with the items (`keep` is false), only an item with the id and the text of a known one is that item.

    Raises:
        DataError: If a column is missing, or an id is missing or stands twice.
    """
    missing = {"id", "text"} - set(given.columns)
    if missing:
        raise DataError(f"new items need the columns id and text; {' and '.join(sorted(missing))} missing: rename or add them")
    frame = given.select(pl.col("id").cast(pl.String), pl.col("text").cast(pl.String).fill_null(""))
    if frame["id"].null_count() or frame["id"].n_unique() != frame.height:
        raise DataError("new items need an id each, and no id twice: drop the rows that repeat")
    own = pl.DataFrame({"id": items.ids, "text": pl.Series([""] * len(items), dtype=pl.String) if text is None else text})
    if keep:
        frame = pl.concat([own, frame.filter(pl.Series(items.encode(frame["id"]) == PAD))])
    old = items.encode(frame["id"]).astype(np.int64)
    if not keep and text is not None:
        old[(text.gather(np.maximum(old, 1) - 1) != frame["text"]).to_numpy()] = PAD
    return Catalogue(Vocab(frame["id"]), frame["text"], np.concatenate([np.full(1, PAD, np.int64), old]))
