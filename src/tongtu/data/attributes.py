"""User attributes as codes, so that a network can read them: 0 is unknown, and everything is unknown somewhere.

Words and numbers of few distinct values are categories; numbers of many are cut at their quantiles. What a fit made of a user
table is kept with the model, and reads the attributes of any request afterwards: a value that it does not know, one that is
missing and one that the user wants forgotten are all unknown.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.core import RequestBatch
from tongtu.data.dataset import AttributeRows, Dataset
from tongtu.errors import DataError

AttributeCodes = npt.NDArray[np.int64]

_FEW = 30  # distinct numbers up to which they are categories
_MOST = 1_000  # categories of one attribute
_COVERED = 0.5  # share of users that must have a known value before an attribute is taken unasked


@dataclass(frozen=True)
class AttributeField:
    """How one attribute is read.

    Attributes:
        name: Of the attribute.
        numeric: Whether its values are numbers.
        values: The categories, code 1 first; numbers stand as they are printed shortest.
        bounds: Where numbers are cut, rising; code 1 is below the first. Empty for categories.
    """

    name: str
    numeric: bool
    values: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """Number of codes, that of unknown included."""
        return 1 + (len(self.bounds) + 1 if self.bounds else len(self.values))

    def codes(self, values: Sequence[Any]) -> AttributeCodes:
        """int64[n], the codes of values as a table or a request holds them."""
        distinct = {value: self._code(value) for value in set(values)}
        return np.fromiter((distinct[value] for value in values), np.int64, len(values))

    def _code(self, value: Any) -> int:
        label = _label(value, self.numeric)
        if label is None:
            return 0
        if self.bounds:
            return 1 + bisect.bisect_right(self.bounds, float(label))
        place = bisect.bisect_left(self.values, label)
        return place + 1 if place < len(self.values) and self.values[place] == label else 0


@dataclass(frozen=True)
class AttributeReader:
    """Reads some attributes as codes.

    Attributes:
        fields: One for each attribute, in the order of the columns of codes.
    """

    fields: tuple[AttributeField, ...]

    @classmethod
    def learn(cls, data: Dataset, names: Sequence[str] | None = None, buckets: int = 10, rarest: int = 5) -> Self:
        """Categories and quantiles from the users of a data set who have events.

        Args:
            data: The data set.
            names: Attributes to read. None takes all of which at least half of the users have a known value, but for those
                that only say again what one before them says.
            buckets: Parts into which numbers of many values are cut, equally many users in each.
            rarest: A category needs so many users; rarer ones are unknown.

        Raises:
            DataError: If an attribute is not there, or has no category with enough users.
        """
        table = data.user_attributes
        missing = [name for name in names or () if name not in table.columns]
        if missing:
            known = ", ".join(table.columns) or "none"
            raise DataError(f"{data.name} has no user attribute {missing[0]!r} (known: {known}): choose one of them, or leave attributes unset")
        active = pl.Series(data.lengths > 0)
        fields: list[AttributeField] = []
        seen: list[AttributeCodes] = []
        for name in table.columns if names is None else names:
            if not (table.schema[name].is_numeric() or table.schema[name] in (pl.String, pl.Boolean, pl.Categorical)):
                continue
            field = _learned(table[name].filter(active), buckets, rarest)
            codes = field.codes(table[name].filter(active).to_list())
            if names is None and ((codes > 0).mean() < _COVERED or any(_same(codes, other) for other in seen)):
                continue
            if field.size == 1:
                raise DataError(f"{data.name}: no value of {name!r} has {rarest} users: leave it out, or lower rarest")
            fields.append(field)
            seen.append(codes)
        return cls(tuple(fields))

    @classmethod
    def restore(cls, facts: Sequence[Mapping[str, Any]]) -> Self:
        """A reader from what `facts` gave."""
        return cls(tuple(AttributeField(str(f["name"]), bool(f["numeric"]), tuple(f["values"]), tuple(f["bounds"])) for f in facts))

    def facts(self) -> list[dict[str, Any]]:
        """The fields as plain values."""
        return [asdict(field) for field in self.fields]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codes of each column; a reader without fields has one column, of which nothing is known."""
        return tuple(field.size for field in self.fields) or (1,)

    def of_users(self, data: Dataset) -> AttributeCodes:
        """int64[users, fields], the codes of a data set's users; row u - 1 is user code u."""
        table, nobody = data.user_attributes, np.zeros(len(data.users), np.int64)
        return self._columns([field.codes(table[field.name].to_list()) if field.name in table.columns else nobody for field in self.fields], len(data.users))

    def of_requests(self, requests: RequestBatch) -> AttributeCodes:
        """int64[n, fields], the codes of what requests tell of their users."""
        codes = [field.codes(told_values(requests, field.name)) for field in self.fields]
        if requests.forget is not None:
            for field, column in zip(self.fields, codes, strict=True):
                column[np.fromiter((field.name in forgotten for forgotten in requests.forget), np.bool_, len(requests))] = 0
        return self._columns(codes, len(requests))

    def unknown(self, attributes: Mapping[str, str]) -> list[str]:
        """What of a user's attributes says nothing here, in words: a name that is not read, a value that was not met."""
        fields = {field.name: field for field in self.fields}
        names = [f"{name} (read are: {', '.join(fields) or 'none'})" for name in attributes if name not in fields]
        return names + [f"{name}={value}" for name, value in attributes.items() if name in fields and not fields[name].codes([value])[0]]

    def _columns(self, codes: list[AttributeCodes], rows: int) -> AttributeCodes:
        return np.stack(codes, 1) if codes else np.zeros((rows, 1), np.int64)


def told_values(requests: RequestBatch, name: str) -> Sequence[Any]:
    """The value of an attribute in each request, None where it is not told."""
    if requests.attributes is None:
        return [None] * len(requests)
    if isinstance(requests.attributes, AttributeRows):
        values: list[Any] = requests.attributes.column(name).to_list()
        return values
    return [known.get(name) for known in requests.attributes]


def _learned(column: pl.Series, buckets: int, rarest: int) -> AttributeField:
    numeric = column.dtype.is_numeric()
    labels = [label for label in (_label(value, numeric) for value in column.to_list()) if label is not None]
    distinct, counts = np.unique(np.array(labels, dtype=np.str_), return_counts=True)
    if numeric and len(distinct) > _FEW:
        cuts = np.quantile(np.array(labels, np.float64), np.arange(1, buckets) / buckets)
        return AttributeField(column.name, True, bounds=tuple(float(cut) for cut in np.unique(cuts)))
    kept = np.flatnonzero(counts >= rarest)
    kept = kept[np.argsort(-counts[kept], kind="stable")[:_MOST]]
    return AttributeField(column.name, numeric, values=tuple(sorted(str(label) for label in distinct[kept])))


def _label(value: Any, numeric: bool) -> str | None:
    """A value as a category is called, or None where it says nothing."""
    if value is None or value == "":
        return None
    if not numeric:
        return str(value)
    try:
        number = float(value)
    except ValueError:
        return None
    return format(number, ".12g") if math.isfinite(number) else None


def _same(one: AttributeCodes, other: AttributeCodes) -> bool:
    """Whether two columns of codes tell the same, by whatever names."""
    pairs = len(np.unique(np.stack([one, other]), axis=1).T)
    return pairs == len(np.unique(one)) == len(np.unique(other))
