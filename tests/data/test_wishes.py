from __future__ import annotations

import re
from typing import Any

import numpy as np
import polars as pl
import pytest

from tongtu.data.dataset import Dataset
from tongtu.data.wishes import VAGUE, Phrases, WishKind, cut_leaks, item_categories, make_wishes
from tongtu.errors import DataError
from tongtu.vocab import Vocab

PATHS = [
    ["Beauty", "Makeup", "Face", "Concealers & Neutralizers"],
    ["Beauty", "Hair Care", "Shampoos"],
    ["Beauty", "Hair Care", "Styling Products"],
    ["Beauty", "Makeup", "Eyes"],
    None,
    ["Beauty", "unknown"],
    ["Beauty", "makeup", "Makeup", "Face"],
]
TITLES = ["Camouflage Palette", "Thick Shampoo", "Styling for Hair Care Products", "Kohl", "Thing", "Other thing", "Powder"]
ALL = np.arange(1, 8, dtype=np.int32)


def catalogue(categories: Any = PATHS, **fields: Any) -> Dataset:
    size = len(TITLES)
    frame = pl.DataFrame({"title": TITLES, "categories": categories} | fields, strict=False)
    items = Vocab([f"i{number}" for number in range(1, size + 1)])
    return Dataset("shop", Vocab(["u"]), items, np.arange(1, 4, dtype=np.int32), np.array([0, 3]), item_fields=frame)


def test_a_specific_wish_is_the_path_less_what_all_items_have_and_what_the_title_says() -> None:
    assert make_wishes(catalogue(), ALL, "specific") == [
        "Makeup, Face, Concealers & Neutralizers",
        "Hair Care",
        None,
        "Makeup, Eyes",
        None,
        None,
        "Makeup, Face",
    ]
    loose = make_wishes(catalogue(), ALL, "specific", n=2)
    assert loose[1] == "Hair Care, Shampoos" and loose[2] == "Styling Products", "Hair Care is a pair of words of this title"


def test_a_vague_wish_is_a_sentence_about_a_broad_category() -> None:
    told: set[str] = set()
    for seed in range(30):
        wishes = make_wishes(catalogue(), ALL, "vague", seed=seed)
        assert [wish is None for wish in wishes] == [False, False, True, False, True, True, False]
        for wish in wishes:
            if wish is not None:
                found = next(match for form in VAGUE if (match := re.fullmatch(re.escape(form).replace(r"\{category\}", "(.*)"), wish)))
                told.add(found[1])
    assert told == {"Makeup", "Face", "Hair Care"}, "of three, the two that most items have; never the narrowest"


def test_wishes_depend_on_the_seed_and_the_item_alone() -> None:
    kinds: tuple[WishKind, ...] = ("specific", "vague")
    for kind in kinds:
        whole = make_wishes(catalogue(), ALL, kind, seed=3)
        some = np.array([4, 0, 1, 4, 7], np.int32)
        assert make_wishes(catalogue(), some, kind, seed=3) == [whole[3], None, whole[0], whole[3], whole[6]]
    assert make_wishes(catalogue(), ALL, "vague", seed=3) != make_wishes(catalogue(), ALL, "vague", seed=4)
    assert make_wishes(catalogue(), ALL[:0], "vague") == []


@pytest.mark.parametrize(
    ("phrase", "title", "n", "left"),
    [
        ("Shampoos", "Thick SHAMPOO, 8 oz", 1, ""),
        ("Women's Shoes", "Boots for women", 1, "Shoes"),
        ("Eau de Toilette", "Cologne for men", 1, "Eau de Toilette"),
        ("Creams, Gels & Lotions", "A lotion", 1, "Creams, Gels"),
        ("Creams, Gels & Lotions", "Bright gel", 1, "Creams, Lotions"),
        ("Bath & Body", "Bath salt", 1, "Body"),
        ("Sci-Fi", "The Sci-Fi Collection", 1, ""),
        ("Sci-Fi", "The Sci-Fi Collection", 2, ""),
        ("Bath & Body", "Body bath", 2, "Bath & Body"),
        ("War", "Star Wars", 1, ""),
        ("War", "Warrior", 1, "War"),
        ("Accessories", "One accessory", 1, ""),
        ("Dresses", "Dress", 1, ""),
        ("Glass", "Glasses", 1, ""),
        ("Komödie & Drama", "Eine KOMÖDIE", 1, "Drama"),
        ("Drama", "", 1, "Drama"),
    ],
)
def test_words_of_the_title_are_cut(phrase: str, title: str, n: int, left: str) -> None:
    assert cut_leaks(phrase, title, n) == left


def test_no_word_of_a_wish_stands_in_the_title() -> None:
    data = catalogue([[*title.split(), "Elsewhere"] for title in TITLES[:4]] + [["Rest"]] * 3)
    assert make_wishes(data, ALL, "specific") == ["Elsewhere"] * 4 + ["Rest"] * 3


def test_categories_are_counted_once_an_item_in_any_spelling() -> None:
    found = item_categories(catalogue())
    assert found.names == ("Makeup", "Face", "Concealers & Neutralizers", "Hair Care", "Shampoos", "Styling Products", "Eyes")
    assert [found.of(code) for code in (1, 5, 6, 7, 0)] == [[0, 1, 2], [], [], [0, 1], []]
    assert found.counts.tolist() == [3, 2, 1, 2, 1, 1, 1]


def test_other_fields_serve_too() -> None:
    data = catalogue(genres=["Animation|Comedy", "Drama", None, "Makeup > Eyes", "", "Drama; War", "Drama"])
    assert make_wishes(data, ALL, "specific", field="genres") == ["Animation, Comedy", "Drama", None, "Makeup, Eyes", None, "Drama, War", "Drama"]
    numbers = catalogue(kinds=[[1, 2], [1], [], None, [3], [2], [2, 1]])
    assert make_wishes(numbers, ALL, "specific", field="kinds")[0] == "1, 2"


@pytest.mark.parametrize(
    ("data", "field", "told"),
    [
        (catalogue(), "genre", "no item field 'genre' .* name one of title, categories"),
        (Dataset("bare", Vocab(["u"]), Vocab(["i"]), np.ones(1, np.int32), np.array([0, 1])), "categories", "it has none"),
        (catalogue(price=[1.0] * 7), "price", "holds Float64"),
        (catalogue([[["Makeup"]]] * 7), "categories", "must be lists of names"),
        (catalogue([["Beauty"]] * 7), "categories", "tells no item from others"),
        (catalogue([[]] * 6 + [["unknown"]]), "categories", "tells no item from others"),
    ],
)
def test_what_cannot_make_wishes_is_told(data: Dataset, field: str, told: str) -> None:
    with pytest.raises(DataError, match=told) as refusal:
        make_wishes(data, np.ones(1, np.int32), "vague", field=field)
    assert "\n" not in str(refusal.value)


def test_names_are_found_in_what_a_user_types() -> None:
    phrases = Phrases(["Makeup", "Makeup Remover", "Hair Care", "Eyes", "Creams, Gels & Lotions", "&", "Sci-Fi"])
    assert phrases.found("a MAKEUP remover for the eye, please; no makeup") == [1, 3, 0]
    assert phrases.found("creams gels lotions and hair-care") == [4, 2]
    assert phrases.found("something from sci-fi, or Sci-Fi") == [6]
    assert phrases.found("hair, or care & cream") == [] == phrases.found("")
    assert Phrases([]).found("anything") == []
