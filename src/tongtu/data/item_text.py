"""One text an item, built from columns of its catalogue by fixed rules.

1. The chosen columns in the order given, joined by ". "; missing and empty ones are left out.
2. Lists are joined by ", " (lists of lists too); numbers are written as they are.
3. HTML entities are turned into characters, tags are removed.
4. Runs of white space and control characters become one space.
5. What is longer than the limit is cut at a space.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import polars as pl

LIMIT = 2000
"""Characters kept of one item's text."""


def build_text(catalogue: pl.DataFrame, columns: Sequence[str], limit: int = LIMIT) -> pl.Series:
    """Text[n] of each row, "" where there is none.

    Args:
        catalogue: One row an item.
        columns: Which columns, in which order.
        limit: The most characters of one text.
    """
    if not columns:
        return pl.Series("text", [""] * catalogue.height, dtype=pl.String)
    parts = [clean(_flat(catalogue[name])) for name in columns]
    joined = pl.DataFrame([part.rename(str(i)) for i, part in enumerate(parts)])
    text = joined.select(pl.concat_str(pl.when(pl.all() != "").then(pl.all().str.strip_suffix(".")), separator=". ", ignore_nulls=True).alias("text"))
    return text.select(_cut(pl.col("text"), limit).fill_null("")).to_series()


def from_events(codes: pl.Series, texts: pl.Series, items: int, most: int = 2) -> pl.Series:
    """Text[items] of each item out of short texts of its events: the most frequent, of equally frequent ones the first, joined by "; ".

    Args:
        codes: Item code from 1 of each event.
        texts: Beside it; missing and empty ones do not count.
        items: How many items there are.
        most: How many different texts of an item.
    """
    rows = pl.DataFrame({"code": codes.cast(pl.Int64), "text": clean(texts.cast(pl.String))}).with_row_index("first").filter(pl.col("text").fill_null("") != "")
    kinds = rows.group_by("code", pl.col("text").str.to_lowercase().alias("kind")).agg(pl.len().alias("n"), pl.col("first").min(), pl.col("text").first())
    best = kinds.sort(["n", "first"], descending=[True, False]).group_by("code", maintain_order=True).head(most)
    made = best.group_by("code", maintain_order=True).agg(pl.col("text").str.join("; "))
    every = pl.DataFrame({"code": pl.int_range(1, items + 1, dtype=pl.Int64, eager=True)})
    return every.join(made, on="code", how="left", maintain_order="left")["text"].fill_null("")


def clean(text: pl.Series) -> pl.Series:
    """Text without entities, tags, control characters and runs of white space; null stays null."""
    coded = text.str.contains("&", literal=True).fill_null(False)
    if coded.any():
        plain = pl.Series([html.unescape(value) for value in text.filter(coded).to_list()], dtype=pl.String)
        text = text.scatter(coded.arg_true(), plain)
    return text.str.replace_all(r"</?[A-Za-z][^<>]*>", " ").str.replace_all(r"[\s\p{Cc}]+", " ").str.strip_chars()


def _flat(column: pl.Series) -> pl.Series:
    """A column as text; lists joined."""
    while isinstance(column.dtype, pl.List | pl.Array):
        inner = column.dtype.inner
        if isinstance(inner, pl.List | pl.Array):
            column = column.list.eval(pl.element().list.eval(pl.element().cast(pl.String)).list.join(", ", ignore_nulls=True))
        else:
            column = column.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
    if isinstance(column.dtype, pl.Struct):
        column = column.struct.unnest().select(pl.concat_str(pl.all().cast(pl.String), separator=", ", ignore_nulls=True)).to_series()
    if column.dtype.is_float():
        whole = column.is_null() | (column == column.floor())
        column = column.cast(pl.Int64, strict=False) if whole.all() else column
    return column.cast(pl.String)


def _cut(text: pl.Expr, limit: int) -> pl.Expr:
    short = text.str.slice(0, limit)
    at_space = short.str.replace(r"\s+\S*$", "")
    return pl.when(text.str.len_chars() <= limit).then(text).when(text.str.slice(limit, 1) == " ").then(short).otherwise(at_space)


def item_names(text: pl.Series, fields: pl.DataFrame, longest: int = 100) -> pl.Series:
    """What people call each item: its "title" where the catalogue has that field, else the beginning of its text; "" without either.

    An article that a catalogue puts last, "Usual Suspects, The (1995)", stands first again.

    Args:
        text: One text an item.
        fields: The catalogue's fields, one row an item.
        longest: Characters kept.
    """
    title = clean(fields["title"].cast(pl.String)) if "title" in fields.columns else pl.Series([None] * len(text), dtype=pl.String)
    moved = title.str.replace(r"^(.*), (The|An?|L[eao]s?|Il|El|Der|Die|Das)( \(.*\))?$", "$2 $1$3")
    return pl.DataFrame({"title": moved, "text": text}).select(_cut(pl.coalesce("title", "text"), longest).fill_null("").alias("text")).to_series()
