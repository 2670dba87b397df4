from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tongtu.core import FitOptions, Hears, Request, TopK
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError, DataError
from tongtu.systems import make
from tongtu.systems.baselines.filtered import Filtered
from tongtu.vocab import Vocab

QUIET = FitOptions(quiet=True)
GENRES = [["Drama"], ["Comedy", "Drama"], ["Film-Noir"], ["Comedy", "Children's"], ["Drama", "Film-Noir"], [], ["Comedy"], ["Horror"]]


def films() -> Dataset:
    """Eight films, the first the most popular."""
    size = len(GENRES)
    events = np.concatenate([np.full(size + 1 - n, n) for n in range(1, size + 1)]).astype(np.int32)
    items = Vocab([f"i{n}" for n in range(1, size + 1)])
    return Dataset("films", Vocab(["u"]), items, events, np.array([0, len(events)]), item_fields=pl.DataFrame({"genres": GENRES}))


@pytest.fixture(scope="module")
def fitted() -> Filtered:
    return Filtered(Filtered.Config(retriever="popular", field="genres")).fit(films(), QUIET)


def ids(top: TopK) -> list[int]:
    return [int(code) for code in top.items[0] if code]


def test_what_fits_the_wish_stands_first_and_the_rest_as_before(fitted: Filtered) -> None:
    assert ids(fitted.recommend([Request()], 8)) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert ids(fitted.recommend([Request(wish="I am in the mood for something from comedy.")], 8)) == [2, 4, 7, 1, 3, 5, 6, 8]
    assert ids(fitted.recommend([Request(wish="FILM NOIR")], 3)) == [3, 5, 1], "the retriever is asked further down than the list is long"


def test_more_of_the_wish_stands_before_less(fitted: Filtered) -> None:
    top = fitted.recommend([Request(wish="Drama, Film-Noir, Comedy")], 8)
    assert ids(top) == [2, 5, 1, 3, 4, 7, 6, 8] and top.notes == [{"categories": 3}]
    scores = top.scores[0]
    assert (np.diff(scores) < 0).all() and (scores[:2] >= 2 / 3).all() and (scores[2:6] < 2 / 3).all() and (scores[6:] < 1 / 3).all()


@pytest.mark.parametrize("wish", [None, "", "a quiet one for a rainy evening"])
def test_without_a_category_the_list_is_the_retrievers(fitted: Filtered, wish: str | None) -> None:
    request = Request(history=np.array([3], np.int32))
    plain, top = fitted.retriever.recommend([request], 5), fitted.recommend([dataclasses.replace(request, wish=wish)], 5)
    assert np.array_equal(plain.items, top.items) and np.array_equal(plain.scores, top.scores)
    mixed = fitted.recommend([dataclasses.replace(request, wish=wish), Request(wish="horror")], 5)
    assert np.array_equal(mixed.items[0], plain.items[0]) and np.array_equal(mixed.scores[0], plain.scores[0])
    assert mixed.items[1, 0] == 8 and [note["categories"] for note in mixed.notes] == [0, 1]


def test_candidates_and_seen_items_are_respected_and_short_lists_end_in_pad(fitted: Filtered) -> None:
    limits = np.array([7, 1, 8, 3], np.int32)
    request = Request(history=np.array([7], np.int32), candidates=limits, wish="comedy or horror")
    top = fitted.recommend([request, dataclasses.replace(request, exclude_seen=False)], 6)
    assert top.items.tolist() == [[8, 1, 3, 0, 0, 0], [7, 8, 1, 3, 0, 0]]
    assert np.isneginf(top.scores[top.items == 0]).all() and np.isfinite(top.scores[top.items != 0]).all()


def test_fitting_items_are_looked_for_as_deep_as_it_is_set() -> None:
    shallow = Filtered(Filtered.Config(retriever="popular", field="genres", depth=5)).fit(films(), QUIET)
    assert ids(shallow.recommend([Request(wish="horror")], 3)) == [1, 2, 3]
    assert ids(shallow.recommend([Request(wish="comedy")], 3)) == [2, 4, 1]
    assert ids(shallow.recommend([Request(wish="horror")], 8))[0] == 8, "a longer list is looked through to its end"


def test_a_folder_brings_the_categories_back(fitted: Filtered, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "model")
    opened = Filtered.from_pretrained(tmp_path / "model")
    requests = [Request(wish="children's comedy"), Request(wish="drama"), Request()]
    assert np.array_equal(opened.recommend(requests, 8).items, fitted.recommend(requests, 8).items)
    assert opened.recommend(requests, 2).items[0].tolist() == [4, 2]


def test_a_saved_model_may_be_the_retriever(fitted: Filtered, tmp_path: Path) -> None:
    make("popular").fit(films(), QUIET).save_pretrained(tmp_path / "popular")
    system = Filtered(Filtered.Config(retriever=str(tmp_path / "popular"), field="genres")).fit(films(), QUIET)
    request = Request(wish="film-noir")
    assert ids(system.recommend([request], 8)) == ids(fitted.recommend([request], 8))
    other = dataclasses.replace(films(), items=Vocab([f"x{n}" for n in range(8)]))
    with pytest.raises(ConfigError, match="another catalogue than films"):
        Filtered(system.config).fit(other, QUIET)


def test_it_hears_and_needs_categories(fitted: Filtered) -> None:
    assert isinstance(fitted, Hears) and fitted.hears_wishes
    with pytest.raises(DataError, match=r"no item field 'categories'.* name one of genres"):
        make("filtered").fit(films(), QUIET)
