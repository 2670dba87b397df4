from __future__ import annotations

import math
from pathlib import Path

import bm25s
import numpy as np
import polars as pl
import pytest

from tongtu.core import Extends, FitOptions, Hears, Request, Scores
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError, DataError
from tongtu.systems import make
from tongtu.systems.baselines.bm25 import BM25
from tongtu.vocab import Vocab

QUIET = FitOptions(quiet=True)
ALL = slice(0, None)
TEXTS = ["red apple", "red red wine", "green tea", "black tea and milk", "the", ""]


def shop(texts: list[str] = TEXTS) -> Dataset:
    """Item 5 is the most popular, then 4, 3, 2, 1, and 6 has no event."""
    events = np.concatenate([np.full(n, n) for n in (1, 2, 3, 4, 5)]).astype(np.int32)
    items = Vocab([f"i{n}" for n in range(1, len(texts) + 1)])
    return Dataset("shop", Vocab(["u"]), items, events, np.array([0, len(events)]), item_text=pl.Series("text", texts))


def asked(system: BM25, *history: int, wish: str | None = None) -> Scores:
    return system.score([Request(history=np.array(history, np.int32), wish=wish)], ALL)[0]


@pytest.fixture(scope="module")
def fitted() -> BM25:
    return BM25().fit(shop(), QUIET)


def test_the_textbook_formula_by_hand(fitted: BM25) -> None:
    """6 texts of 2, 3, 2, 3 ("and" is a stop word), 0 and 0 words: 10 / 6 on average; "red" and "tea" stand in 2, "apple" and "wine" in 1."""
    rare, common = math.log(5.5 / 1.5), math.log(4.5 / 2.5)

    def part(idf: float, times: int, length: int) -> float:
        return idf * times / (times + 1.2 * (0.25 + 0.75 * length / (10 / 6)))

    apple = asked(fitted, 1)
    assert apple[1] == pytest.approx(part(common, 1, 2) + part(rare, 1, 2), rel=1e-5)
    assert apple[2] == pytest.approx(part(common, 2, 3), rel=1e-5)
    both = asked(fitted, 2, 1)  # the wine is older and weighs .9; "red" stands in it twice
    assert both[2] == pytest.approx(part(common, 2, 3) + 0.9 * (2 * part(common, 2, 3) + part(rare, 1, 3)), rel=1e-5)


@pytest.mark.parametrize("idf", ["robertson", "lucene"])
@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.5, 0.0), (2.0, 1.0)])
def test_scores_are_those_of_the_library(idf: str, k1: float, b: float) -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"word{n}" for n in range(30)])
    texts = [" ".join(rng.choice(words, rng.integers(1, 12), p=np.arange(30, 0, -1) / 465)) for _ in range(40)]
    system = BM25(BM25.Config(k1=k1, b=b, idf=idf, decay=1.0)).fit(shop(texts), QUIET)  # type: ignore[arg-type]
    engine = bm25s.BM25(k1=k1, b=b, method=idf)
    engine.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    for history in ([3], [7, 1, 12]):
        query = " ".join(texts[code - 1] for code in history)
        theirs = engine.get_scores(bm25s.tokenize(query, return_ids=False, show_progress=False)[0])
        ours = asked(system, *history)[1:]
        assert ours[theirs > 0] == pytest.approx(theirs[theirs > 0], rel=1e-4) and (ours[theirs <= 0] < 0).all() and (theirs > 0).sum() > 10


def test_what_no_word_reaches_follows_by_popularity(fitted: BM25) -> None:
    request = Request(history=np.array([1], np.int32), exclude_seen=False)
    assert fitted.recommend([request], 6).items[0].tolist() == [1, 2, 5, 4, 3, 6]
    for history in ([], [0, 0], [6]):  # nothing, unknown items, an item without text
        found = fitted.recommend([Request(history=np.array(history, np.int32), exclude_seen=False)], 6)
        assert found.items[0].tolist() == [5, 4, 3, 2, 1, 6]


def test_only_the_newest_events_ask() -> None:
    system = BM25(BM25.Config(last=2)).fit(shop(), QUIET)
    assert np.array_equal(asked(system, 1, 3, 4), asked(system, 3, 4)) and asked(system, 1, 3, 4)[1] < 0 < asked(system, 3, 1)[1]


