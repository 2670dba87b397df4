"""What a model wrote is matched by label, exact title, then the best fuzzy match; the rest is counted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongtu.llm.grounding import Grounded, entries, ground
from tongtu.llm.wording import labels

FILMS = ["Toy Story (1995)", "Toy Story 2 (1999)", "Heat (1995)", "M (1931)", 'Say "Anything" (1989)', "七人の侍 (1954)", "The Usual Suspects (1995)"]
NAMES = labels(len(FILMS))


@pytest.mark.parametrize(
    ("answer", "places"),
    [
        ("[C]\n[A]", (2, 0)),
        ("[C] Heat\n[A] Toy Story", (2, 0)),
        ("1. [C]\n2. [A]\n", (2, 0)),
        ("C, A, B", (2, 0, 1)),
        ("[C] > [A] > [B]", (2, 0, 1)),
        ("C. Heat\nA) Toy Story", (2, 0)),
        ('{"ranking": ["C", "A"]}', (2, 0)),
        ("Here you are: ['Heat (1995)', 'M (1931)']", (2, 3)),
        ("1. Heat (1995)\n2. toy story 2 (1999)", (2, 1)),
        ("- Usual Suspects, The (1995)\n- The Usual Suspect (1995)", (6,)),
        ("7. 七人の侍 (1954)", (5,)),
        ("1. Heat [1995]\n2. Toy Story (1995)", (0,)),
        ('{"ranking": ["C"]}', (2,)),
        ('["C"]', (2,)),
        ('"Say &quot;Anything&quot; (1989)"', (4,)),
    ],
)
def test_named(answer: str, places: tuple[int, ...]) -> None:
    assert ground(answer, FILMS, NAMES).places == places


def test_a_stray_word_stands_for_nothing() -> None:
    assert ground("Note\n1\nToy\nStory\n", FILMS) == Grounded((), outside=4)


def test_the_best_match_counts_and_not_the_first() -> None:
    assert ground("Toy Story 2 (1999", FILMS).places == (1,)


def test_a_label_that_only_counts_lines_gives_way_to_an_exact_title() -> None:
    assert ground("[A] Heat (1995)\n[B] Toy Story (1995)", FILMS, NAMES).places == (2, 0)
    assert ground("[B] because it is like Heat (1995)", FILMS, NAMES).places == (1,)
    assert ground("[B] Twins\n[A] Twins", ["Twins", "Twins"], labels(2)).places == (1, 0)


def test_what_is_made_up_or_said_twice_is_counted() -> None:
    assert ground("[A]\n[A]\n[Z]\nHeat (1995)\nAn unknown film (2031)", FILMS, NAMES) == Grounded((0, 2), outside=2, repeated=1)


def test_a_label_is_no_label_where_none_were_given() -> None:
    assert ground("M (1931)", FILMS).places == (3,)
    assert ground("A", FILMS) == Grounded((), outside=1)


@given(st.permutations(range(len(FILMS))))
def test_any_order_comes_back(order: list[int]) -> None:
    assert ground("\n".join(f"[{NAMES[place]}] {FILMS[place]}" for place in order), FILMS, NAMES).places == tuple(order)
    assert ground("\n".join(FILMS[place] for place in order), FILMS).places == tuple(order)
    assert ground(json.dumps([NAMES[place] for place in order]), FILMS, NAMES).places == tuple(order)


@given(st.text(max_size=200))
def test_no_answer_breaks_it(answer: str) -> None:
    found = ground(answer, FILMS, NAMES)
    assert len(set(found.places)) == len(found.places) and found.outside + found.repeated + len(found.places) == len(entries(answer))
