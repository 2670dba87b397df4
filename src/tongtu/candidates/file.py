"""Candidate files: a list of candidates for each of some cases, drawn once and then the same for every system and every paper.

A file is Parquet with one row a case and external ids throughout: `user`, `target`, `items` (a list) and `sources` (beside each item,
who proposed it). How it was made stands in the file's metadata as JSON, under "tongtu". Only the first three columns are read, so
lists of any other program serve as well.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.candidates import _keys, _mix
from tongtu.core import PAD, CandidateSource, Codes
from tongtu.data.dataset import Dataset
from tongtu.data.splits import Cases
from tongtu.errors import DataError
from tongtu.files import new_file

SUFFIX = ".parquet"
TARGET = "target"
"""What stands in `sources` beside a target that was put into its list because it is the target."""

Proposals = Callable[[int], CandidateSource]
_REMEDY = "make it with tongtu candidates for this data and protocol"


@dataclasses.dataclass(frozen=True)
class Share:
    """What one source adds to every list: `source(m)` proposes m items, of which the first `n` that are not in the list yet are added."""

    name: str
    source: Proposals
    n: int


@dataclasses.dataclass(frozen=True, eq=False)
class Lists:
    """Candidates of n cases: `items[i]` int32, and beside each of them its place in `names`, int64 `origin[i]`."""

    items: list[Codes]
    origin: list[npt.NDArray[np.int64]]
    names: tuple[str, ...]


def mixture(shares: Sequence[Share], cases: Cases, seed: int = 0, with_target: bool = True) -> Lists:
    """Lists to which every source adds its share, in an order that tells nothing: it depends on seed, request and items alone.

    Sources never learn the target.

    Args:
        shares: The sources in the order in which they add.
        cases: n questions.
        seed: Of the order.
        with_target: Put the target into every list, as one more; else it is there only where a source proposes it.
    """
    items = [np.array([code], np.int32) if with_target else np.zeros(0, np.int32) for code in cases.target]
    origin = [np.zeros(len(one), np.int64) for one in items]
    longest = int(with_target)
    for number, share in enumerate(shares, start=1):
        proposed = share.source(share.n + longest)(cases.requests, None)
        for row, codes in enumerate(proposed):
            new = codes[~np.isin(codes, items[row])][: share.n]
            items[row] = np.concatenate([items[row], new])
            origin[row] = np.concatenate([origin[row], np.full(len(new), number)])
        longest += share.n
    order = [np.argsort(_mix(key ^ _mix(codes.astype(np.uint64)))) for key, codes in zip(_keys(cases.requests, seed), items, strict=True)]
    items = [codes[way] for codes, way in zip(items, order, strict=True)]
    origin = [places[way] for places, way in zip(origin, order, strict=True)]
    return Lists(items, origin, (TARGET, *(share.name for share in shares)))


def write_candidates(path: Path, lists: Lists, cases: Cases, data: Dataset, facts: Mapping[str, Any]) -> None:
    """Write a candidate file, whole or not at all; the same lists and facts give the same bytes.

    Args:
        path: Where; its name ends in .parquet.
        lists: The candidates of `cases`.
        cases: Questions about `data`.
        data: Whose ids are written.
        facts: Plain values that say how the lists were made.
    """
    import pyarrow.parquet

    frame = pl.DataFrame(
        {
            "user": data.users.decode(cases.user),
            "target": data.items.decode(cases.target),
            "items": [data.items.decode(codes) for codes in lists.items],
            "sources": [[lists.names[place] for place in origin] for origin in lists.origin],
        },
        schema={"user": pl.String, "target": pl.String, "items": pl.List(pl.String), "sources": pl.List(pl.String)},
    )
    table = frame.to_arrow().replace_schema_metadata({"tongtu": json.dumps(dict(facts), sort_keys=True)})
    with new_file(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def limited_to_file(path: Path, cases: Cases, data: Dataset) -> Cases:
    """The cases that stand in a candidate file, each with its list, in the order of `cases`.

    Args:
        path: The file.
        cases: All questions.
        data: Whose ids the file names.

    Raises:
        DataError: If the file is missing or damaged, lacks a column, or names items or cases that are not of `data`.
    """
    table = _read(path)
    length = table["items"].list.len().to_numpy().astype(np.int64)
    named = table.explode("items")["items"].drop_nulls()
    if len(named) != length.sum() or (table["items"].list.n_unique().to_numpy() != length).any():
        raise DataError(f"{path}: a list of candidates holds a missing id or an id twice: {_REMEDY}")
    codes = data.items.encode(named)
    if (codes == PAD).any():
        unknown = named.filter(pl.Series(codes == PAD))
        raise DataError(f"{path}: {unknown.n_unique():,} of its items are not in {data.name}, say {unknown[0]!r}: {_REMEDY}")
    asked = _numbered(pl.DataFrame({"user": data.users.encode(table["user"]), "target": data.items.encode(table["target"])}))
    known = _numbered(pl.DataFrame({"user": cases.user, "target": cases.target})).with_row_index("case")
    found = asked.join(known, on=["user", "target", "time"], how="left", maintain_order="left")["case"]
    if found.null_count() or not len(found):
        row = found.is_null().arg_true()
        say = f"say user {table['user'][row[0]]!r} with target {table['target'][row[0]]!r}" if len(row) else "for it has no rows"
        raise DataError(f"{path}: {len(row):,} of its {len(found):,} rows are not among the cases of {data.name} under this protocol, {say}: {_REMEDY}")
    place = found.to_numpy().astype(np.int64)
    order = np.argsort(place)
    lists = np.split(codes, np.cumsum(length)[:-1])
    kept = cases.take(place[order])
    return dataclasses.replace(kept, requests=dataclasses.replace(kept.requests, candidates=[lists[row] for row in order]))


def at_places(cases: Cases, places: Sequence[int]) -> Cases:
    """Each case once for each place, its target moved to that place of its candidates; one that is not among them stays away.

    Raises:
        DataError: If no list is as long as that.
    """
    candidates = cases.requests.candidates
    assert candidates is not None
    longest = max((len(codes) for codes in candidates if codes is not None), default=0)
    if len(cases) and max(places) >= longest:
        raise DataError(f"no list of candidates has a place {max(places)}: the longest has {longest} items, and places count from 0")
    asked = cases.take(np.repeat(np.arange(len(cases)), len(places)))
    moved = [_moved(codes, target, place) for codes, target in zip(candidates, cases.target, strict=True) for place in places]
    return dataclasses.replace(asked, requests=dataclasses.replace(asked.requests, candidates=moved))


def _moved(codes: Codes | None, target: int, place: int) -> Codes | None:
    if codes is None or target not in codes:
        return codes
    others = codes[codes != target]
    return np.insert(others, min(place, len(others)), target)


def _read(path: Path) -> pl.DataFrame:
    """The columns user, target and items, as text."""
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError):
        raise DataError(f"{path} cannot be read as Parquet: {_REMEDY}") from None
    kinds: dict[str, Any] = {"user": pl.String, "target": pl.String, "items": pl.List(pl.String)}
    missing = [name for name in kinds if name not in table.columns]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)} of a candidate file: {_REMEDY}")
    if not isinstance(table["items"].dtype, pl.List) or table["items"].null_count():
        raise DataError(f"{path}: the column items must hold a list of ids in every row: {_REMEDY}")
    return table.select(pl.col(name).cast(kind) for name, kind in kinds.items())


def _numbered(pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs with how often each stood before: a user may be asked for the same target again."""
    return pairs.with_columns(time=pl.int_range(pl.len()).over("user", "target"))
