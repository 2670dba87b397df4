from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tongtu.core import Extends, FitOptions, Hears, Request
from tongtu.data.dataset import Dataset
from tongtu.errors import DataError
from tongtu.systems.baselines.lasttitle import LastTitle
from tongtu.vocab import Vocab

QUIET = FitOptions(quiet=True)
TITLES = ["rose hand cream", "rose soap", "night cream", "", "razor"]


def shop() -> Dataset:
    """Item 5 is the most popular, then 4, 3, 2, 1; texts say nothing of the kind."""
    events = np.concatenate([np.full(n, n) for n in range(1, 6)]).astype(np.int32)
    text, fields = pl.Series("text", ["thing"] * 5), pl.DataFrame({"title": TITLES})
    text[3] = ""
    return Dataset("shop", Vocab(["u"]), Vocab(list("abcde")), events, np.array([0, len(events)]), item_text=text, item_fields=fields)


def listed(system: LastTitle, *history: int, wish: str | None = None, seen: bool = True) -> list[int]:
    request = Request(history=np.array(history, np.int32), wish=wish, exclude_seen=not seen)
    return system.recommend([request], 4).items[0].tolist()


@pytest.fixture(scope="module")
def fitted() -> LastTitle:
    return LastTitle().fit(shop(), QUIET)


def test_the_newest_title_asks(fitted: LastTitle) -> None:
    assert listed(fitted, 5, 1) == [1, 2, 3, 5]
    assert listed(fitted, 5, 1, seen=False)[:2] == [2, 3], "the item itself is left out where what was seen is"
    assert listed(fitted, 1, 3)[:2] == [3, 1] and listed(fitted, 3, 1)[:2] == [1, 2]


def test_items_without_a_title_do_not_ask(fitted: LastTitle) -> None:
    assert listed(fitted, 1, 4, 0) == listed(fitted, 1)
    assert listed(fitted) == listed(fitted, 4) == [5, 4, 3, 2], "popularity"


def test_a_wish_adds_its_words(fitted: LastTitle) -> None:
    assert listed(fitted, 5, wish="a cream")[:3] == [5, 3, 1] and listed(fitted, wish="soap")[0] == 2
    assert isinstance(fitted, Hears) and fitted.hears_wishes


def test_new_items_are_found_and_a_folder_comes_back(fitted: LastTitle, tmp_path: Path) -> None:
    assert isinstance(fitted, Extends)
    wider = fitted.with_items(pl.DataFrame({"id": ["f"], "text": ["a thing"], "title": ["rose oil"]}))
    assert set(listed(wider, 2)[:3]) == {1, 2, 6} and 6 not in listed(fitted, 2)
    wider.save_pretrained(tmp_path / "model")
    again = LastTitle.from_pretrained(tmp_path / "model")
    assert listed(again, 2) == listed(wider, 2) and again.item_text is not None and again.item_text[5] == "a thing"


def test_no_title_is_refused() -> None:
    with pytest.raises(DataError, match="import it with text columns"):
        LastTitle().fit(dataclasses.replace(shop(), item_text=pl.Series("text", [""] * 5), item_fields=pl.DataFrame()), QUIET)
