"""Item texts follow their rules."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tongtu.data.item_text import build_text, clean, from_events


def text(limit: int = 2000, **columns: object) -> str:
    frame = pl.DataFrame({name: [value] for name, value in columns.items()})
    return str(build_text(frame, list(columns), limit)[0])


def test_columns_are_joined_in_order_and_empty_ones_left_out() -> None:
    frame = pl.DataFrame({"title": ["A", None, "  ", None], "brand": ["B.", "C", "D", None]})
    assert build_text(frame, ["title", "brand"]).to_list() == ["A. B", "C", "D", ""]
    assert build_text(frame, ["brand", "title"]).to_list() == ["B. A", "C", "D", ""]
    assert build_text(frame, []).to_list() == [""] * 4


def test_lists_numbers_entities_tags_and_space() -> None:
    assert text(tags=["x", "y"]) == "x, y"
    assert text(paths=[["a", "b"], ["c"]]) == "a, b, c"
    assert text(year=1995, price=2.5) == "1995. 2.5"
    assert text(year=1995.0) == "1995"
    assert text(t="Tom &amp; Jerry&#39;s\n\t <br/>show \x00 I <3 it") == "Tom & Jerry's show I <3 it"


def test_long_text_is_cut_at_a_space() -> None:
    assert text(t="one two three", limit=9) == "one two"
    assert text(t="one two three", limit=7) == "one two"
    assert text(t="onetwothree", limit=5) == "onetw"


@given(st.lists(st.one_of(st.none(), st.text()), min_size=1))
def test_clean_text_has_single_spaces_and_stays_clean(values: list[str | None]) -> None:
    once = clean(pl.Series(values, dtype=pl.String).str.replace_all("&", "and"))
    assert once.to_list() == clean(once).to_list()
    assert not any("  " in value or value != value.strip() for value in once.drop_nulls())


def test_texts_of_events_the_most_frequent_first() -> None:
    codes = pl.Series([2, 1, 2, 2, 1, 2, 2, 4])
    texts = pl.Series(["Loud", "Thin", "Great cable", "great  CABLE", None, "Too short", "loud", " "])
    assert from_events(codes, texts, 4).to_list() == ["Thin", "Loud; Great cable", "", ""]
    assert from_events(codes, texts, 4, most=1).to_list() == ["Thin", "Loud", "", ""]
