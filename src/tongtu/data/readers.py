"""Files as tables: CSV, TSV, JSON lines, Parquet and RecBole's atomic files, also gzipped, read lazily and never whole.

Text formats give text, exactly as written, unless a column is asked for as a number; Parquet keeps its own types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from tongtu.config import nearest
from tongtu.errors import DataError

Format = Literal["csv", "tsv", "jsonl", "parquet", "atomic"]

_FORMATS: Mapping[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".inter": "atomic",
    ".item": "atomic",
    ".user": "atomic",
}
_NAMES: Mapping[Format, str] = {"csv": "CSV", "tsv": "TSV", "jsonl": "JSON lines", "parquet": "Parquet", "atomic": "a RecBole atomic file"}
_LOOKED_AT = 1000


@dataclass(frozen=True)
class TableFile:
    """A file that holds a table.

    Attributes:
        path: Where it is.
        format: How it is written.
        columns: The names of its columns; an atomic file's without their types.
        types: RecBole's type of each column of an atomic file ("token", "token_seq", "float", "float_seq").
    """

    path: Path
    format: Format
    columns: tuple[str, ...]
    types: Mapping[str, str] = field(default_factory=dict)

    def lazy(self, numbers: Mapping[str, type[pl.DataType]] | None = None) -> pl.LazyFrame:
        """The table, unread.

        Args:
            numbers: Columns of a text format to read as numbers; what is no number becomes null.
        """
        if self.format == "parquet":
            return pl.scan_parquet(self.path)
        if self.format == "jsonl":
            text = pl.scan_ndjson(self.path, schema=dict.fromkeys(self.columns, pl.String))
            return text.with_columns(pl.col(name).cast(kind, strict=False) for name, kind in (numbers or {}).items())
        written = {name: f"{name}:{self.types[name]}" if self.types else name for name in self.columns}
        table = _scan_text(self.path, self.format, {written[name]: kind for name, kind in (numbers or {}).items()})
        return table.rename({old: new for new, old in written.items()}) if self.types else table

    def head(self, column: str) -> pl.Series:
        """The first values of a column, as they are in the file."""
        with reading(self.path, self.format):
            return self.lazy().select(column).head(_LOOKED_AT).collect()[column]

    def require(self, wanted: Sequence[str]) -> None:
        """Refuse a file that lacks one of the `wanted` columns.

        Raises:
            DataError: Naming the first column that is missing, the nearest there is, and all there are.
        """
        alone = self.columns[0] if len(self.columns) == 1 else ""
        for name in wanted:
            if name not in self.columns:
                other = next((mark for mark in ";\t|," if mark in alone), None)
                if other is not None and self.format in ("csv", "tsv"):
                    raise DataError(f"{self.path}: its values are separated by {other!r}: write commas in .csv files and tabs in .tsv files")
                shown = ", ".join(self.columns[:30]) + (", ..." if len(self.columns) > 30 else "")
                close = nearest(name, self.columns)
                hint = f"{close} Its columns are: {shown}" if close.startswith("did") else f"its columns are: {shown}"
                raise DataError(f"{self.path} has no column {name!r}: {hint}")


def open_table(path: Path) -> TableFile:
    """Look at a file's format and columns.

    Raises:
        DataError: If it is missing, empty, not UTF-8, or of a format that is not known.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no file {path}: check the path")
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    kind = _FORMATS.get(suffixes[-1] if suffixes else "")
    if kind is None:
        raise DataError(f"{path}: the format is told by the ending; rename it to one of {', '.join(_FORMATS)} (each also with .gz)")
    if not path.stat().st_size:
        raise DataError(f"{path} is empty: check how it was written")
    with reading(path, kind):
        columns = _columns(path, kind)
    if any("\ufffd" in name or "\0" in name for name in columns):
        raise DataError(_explain(path, kind, "utf-8"))
    if kind != "atomic":
        return TableFile(path, kind, tuple(columns))
    pairs = [name.rpartition(":")[::2] for name in columns]
    if not all(name and kind_of in ("token", "token_seq", "float", "float_seq") for name, kind_of in pairs):
        raise DataError(f"{path} is no atomic file: its header must read name:type with types token, token_seq, float or float_seq, separated by tabs")
    return TableFile(path, "atomic", tuple(name for name, _ in pairs), dict(pairs))


@contextmanager
def reading(path: Path, kind: Format) -> Iterator[None]:
    """Turn a reader's errors into one line with a remedy."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise DataError(_explain(path, kind, str(error))) from None


def _columns(path: Path, kind: Format) -> list[str]:
    if kind == "parquet":
        return list(pl.scan_parquet(path).collect_schema())
    if kind == "jsonl":
        return list(pl.scan_ndjson(path, infer_schema_length=_LOOKED_AT).collect_schema())
    return list(_scan_text(path, kind, {}).collect_schema())


def _scan_text(path: Path, kind: Format, numbers: Mapping[str, type[pl.DataType]]) -> pl.LazyFrame:
    """Atomic files never quote; TSV does, as pandas, polars and DuckDB write it."""
    return pl.scan_csv(
        path,
        separator="," if kind == "csv" else "\t",
        quote_char=None if kind == "atomic" else '"',
        infer_schema=False,
        schema_overrides=dict(numbers),
        ignore_errors=bool(numbers),
    )


def _explain(path: Path, kind: Format, message: str) -> str:
    small = message.lower()
    if "utf-8" in small or "utf8" in small:
        return f"{path} is not UTF-8 text: convert it, for example with `iconv -f latin1 -t utf-8 {path.name} > utf8-{path.name}`"
    if "more fields" in small:
        return f"{path} has a line with more values than its header has columns: put values that contain the separator in double quotes"
    if "empty" in small:
        return f"{path} is empty: check how it was written"
    if "unexpected end of file" in small:
        return f"{path} ends too early: it was cut off; copy or download it again"
    first = " ".join(message.partition("\n")[0].split())[:200]
    hint = {
        "parquet": "it may be cut off; copy or write it again",
        "jsonl": "each line must be one JSON object",
    }.get(kind, "look for a stray or unclosed double quote, or a wrong separator")
    return f"{path} cannot be read as {_NAMES[kind]} ({first}): {hint}"
