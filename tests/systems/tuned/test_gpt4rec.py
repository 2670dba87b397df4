"""GPT4Rec as a system: titles in, queries out, and what a search makes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tiny_causal import write_tiny_causal

from tongtu.core import Extends, FitOptions, Hears, Request, Writer
from tongtu.data.dataset import Dataset
from tongtu.data.splits import leave_one_out
from tongtu.data.synthetic import taste_world
from tongtu.errors import ConfigError, DataError
from tongtu.evaluation.evaluate import validator
from tongtu.systems import make
from tongtu.systems.tuned._gpt4rec_titles import Lines, Redrawing, Shelf, ending
from tongtu.systems.tuned.gpt4rec import GPT4Rec
from tongtu.tuning.opening import open_network
from tongtu.tuning.settings import Tuning
from tongtu.vocab import Vocab

TUNING: Mapping[str, Any] = {"model": "llama:tiny", "vocabulary": 450, "max_target": 12}
SMALL: Mapping[str, Any] = {"queries": 4, "max_history": 4, "tuning": TUNING, "training": {"epochs": 1, "tokens": 1024, "learning_rate": 3e-3}}
QUIET = FitOptions(quiet=True)
TITLES = ["rose hand cream", "rose soap", "night cream for dry skin", "", "razor blades", "soap"]


def log() -> Dataset:
    return leave_one_out(taste_world(users=40, items=40).data).train


def fitted(**changes: Any) -> GPT4Rec:
    system = make("gpt4rec", {**SMALL, **changes}).fit(log(), QUIET)
    assert isinstance(system, GPT4Rec)
    return system


@cache
def small() -> GPT4Rec:
    """A model that has learned how titles look; nobody may change it."""
    return fitted(beams=12, training={"epochs": 8, "tokens": 256, "learning_rate": 3e-3})


def shelf(model: str = "llama:tiny", most: int = 3, **changes: Any) -> Shelf:
    net = open_network(Tuning(model=model, vocabulary=420, **changes), ["All that was bought:", *TITLES])
    return Shelf.of(net.wording, TITLES, "All that was bought:", most)


def shop(*histories: list[int]) -> Dataset:
    lengths = [len(one) for one in histories]
    users, items = Vocab([f"u{n}" for n in range(len(histories))]), Vocab([f"i{n}" for n in range(1, 7)])
    offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Dataset("shop", users, items, np.concatenate(histories).astype(np.int32), offset, item_text=pl.Series("text", TITLES))


def rows(examples: Any) -> list[tuple[list[int], list[int]]]:
    """Tokens of each row that are told, and that are learned."""
    ends = zip(examples.prompt_stop, examples.prompt_length, examples.answer_stop, examples.answer_length, strict=True)
    return [((examples.prompt[p - n : p] - 1).tolist(), (examples.answer[a - m : a] - 1).tolist()) for p, n, a, m in ends]


def test_every_title_of_a_history_is_learned_once_from_those_before() -> None:
    told = shelf(most=2)
    title = [told.prompt(np.array([code], np.int32))[len(told.head) :] for code in range(7)]
    assert not title[0] and not title[4] and title[1][-1] == title[6][-1] == told.end
    lines = Lines.of(told, shop([1, 2, 2, 4, 2, 3, 5, 6], [4], [4, 6]))  # 4 has no title, 2 follows 2
    assert rows(lines.whole()) == [(told.head, title[3] + title[5] + title[6]), (told.head, title[1] + title[2]), (told.head, title[6])]
    for seed in range(5):
        (one,) = rows(lines.drawn(1, seed))
        assert one[1] in title and one[0][: len(told.head)] == told.head
        asked = {tuple(told.prompt(told.told(np.array(history, np.int32)))) for history in ([1], [1, 2], [1, 2, 3], [1, 2, 3, 5])}
        assert tuple(one[0]) in asked, "a question looks as in training"
    every, few = rows(lines.whole()), [rows(Redrawing(lines, None, 2).epoch(0, number)) for number in range(6)]
    assert all(len(some) == 2 and all(one in every for one in some) for some in few) and any(some != few[0] for some in few)
    assert len(Redrawing(lines, 3, 1).epoch(0, 0)) == 3
    assert len(lines.drawn(3, 0)) == 3 and rows(lines.drawn(3, 1)) == rows(lines.drawn(3, 1)) != rows(lines.drawn(3, 2))


def test_a_row_of_all_titles_begins_like_a_question() -> None:
    told = shelf(most=3)
    (whole,) = rows(Lines.of(told, shop([1, 2, 3, 5])).whole())
    question = told.prompt(told.told(np.array([1, 2, 3], np.int32)))
    assert (whole[0] + whole[1])[: len(question)] == question


def test_the_oldest_titles_go_first_and_go_whole() -> None:
    roomy = shelf(most=10)
    history = np.array([1, 2, 3, 5, 6], np.int32)
    assert roomy.told(history).tolist() == history.tolist() and shelf(most=2).told(history).tolist() == [5, 6]
    need = len(roomy.prompt(np.array([3, 5, 6], np.int32)))
    for room, kept in ((need, [3, 5, 6]), (need - 1, [5, 6])):
        tight = shelf(most=10, max_prompt=room)
        assert tight.told(history).tolist() == kept and len(tight.prompt(tight.told(history))) <= room
        (asked, _), *_ = rows(Lines.of(tight, shop([*history.tolist(), 2])).drawn(1, 3))
        assert len(asked) <= room
    longest = max(len(asked) + len(learned) for asked, learned in rows(Lines.of(shelf(most=10, max_prompt=need), shop(history.tolist() * 3)).whole()))
    assert longest <= need


def test_a_title_ends_with_its_line_where_the_tokenizer_knows_lines(tmp_path: Path) -> None:
    told = shelf()
    assert told.wording.text([told.end]) == "\n" != told.wording.text([told.wording.end])
    encoder = shelf("t5:tiny")
    assert encoder.end == encoder.wording.end == encoder.head[-1]
    words = open_network(Tuning(model=f"hf:{write_tiny_causal(tmp_path)}")).wording
    assert ending(words) == words.end


def test_queries_are_titles_and_all_different() -> None:
    system = small()
    assert isinstance(system, Writer) and isinstance(system, Extends) and isinstance(system, Hears)
    requests = log().requests(np.arange(1, 9, dtype=np.int32))
    written = system.write(requests, "queries")
    for text in written:
        queries = text.split("\n")
        assert 2 <= len(queries) <= 4 and len(set(system.titles.words(queries))) == len(queries)
    assert np.mean(["number" in query for text in written for query in text.split("\n")]) > 0.8
    with pytest.raises(ConfigError, match="choose queries"):
        system.write(requests, "poem")
    notes = system.recommend(requests, 3).notes
    assert [list(note["searched"]) for note in notes] == [text.split("\n") for text in written]
    assert all(note["prompt_tokens"] > 0 and note["completion_tokens"] > 0 for note in notes)


def test_the_list_takes_from_each_query_and_does_not_hang_on_its_length() -> None:
    system = small()
    requests = log().requests(np.arange(1, 5, dtype=np.int32))
    short, long = system.recommend(requests, 10), system.recommend(requests, 25)
    assert np.array_equal(short.items, long.items[:, :10])
    for row, note in enumerate(short.notes):
        allowed = np.ones(system.items.size, np.bool_)
        allowed[[0, *requests[row].history]] = False
        n = len(note["searched"])
        lists = system.titles.ranked(note["searched"], [""] * n, 0.0, [allowed] * n, 40)
        share = -(-10 // n)
        second = lists[1].tolist() if n > 1 else []
        brought = [code for code in second if code not in lists[0][:share]][: -(-9 // n)]
        assert len(lists[0]) >= share and short.items[row, : share + len(brought)].tolist() == [*lists[0][:share], *brought]


def test_what_was_seen_is_listed_where_that_is_wanted() -> None:
    system = small()
    request = log().requests(np.array([1], np.int32))[0]
    everything = system.recommend([dataclasses.replace(request, exclude_seen=False)], 40).items[0]
    assert sorted(everything) == list(range(1, 41)), "queries first, then what is popular"
    assert not np.isin(system.recommend([request], 40).items[0], request.history).any()


def test_without_a_known_title_popularity_answers() -> None:
    top = small().recommend([Request(), Request(history=np.zeros(2, np.int32))], 5)
    best = np.argsort(-log().item_counts[1:], kind="stable")[:5] + 1
    assert np.array_equal(top.items, [best, best]) and all("popularity" in note["reason"] for note in top.notes)


def test_a_wish_adds_its_words_and_asks_alone_where_nothing_is_known() -> None:
    system, history = small(), log().history(1)
    group = {word: {code for code, text in enumerate(system.item_text, 1) if word in text} for word in ("espresso", "telescope")}
    alone = system.recommend([Request(wish="an espresso, please")], 4)
    assert set(alone.items[0].tolist()) == group["espresso"] and alone.notes[0]["searched"] == ["an espresso, please"]
    heard, deaf = (system.recommend([Request(history=history, wish=wish)], 4).items[0].tolist() for wish in ("night sky telescope telescope", None))
    assert heard != deaf and set(heard) & group["telescope"]
    silent = GPT4Rec(dataclasses.replace(system.config, wish=0.0))
    assert system.hears_wishes and not silent.hears_wishes


def test_a_new_item_is_found_at_once_and_the_old_model_stays_as_it_was() -> None:
    system, history = small(), log().history(1)
    (query,) = (text.split("\n")[0] for text in system.write([Request(history=history)], "queries"))
    before = system.recommend([Request(history=history)], 10)
    wider = system.with_items(pl.DataFrame({"id": ["new", "other"], "text": [query, "nothing of the kind"]}))
    assert wider.recommend([Request(history=history)], 10).items[0, 0] == 41 and len(wider.items) == 42
    assert np.array_equal(system.recommend([Request(history=history)], 10).items, before.items) and len(system.items) == 40
    alone = system.with_items(pl.DataFrame({"id": ["a", "b"], "text": ["plain bread", "x"], "title": [None, query]}), keep=False)
    assert alone.titles.titles.to_list() == ["plain bread", query] and (alone.recommend([Request(history=np.array([2], np.int32))], 2).items[0] == [1, 0]).all()


def test_the_search_is_chosen_on_validation_and_kept(tmp_path: Path) -> None:
    split = leave_one_out(taste_world(users=40, items=40).data)
    asked: list[tuple[float, float]] = []
    measure = validator(split.valid)

    def validate(system: Any) -> Mapping[str, float]:
        asked.append((system.titles.searching.k1, system.titles.searching.b))
        return {**measure(system), "ndcg@10": 1.0 if asked[-1] == (0.6, 0.2) else 0.0}

    settings = {**SMALL, "k1_tried": [0.6, 2.0], "b_tried": [0.2, 0.9]}
    system: Any = make("gpt4rec", settings).fit(split.train, FitOptions(quiet=True, validate=validate))
    assert asked == [(1.2, 0.75), (0.6, 0.2), (0.6, 0.9), (2.0, 0.2), (2.0, 0.9)], "once an epoch, and once each"
    assert system.provenance["search"] == {"k1": 0.6, "b": 0.2, "ndcg@10": 1.0} and len(system.provenance["searches"]) == 4
    system.save_pretrained(tmp_path / "model")
    again = GPT4Rec.from_pretrained(tmp_path / "model")
    assert (again.titles.searching.k1, again.titles.searching.b) == (0.6, 0.2)
    assert np.array_equal(again.recommend(split.test.requests, 10).items, system.recommend(split.test.requests, 10).items)


def test_one_training_serves_many_ways_of_asking(tmp_path: Path) -> None:
    one = fitted(models=str(tmp_path))
    (folder,) = tmp_path.iterdir()
    written = folder.stat().st_mtime_ns
    other = fitted(models=str(tmp_path), queries=1, search={"b": 0.1})
    assert [path.name for path in tmp_path.iterdir()] == [folder.name] and folder.stat().st_mtime_ns == written
    requests = log().requests(np.arange(1, 5, dtype=np.int32))
    assert [text.split("\n")[0] for text in one.write(requests)] == other.write(requests)
    assert other.titles.searching.b == 0.1 and other.provenance["taken_from"] == str(folder)


def test_an_encoder_learns_what_comes_next() -> None:
    encoder = {**TUNING, "model": "t5:tiny"}
    with pytest.raises(ConfigError, match="set learns to next"):
        fitted(tuning=encoder)
    system = fitted(tuning=encoder, learns="next", per_user=2)
    top = system.recommend(log().requests(np.arange(1, 4, dtype=np.int32)), 10)
    assert (top.items > 0).all() and system.provenance["curves"][0]["loss"] > 0


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(DataError, match="no item has a title"):
        make("gpt4rec", SMALL).fit(dataclasses.replace(log(), item_text=pl.Series("text", [""] * 40)), QUIET)
    with pytest.raises(DataError, match="no user has two events with titles"):
        make("gpt4rec", {**SMALL, "learns": "next"}).fit(shop([1], [4, 2]), QUIET)
