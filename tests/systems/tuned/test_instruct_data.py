"""Instructions out of a log: what they tell, what they must not tell, how they are drawn, and what a teacher adds."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hostile import HOSTILE

from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import GROUP_WORDS, KINDS, taste_and_wish_world
from tongtu.errors import BudgetError, DataError
from tongtu.llm.cached import CachedModel
from tongtu.llm.ledger import Budget, Ledger
from tongtu.llm.model import Prompt
from tongtu.llm.scripted import ScriptedModel
from tongtu.systems.prompted._templates import Words
from tongtu.systems.tuned._instruct_data import Instructing, Instructions, Known, Pair, Shares, Taught
from tongtu.systems.tuned._instruct_templates import FORMS, TEMPLATES, Template
from tongtu.systems.tuned._taste import distinct_names, taste
from tongtu.systems.tuned._teacher import teach
from tongtu.systems.tuned._wants import said_wish
from tongtu.vocab import Vocab

WORLD = taste_and_wish_world(users=60, items=80)
WORDS = Words(thing="film", things="films", act="watch", acted="watched")
TOLD = {"thing": "film", "things": "films", "act": "watch", "acted": "watched"}
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


def instructions(data: Dataset = WORLD.data, taught: Taught | None = None, seed: int = 0, max_history: int = 5, **settings: object) -> Instructions:
    known = Known.of(data, "categories", "film", 60)
    return Instructions(known, Instructing(**settings), WORDS, max_history, seed, taught or Taught())  # type: ignore[arg-type]


def only(*forms: str) -> Shares:
    return Shares(**{form: float(form in forms) for form in FORMS})


def templates_of(pair: Pair) -> list[Template]:
    """The templates by which a pair may have been written."""
    found = [one for one in TEMPLATES if re.fullmatch(_pattern(one.prompt), pair[0], re.DOTALL) and re.fullmatch(_pattern(one.answer), pair[1], re.DOTALL)]
    assert found, pair
    return found


def _pattern(text: str) -> str:
    words = text
    for name, word in TOLD.items():
        words = words.replace("{" + name + "}", word)
    return re.sub(r"\\\{\w+\\\}", ".+", re.escape(words))


def strings(prompt: str) -> list[str]:
    """The quoted strings of a prompt."""
    return [json.loads(text) for text in QUOTED.findall(prompt)]


def test_every_template_is_drawn_and_is_answered() -> None:
    drawn = instructions(per_user=60).draw(0)
    used = Counter(id(one) for pair in drawn for one in templates_of(pair))
    assert all(used[id(one)] for one in TEMPLATES)
    assert all(answer and "{" not in prompt + answer for prompt, answer in drawn)


def test_draws_follow_from_seed_and_epoch() -> None:
    source = instructions()
    assert source.draw(3) == source.draw(3) == instructions().draw(3)
    assert source.draw(3) != source.draw(4) and source.draw(3) != instructions(seed=1).draw(3)
    assert len(source.draw(0)) == 4 * 60


def test_history_is_strictly_before_the_target_and_in_order() -> None:
    data, names = WORLD.data, instructions().known.facts.names
    code = {name: number for number, name in enumerate(names)}
    found = 0
    for prompt, answer in instructions(shares=only("matching"), per_user=20).draw(0):
        told = [code[text] for text in strings(prompt) if text in code]
        if not told:
            continue
        found += 1
        ways = []
        for user in range(1, data.users.size):
            history = data.history(user).tolist()
            ways += [history[max(0, at - 5) : at] == told for at in np.flatnonzero(np.array(history) == code[answer])]
        assert any(ways), (prompt, answer)
    assert found > 300


def test_history_only_instructions_tell_nothing_of_the_target() -> None:
    """Neither its title nor its categories; a kind changes from event to event, so whoever told it would leak."""
    source = instructions(shares=only("matching", "reasoned"), per_user=40)
    kinds = set(KINDS)
    seen = 0
    for prompt, answer in source.draw(0):
        if "wish:" in prompt or "Search" in prompt or "looking for" in prompt or "says" in prompt or "choose among" in prompt:
            continue
        seen += 1
        target = answer.rpartition("choice: ")[2]
        assert target not in strings(prompt)
        if "taste" not in prompt and "usually like" not in prompt:
            assert not kinds & set(re.findall(r"\w+", prompt))
    assert seen > 500


def test_a_wish_shares_no_words_with_its_title() -> None:
    titles = [f"{title} music" if number % 2 else title for number, title in enumerate(WORLD.data.item_text)]
    data = dataclasses.replace(WORLD.data, item_fields=WORLD.data.item_fields.with_columns(title=pl.Series(titles)))
    for prompt, answer in instructions(data, shares=only("matching"), per_user=30).draw(0):
        if found := re.search(r'(?:wish|Search|this|something|says): (".*?")', prompt):
            assert not {word.casefold() for word in re.findall(r"\w+", json.loads(found[1]))} & {word.casefold() for word in answer.split()}


def test_yes_and_no_are_balanced_also_for_each_item() -> None:
    drawn = instructions(shares=only("pointwise"), per_user=200).draw(0)
    verdicts = Counter(answer for _, answer in drawn)
    assert set(verdicts) == {"yes", "no"} and abs(verdicts["yes"] / len(drawn) - 0.5) < 0.02
    asked: Counter[tuple[str, str]] = Counter()
    for prompt, answer in drawn:
        asked[strings(prompt)[-1], answer] += 1
    often = [name for name, _ in Counter(name for name, _ in asked.elements()).most_common(10)]
    assert all(0.25 < asked[name, "yes"] / (asked[name, "yes"] + asked[name, "no"]) < 0.75 for name in often)


@pytest.mark.parametrize(("form", "size"), [("reranking", 6), ("pairwise", 2)])
def test_the_place_of_the_target_tells_nothing(form: str, size: int) -> None:
    source = instructions(shares=only(form), per_user=60, listed=6)
    code = {name: number for number, name in enumerate(source.known.facts.names)}
    places = []
    for prompt, answer in source.draw(0):
        listed = [text for text in strings(prompt) if text in code][-size:]
        assert len(set(listed)) == size and listed.count(answer) == 1
        places.append(listed.index(answer))
    counts = np.bincount(places, minlength=size)
    assert len(counts) == size and (abs(counts / len(places) - 1 / size) < 0.04).all()


def test_items_beside_the_target_were_never_met() -> None:
    source = instructions(shares=only("reranking"), per_user=20)
    data, code = WORLD.data, {name: number for number, name in enumerate(source.known.facts.names)}
    users = [data.history(user).tolist() for user in range(1, data.users.size)]
    for prompt, answer in source.draw(0):
        told = [code[text] for text in strings(prompt) if text in code]
        others = set(told[-10:]) - {code[answer]}
        history = told[:-10]
        if history:
            owners = [own for own in users if any(own[max(0, at - 5) : at] == history and own[at] == code[answer] for at in range(1, len(own)))]
            assert any(not others & set(own) for own in owners)


def test_diversifications_can_be_switched_off() -> None:
    kinds = {kind for pair in instructions(shares=only("pointwise", "pairwise", "matching", "reranking"), per_user=20).draw(0) for kind in templates_of(pair)}
    assert {one.form for one in kinds} == {"pointwise", "pairwise", "matching", "reranking"}
    turned = instructions(shares=only("turned"), per_user=20).draw(0)
    assert {one.task for pair in turned for one in templates_of(pair)} == {"writing"}
    reasoned = instructions(shares=only("reasoned"), per_user=20).draw(0)
    assert all("choice: " in answer for _, answer in reasoned)


def test_a_related_wish_is_one_that_the_history_holds() -> None:
    def held(related: bool) -> list[bool]:
        source = instructions(shares=only("matching"), per_user=40, related=related)
        wants = source.known.wants
        code = {name: number for number, name in enumerate(source.known.facts.names)}
        found = []
        for prompt, _ in source.draw(0):
            said = strings(prompt)  # a prompt that tells a taste alone quotes nothing
            history = [code[text] for text in said if text in code]
            vague = re.search(r"(?:from|in) (\w+)(?:\.| today|, but)", said[-1]) if said else None
            if history and vague and wants.categories is not None:
                found.append(wants.categories.names.index(vague[1]) in wants.held(history))
        return found

    assert len(held(True)) > 50 and all(held(True)) and not all(held(False))


def test_taste_by_rules() -> None:
    source = instructions()
    groups = {code: group for code, group in enumerate(WORLD.group) if group == 1}
    text = taste(source.known.facts, list(groups)[:5])
    assert text.startswith("mostly music, often ") and text.rpartition(" ")[2] in KINDS and not any(name and name in text for name in source.known.facts.names)
    assert taste(source.known.facts, []) == "" and taste(source.known.facts, [0, 0]) == ""


def test_what_reviews_say() -> None:
    assert said_wish("Great stuff. I was looking for something my dog cannot chew! Five stars.") == "I was looking for something my dog cannot chew"
    assert said_wish("I bought this for my son, who is six.") == "I bought this for my son, who is six"
    assert said_wish("It is good. The colour needs light. " + "I need " + "more " * 60) == ""
    data = WORLD.data
    reviews = [f"I needed a present {number}. {data.item_text[int(code) - 1]} is good." for number, code in enumerate(data.item)]
    reviews[0] = f"I needed {data.item_text[int(data.item[0]) - 1]} badly."
    told = instructions(dataclasses.replace(data, event_fields=pl.DataFrame({"review": reviews}))).known.wants
    assert told.said(1, int(data.item[1])) == "I needed a present 1" and told.said(0, int(data.item[0])) == ""


def test_without_categories_and_reviews_only_histories_are_left() -> None:
    data = dataclasses.replace(WORLD.data, item_fields=pl.DataFrame())
    drawn = instructions(data, shares=only("matching"), per_user=10).draw(0)
    assert len(drawn) == 600
    assert all({one.intention for one in templates_of(pair)} == {"none"} for pair in drawn)


def test_equal_titles_become_different_names() -> None:
    titles = ["Heat", "Heat", "Heat (2)", "heat", "Heat", "", "item i6", ""]
    data = Dataset("twins", Vocab(["u"]), Vocab([f"i{n}" for n in range(1, 9)]), np.ones(1, np.int32), np.array([0, 1]), item_text=pl.Series("text", titles))
    names = distinct_names(data, "item", 60)
    assert len(set(names)) == len(names) == 8 and names[:3] == ["Heat", "Heat (3)", "Heat (2)"] and names[5:] == ["item i6", "item i6 (2)", "item i8"]
    with pytest.raises(DataError, match="no item has a title"):
        distinct_names(dataclasses.replace(data, item_text=pl.Series("text", [""] * 8)), "item", 60)


@pytest.mark.parametrize("title", HOSTILE)
def test_a_hostile_title_stays_a_quoted_string(title: str) -> None:
    titles = [title if number % 3 == 0 else text for number, text in enumerate(WORLD.data.item_text)]
    source = instructions(dataclasses.replace(WORLD.data, item_fields=WORLD.data.item_fields.with_columns(title=pl.Series(titles))))
    names = set(source.known.facts.names)
    for prompt, answer in source.draw(0):
        assert prompt.isprintable() and answer.isprintable() and "<|" not in prompt + answer and "[A]" not in prompt
        outside = QUOTED.sub("", prompt)
        assert '"' not in outside and "rank me" not in outside and "[INST]" not in prompt
        assert any(text in names for text in [*strings(prompt), answer, answer.rpartition("choice: ")[2]])


@pytest.fixture
def teacher(tmp_path: Path) -> CachedModel:
    def answer(prompt: Prompt) -> str:
        text = prompt[0].text
        if "what this person likes" in text:
            title = re.findall(r'^\d+\. "(.*)"$', text, re.MULTILINE)[0]
            number = int(title.split()[-1])
            return f"Quiet, well-made things of every kind, like {title}" if number % 5 == 0 else '"Quiet, well-made things of every kind"\nand more'
        return "I wish for something that suits a rainy evening."

    return CachedModel(ScriptedModel(answer), Ledger(budget=Budget(tokens=10_000_000)), tmp_path / "answers.sqlite")


def test_a_teacher_writes_taste_and_wish(teacher: CachedModel) -> None:
    known = Known.of(WORLD.data, "categories", "film", 60)
    taught = teach(teacher, known, WORDS, 40, 0)
    assert 20 < len(taught.tastes) < 40, "a taste that names a film of the history is thrown away"
    assert len(taught.wishes) == 40 and set(taught.wishes.values()) == {"I wish for something that suits a rainy evening."}
    offset = WORLD.data.offset
    assert all(offset[user - 1] < at < offset[user] and text == "Quiet, well-made things of every kind" for user, (at, text) in taught.tastes.items())
    drawn = instructions(taught=taught, per_user=40).draw(0)
    assert sum("rainy evening" in prompt for prompt, _ in drawn) > 5 and sum("well-made" in prompt for prompt, _ in drawn) > 20


def test_a_taught_taste_is_told_only_of_later_events() -> None:
    data = WORLD.data
    taught = Taught({user: (int(data.offset[user]) - 1, "a taste of rare things") for user in range(1, data.users.size)})
    last = {instructions().known.facts.names[code] for code in data.item[data.offset[1:] - 1]}
    answers = [answer for prompt, answer in instructions(taught=taught, shares=only("matching"), per_user=40).draw(0) if "rare things" in prompt]
    assert len(answers) > 10 and set(answers) <= last


def test_a_teacher_that_costs_too_much_stops(tmp_path: Path) -> None:
    model = CachedModel(ScriptedModel(lambda prompt: "I wish for it"), Ledger(budget=Budget(tokens=500)), tmp_path / "answers.sqlite")
    with pytest.raises(BudgetError):
        teach(model, Known.of(WORLD.data, "categories", "film", 60), WORDS, 40, 0)


def test_worlds_of_wishes_are_what_they_say() -> None:
    world = taste_and_wish_world()
    assert world.blind_ndcg is not None and world.blind_ndcg + 0.2 < world.best_ndcg < 0.9
    for code, (title, categories) in enumerate(world.data.item_fields.iter_rows(), start=1):
        assert GROUP_WORDS[world.group[code] - 1][0] in title and KINDS[categories[1]] in title and not set(categories) & set(title.split())
