"""External ids and the dense integer codes that stand for them inside Tongtu."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import polars as pl

from tongtu.core import PAD, Codes

_FEW = 10_000  # ids up to which a list of texts is quicker than a table


class Vocab:
    """Ids, as the user wrote them, against dense codes.

    Codes start at 1: 0 is `PAD` everywhere, and also the answer for an id that is not known.

    Args:
        ids: The ids in code order; the first gets code 1. They are kept as text, exactly as written.

    Raises:
        ValueError: If an id is missing or stands twice.
    """

    def __init__(self, ids: pl.Series | Sequence[str]) -> None:
        series = ids if isinstance(ids, pl.Series) else pl.Series("id", list(ids), dtype=pl.String)
        self.ids: pl.Series = series.cast(pl.String).rename("id")
        if self.ids.null_count():
            raise ValueError("a vocabulary cannot hold a missing id")
        if self.ids.n_unique() != len(self.ids):
            raise ValueError("a vocabulary cannot hold an id twice")

    def __len__(self) -> int:
        """The number of ids, without `PAD`."""
        return len(self.ids)

    @property
    def size(self) -> int:
        """One more than the largest code: the rows an embedding table needs, `PAD` included."""
        return len(self.ids) + 1

    def __contains__(self, external: object) -> bool:
        return external in self._codes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocab) and (self is other or (len(self) == len(other) and bool((self.ids == other.ids).all())))

    def __hash__(self) -> int:
        return hash((len(self), self.ids[0] if len(self) else None))

    def __repr__(self) -> str:
        return f"Vocab({len(self):,} ids)"

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {external: code for code, external in enumerate(self.ids.to_list(), start=1)}

    @cached_property
    def _names(self) -> list[str]:
        return list(self._codes)  # the same texts, not copies

    def code(self, external: str) -> int:
        """The code of one id, `PAD` if it is unknown."""
        return self._codes.get(external, PAD)

    def encode(self, externals: pl.Series | Iterable[str]) -> Codes:
        """Codes int32[n] of many ids; unknown and missing ones become `PAD`."""
        if isinstance(externals, pl.Series) and len(externals) > _FEW:
            table = pl.DataFrame({"id": self.ids, "code": pl.int_range(1, self.size, dtype=pl.Int32, eager=True)})
            found = externals.cast(pl.String).rename("id").to_frame().join(table, on="id", how="left", maintain_order="left")["code"]
            return found.fill_null(PAD).to_numpy().astype(np.int32, copy=False)
        known = self._codes
        return np.fromiter((known.get(e, PAD) for e in externals), dtype=np.int32)

    def decode(self, codes: Codes) -> list[str]:
        """Ids of many codes; `PAD` entries are left out."""
        wanted = np.asarray(codes)
        wanted = wanted[wanted != PAD].astype(np.int64) - 1
        if len(wanted) <= _FEW and "_codes" in self.__dict__:
            return [self._names[place] for place in wanted.tolist()]
        return self.ids.gather(wanted).to_list() if len(wanted) else []

    def translation(self, other: Vocab) -> Codes:
        """Codes int32[other.size] of `other`'s ids here: `self.translation(other)[code_there] == code_here`."""
        if self == other:
            return np.arange(self.size, dtype=np.int32)
        return np.concatenate([np.zeros(1, np.int32), self.encode(other.ids)])