def test_a_wish_is_one_more_newest_item(fitted: BM25) -> None:
    assert np.array_equal(asked(fitted, wish="Green TEA, please"), asked(fitted, 3))
    both = asked(fitted, 1, wish="milk")
    assert both[4] > 0 and np.array_equal(both[1:3], asked(fitted, 1)[1:3])
    mixed = fitted.score([Request(wish="milk"), Request(), Request(wish="unheard")], ALL)
    assert np.array_equal(mixed[0], asked(fitted, wish="milk")) and np.array_equal(mixed[1], mixed[2]) and (mixed[1] < 0).all()


def test_the_wish_may_ask_alone_or_not_at_all(fitted: BM25) -> None:
    alone, deaf = (BM25(BM25.Config(asks=asks)).fit(shop(), QUIET) for asks in ("wish", "history"))  # type: ignore[arg-type]
    assert np.array_equal(asked(alone, 1, 2, wish="green tea"), asked(fitted, wish="green tea"))
    for wish in (None, "", "unheard"):
        assert np.array_equal(asked(alone, 1, 2, wish=wish), asked(fitted, 1, 2)), "without a word of the catalogue, the history asks"
    requests = [Request(history=np.array([1], np.int32), wish="milk"), Request(history=np.array([3], np.int32))]
    assert np.array_equal(alone.score(requests, ALL), np.stack([asked(fitted, wish="milk"), asked(fitted, 3)]))
    assert np.array_equal(asked(deaf, 1, wish="milk"), asked(fitted, 1)) and np.array_equal(asked(deaf, wish="milk"), asked(fitted))
    assert [isinstance(system, Hears) and system.hears_wishes for system in (fitted, alone, deaf)] == [True, True, False]
    assert not isinstance(make("popular"), Hears)


def test_a_slice_scores_exactly_as_the_whole(fitted: BM25) -> None:
    requests = [Request(history=np.array(h, np.int32)) for h in ([1, 2, 3], [4], [])]
    whole = fitted.score(requests, ALL)
    assert all(np.array_equal(fitted.score(requests, slice(a, b)), whole[:, a:b]) for a in range(7) for b in range(a + 1, 8))


def test_other_items_are_indexed_anew(fitted: BM25) -> None:
    assert isinstance(fitted, Extends)
    more = fitted.with_items(pl.DataFrame({"id": ["new", "i1"], "text": ["apple wine", "not read"]}))
    assert more.items.ids.to_list() == [*fitted.items.ids, "new"] and asked(more, 1)[7] > 0
    again = BM25().fit(shop([*TEXTS, "apple wine"]), QUIET)
    assert np.array_equal(asked(more, 1, 4), asked(again, 1, 4))
    only = fitted.with_items(pl.DataFrame({"id": ["x", "i4"], "text": ["malt whisky", "black tea and milk"]}), keep=False)
    assert only.recommend([Request()], 2).items[0].tolist() == [2, 1], "the known item keeps its popularity"
    assert len(fitted.items) == 6 and asked(fitted, 1).shape == (7,)
    empty = fitted.with_items(pl.DataFrame({"id": ["x"], "text": [""]}), keep=False)
    assert empty.recommend([Request(wish="tea")], 1).items.tolist() == [[1]]


def test_a_folder_brings_words_of_any_script_back(tmp_path: Path) -> None:
    system = BM25().fit(shop(["καφές ελληνικός", "чай зелёный", "ελληνικός", "x2 y", "naïve café"]), QUIET)
    system.save_pretrained(tmp_path / "model")
    opened = BM25.from_pretrained(tmp_path / "model")
    for history, wish in (([1], None), ([2, 5], "ЧАЙ"), ([], "café")):
        assert np.array_equal(asked(opened, *history, wish=wish), asked(system, *history, wish=wish))
    assert asked(opened, 1)[3] > 0


def test_stop_words_can_be_kept() -> None:
    assert asked(BM25(BM25.Config(stopwords=None)).fit(shop(), QUIET), wish="the")[5] > 0 > asked(BM25().fit(shop(), QUIET), wish="the")[5]
    with pytest.raises(ConfigError, match="stopwords"):
        make("bm25", {"stopwords": "klingon"})


def test_a_catalogue_without_words_is_refused() -> None:
    with pytest.raises(DataError, match="import it with text columns"):
        BM25().fit(shop(["", "", "", "", ""]), QUIET)
