"""Times as people write them, turned into whole seconds since 1970.

Numbers are seconds, milliseconds, microseconds or nanoseconds, told apart by their size. Text is ISO 8601 (a moment without
an offset is UTC), a date, or the US form with AM and PM that MIND uses. Fractions of seconds are dropped.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.core import Times
from tongtu.errors import DataError

_UNITS = ((10**17, "nanoseconds", 10**9), (10**14, "microseconds", 10**6), (10**11, "milliseconds", 10**3), (0, "seconds", 1))
_LATEST = 10**11
_WITH_OFFSET = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %#z")
_WITHOUT = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%m/%d/%Y %I:%M:%S %p")

Kind = type[pl.DataType]


def number_kind(sample: pl.Series) -> Kind | None:
    """How a text column reads best: Int64, Float64, or None if it is no column of numbers."""
    values = sample.drop_nulls()
    if not len(values):
        return pl.Int64
    if not values.dtype.is_numeric():
        values = values.cast(pl.String)
    for kind in (pl.Int64, pl.Float64):
        if values.cast(kind, strict=False).null_count() <= len(values) / 2:
            return kind
    return None


def moment(column: str, dtype: pl.DataType) -> pl.Expr:
    """Int64 values of a column: seconds where it holds dates, its own numbers where it holds numbers; null what cannot be read."""
    value = pl.col(column)
    if dtype.is_integer():
        return value.cast(pl.Int64, strict=False)
    if dtype.is_float():
        return value.floor().cast(pl.Int64, strict=False)
    if isinstance(dtype, pl.Datetime | pl.Date):
        return value.cast(pl.Datetime("us")).dt.epoch("s")
    text = value.cast(pl.String).str.strip_chars()
    forms = [text.str.to_datetime(form, time_unit="us", strict=False, time_zone="UTC").dt.epoch("s") for form in _WITH_OFFSET]
    forms += [text.str.to_datetime(form, time_unit="us", strict=False).dt.epoch("s") for form in _WITHOUT]
    forms.append(text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).dt.epoch("s"))
    forms.append(text.cast(pl.Int64, strict=False))
    return pl.coalesce(forms)


def seconds(values: Times, known: npt.NDArray[np.bool_]) -> tuple[Times, npt.NDArray[np.bool_], str]:
    """Seconds of numbers in whatever unit their size tells.

    Args:
        values: int64[n], numbers as they were read.
        known: bool[n], where `values` holds something.

    Returns:
        The seconds, where they are usable (a moment from 1970 to the year 5138), and the name of the unit.
    """
    middle = int(np.median(values[known][:1_000_000])) if known.any() else 0
    _, unit, divisor = next(row for row in _UNITS if abs(middle) >= row[0])
    result = values if divisor == 1 else values // divisor
    if len(result) and result.min() >= 0 and result.max() < _LATEST:
        return result, known, unit
    return result, known & (result >= 0) & (result < _LATEST), unit


def parse_moment(text: str) -> int:
    """Seconds since 1970 of one moment as a person writes it.

    Raises:
        DataError: If it is neither a number nor ISO 8601.
    """
    column = pl.Series("moment", [text])
    kind = number_kind(column) or pl.String
    frame = pl.select(column.cast(kind))
    value = frame.select(moment("moment", frame.schema["moment"])).to_series()
    if value.null_count():
        raise DataError(f"{text!r} is no moment: write seconds since 1970, or ISO 8601 as in 2023-01-31 or 2023-01-31T12:00:00Z")
    return int(seconds(value.to_numpy(), np.ones(1, np.bool_))[0][0])
