"""Conversations: the gate, the tool, grounded replies, the budget, new items, failing models and hostile input."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from chat_server import chat_server, tool_call
from hostile import HOSTILE

from tongtu.core import FitOptions, Recommender, Request
from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import attribute_world
from tongtu.errors import DataError, LanguageModelError
from tongtu.llm.cached import CachedModel
from tongtu.llm.model import Completion, Prompt, ToolCall
from tongtu.llm.scripted import ScriptedModel
from tongtu.systems.baselines.bm25 import BM25
from tongtu.systems.baselines.itemknn import ItemKNN
from tongtu.systems.baselines.popular import Popular
from tongtu.systems.prompted._dialogue import DialogueState, asked_for, conditions, excluded_words
from tongtu.systems.prompted._gate import asks_why
from tongtu.systems.prompted._replies import chosen, grounded, mentioned, whole_sentences
from tongtu.systems.prompted.chatrec import ChatREC, ChatRECConfig
from tongtu.systems.prompted.conversation import Conversation, ConversationConfig

LINE = re.compile(r'^\[([A-Z]{1,2})\] "(.*)"', re.MULTILINE)
GROUPS = ("jazz", "trail", "espresso", "watercolour", "mountain", "garden", "chess", "wool", "night", "sourdough")


@cache
def world() -> Dataset:
    return attribute_world(users=60, items=30, length=9, seed=1).data


@cache
def popular() -> Popular:
    return Popular().fit(world())


class Script:
    """A model that knows which question it is asked; each answer is a text or a function of the prompt."""

    def __init__(self, gate: str = "yes", about: str = "no", choose: str | Callable[[str], str] = "[C] fine\n[A] good", other: str = "so it is") -> None:
        self.kinds: list[str] = []
        self.answers: dict[str, str | Callable[[str], str]] = {"gate": gate, "about": about, "choose": choose, "summary": "they talked", "other": other}

    def __call__(self, prompt: Prompt) -> str:
        last = prompt[-1].text.split("\n\n")[-1] if not prompt[-1].text.startswith("Summarise") else "Summarise"
        known = {"Must ": "gate", "Is what I say": "about", "Choose": "choose", "Summarise": "summary"}
        self.kinds.append(next((kind for start, kind in known.items() if last.startswith(start)), "other"))
        answer = self.answers[self.kinds[-1]]
        return answer if isinstance(answer, str) else answer(prompt[-1].text)


def talk(script: Callable[[Prompt], str], tmp_path: Path, user: Request = Request(), recommender: Recommender | None = None, **settings: Any) -> Conversation:  # noqa: B008
    calls = settings.pop("calls", None)
    model = ScriptedModel(script, calls=calls)
    return Conversation(recommender or popular(), CachedModel(model, file=tmp_path / "answers.sqlite"), user, ConversationConfig(**settings))


def asked(conversation: Conversation) -> list[Prompt]:
    model = conversation.model.model
    assert isinstance(model, ScriptedModel)
    return model.asked


def order(request: Request = Request(), recommender: Recommender | None = None) -> list[str]:  # noqa: B008
    row = (recommender or popular()).recommend([request], 30).items[0]
    return world().items.decode(row[row != 0])


def test_a_turn_proposes_what_the_labels_say(tmp_path: Path) -> None:
    script = Script()
    conversation = talk(script, tmp_path)
    reply = conversation.turn("anything")
    assert [item.id for item in reply.items] == [order()[2], order()[0], order()[1], *order()[3:5]]
    assert reply.used_recommender and not reply.degraded and not reply.outside and reply.notes["chosen"] == 2
    assert [item.reason for item in reply.items[:2]] == ["fine", "good"] and "place 2" in reply.items[2].reason
    assert all(f"[{item.id}]" in reply.text and item.title in reply.text for item in reply.items)
    assert script.kinds == ["gate", "choose"] and reply.notes["prompt_tokens"] > 0 and reply.notes["calls"] == 2


@pytest.mark.parametrize("junk", ["", "maybe", "I am sorry", "42", "[A]", "\n\n", "yesterday", "nobody knows"])
def test_a_gate_that_cannot_be_read_means_yes(junk: str, tmp_path: Path) -> None:
    assert talk(Script(gate=junk), tmp_path).turn("hm").used_recommender


def test_without_the_recommender_an_answer_is_outside_and_marked(tmp_path: Path) -> None:
    script = Script(gate="No.", other="Paris, says [A], is a city.")
    reply = talk(script, tmp_path).turn("What is the capital of France?")
    assert reply.outside and not reply.used_recommender and reply.items == ()
    assert reply.text.startswith("Not from the catalogue") and "Paris" in reply.text


def test_why_is_answered_from_what_was_proposed_without_the_recommender(tmp_path: Path) -> None:
    script = Script(other='You like [H1]. [A] is like it. "Some Invented Film" too. And [Z].')
    history = np.array([3], np.int32)
    conversation = talk(script, tmp_path, Request(history=history))
    first = conversation.turn("something")
    reply = conversation.turn(f"Why {first.items[1].title}?")
    assert not reply.used_recommender and not reply.outside and script.kinds[2:] == ["other"], "no gate was needed"
    assert [item.id for item in reply.items] == [first.items[1].id]
    assert reply.text.startswith(f'You like "{world().item_text[2]}". "{first.items[0].title}" is like it. ("{first.items[1].title}" stands at place')
    assert reply.notes["sentences dropped"] == 2 and "Invented" not in reply.text
    assert "It is about [B]" in asked(conversation)[-1][-1].text


def test_a_why_that_finds_no_words_is_told_by_the_search(tmp_path: Path) -> None:
    conversation = talk(Script(other="[Q] it is"), tmp_path)
    conversation.turn("something with espresso")
    reply = conversation.turn("why number 1?")
    assert reply.degraded and "has your words espresso" in reply.text


@pytest.mark.parametrize(
    ("text", "is_why"),
    [("Why B?", True), ("but why?", True), ("Why not a comedy?", False), ("why don't you show horror", False), ("A film on why we fight", False)],
)
def test_which_turns_ask_why(text: str, is_why: bool) -> None:
    assert asks_why(text) == is_why


def calling(*calls: ToolCall) -> Callable[[Prompt], Sequence[ToolCall]]:
    return lambda prompt: calls


def test_the_gate_is_a_function_call_where_the_model_has_them(tmp_path: Path) -> None:
    script = Script()
    arguments = {"user_id": "somebody else", "n": 2, "query": "espresso", "filters": {"include": ["coffee"], "exclude": [order()[0], 7, None]}}
    reply = talk(script, tmp_path, calls=calling(ToolCall("recommend", arguments))).turn("you know what I like")
    assert len(reply.items) == 2 and all("espresso" in item.title for item in reply.items) and script.kinds == ["other", "choose"]
    reply = talk(Script(), tmp_path / "b", calls=calling(ToolCall("answer_outside", {}))).turn("who won?")
    assert reply.outside and not reply.used_recommender


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("no such tool", {}),
        ToolCall("recommend", {"n": "many", "query": 7, "filters": "all"}),
        ToolCall("recommend", {"n": -3, "query": None, "filters": {"include": "coffee", "exclude": {"a": 1}}}),
        ToolCall("recommend", {"n": True}),
    ],
)
def test_calls_that_make_no_sense_end_in_a_recommendation(call: ToolCall, tmp_path: Path) -> None:
    reply = talk(Script(gate="hm"), tmp_path, calls=calling(call)).turn("something")
    assert reply.used_recommender and reply.items


def test_wishes_lift_items_and_conditions_rule_them_out(tmp_path: Path) -> None:
    conversation = talk(Script(choose="hm"), tmp_path)
    reply = conversation.turn("I would like some espresso")
    assert ["espresso" in item.title for item in reply.items[:3]] == [True] * 3
    reply = conversation.turn("no espresso, jazz or mountain, please")
    assert reply.notes["ruled out"] == ["espresso", "jazz", "mountain"]
    shown = " ".join(item.title for item in reply.items)
    assert len(reply.items) == 5 and not any(word in shown for word in ("espresso", "jazz", "mountain"))
    others = conversation.turn("show me others")
    assert not {item.id for item in others.items} & {item.id for item in reply.items}
    assert not any(word in others.text for word in ("espresso", "jazz", "mountain")), "conditions hold on"


def test_titles_of_another_catalogue_are_searched_and_ruled_out(tmp_path: Path) -> None:
    titles = ["Lighthouse" if code == 17 else f"Number {code}" for code in range(1, 31)]
    catalogue = pl.DataFrame({"id": world().items.ids, "text": ["plain"] * 30, "title": titles})
    model = CachedModel(ScriptedModel(Script(choose="hm")), file=tmp_path / "answers.sqlite")
    conversation = Conversation(popular(), model, config=ConversationConfig(top=30, candidates=30), catalogue=catalogue)
    assert conversation.turn("a lighthouse").items[0].title == "Lighthouse"
    assert "Lighthouse" not in [item.title for item in conversation.turn("no lighthouse, please").items]


def test_nothing_left_is_said_and_not_degraded(tmp_path: Path) -> None:
    reply = talk(Script(), tmp_path).turn(f"no {', '.join(GROUPS[:-1])} or {GROUPS[-1]}")
    assert reply.items == () and not reply.degraded and "Nothing that is left" in reply.text


def test_the_model_may_look_again_a_few_times(tmp_path: Path) -> None:
    script = Script(choose=lambda text: "[A] this one" if "garden" in text.split("found in the catalogue")[1].split("\n")[1] else "SEARCH garden rose")
    reply = talk(script, tmp_path).turn("surprise me")
    assert reply.notes["lookups"] == 2 and reply.notes["query"] == "garden rose" and "garden" in reply.items[0].title and not reply.degraded
    reply = talk(Script(choose="SEARCH more"), tmp_path / "b", lookups=3).turn("surprise me")
    assert reply.notes["lookups"] == 3 and reply.degraded and [item.id for item in reply.items] == order()[:5]


def test_new_items_are_found_by_what_is_asked_for(tmp_path: Path) -> None:
    def by_lighthouse(text: str) -> str:
        return f"[{next((label for label, title in LINE.findall(text) if 'lighthouse' in title), 'A')}] new"

    conversation = talk(Script(choose=by_lighthouse), tmp_path)
    conversation.add_items(pl.DataFrame({"id": ["n1", "n2"], "text": ["A lighthouse in the storm", "Welding for beginners"], "title": ["Storm\x1b[2J", None]}))
    reply = conversation.turn("a story with a lighthouse")
    assert (reply.items[0].id, reply.items[0].new) == ("n1", True) and "\x1b" not in reply.text and "(new)" in reply.text
    assert not any(item.new for item in conversation.turn("no lighthouse please").items)
    assert not any(item.new for item in conversation.turn("espresso coffee").items)
    conversation.add_items(pl.DataFrame({"id": ["n4"], "text": ["Drama"], "title": ["The Submarine"]}))
    assert "n4" in [item.id for item in conversation.turn("something with a submarine").items], "a title counts like a text"
    assert "n4" not in [item.id for item in conversation.turn("no submarine, but drama").items]
    mistakes = {"no id twice": {"id": ["n1"], "text": ["x"]}, "in the catalogue already": {"id": [order()[0]], "text": ["x"]}, "text missing": {"id": ["n3"]}}
    for said, bad in mistakes.items():
        with pytest.raises(DataError, match=said):
            conversation.add_items(pl.DataFrame(bad))


def test_reasons_speak_of_the_item_and_the_history_or_are_replaced(tmp_path: Path) -> None:
    answer = '[A] like [H1]\n[B] because "Jaws" is great\n[C] as [D] is\n[D] the reason in a few words'
    items = talk(Script(choose=answer), tmp_path, Request(history=np.array([3], np.int32))).turn("hm").items
    assert items[0].reason == f'like "{world().item_text[2]}"'
    assert all("place" in item.reason for item in items[1:])


def test_a_small_model_chooses_by_likelihood(tmp_path: Path) -> None:
    conversation = Conversation(popular(), config=ConversationConfig(llm="unigram", choice="likelihood", candidates=30))
    reply = conversation.turn("anything")
    conversation = Conversation(popular(), config=ConversationConfig(llm="unigram", choice="likelihood", candidates=30), user=Request(wish="wool knitting"))
    wished = conversation.turn("anything")
    assert not wished.degraded and wished.notes["chosen"] == 5 and wished.items != reply.items
    assert all("wool" in item.title for item in wished.items[:3]) and "place" in wished.items[0].reason


def test_turns_within_the_budget_and_conditions_word_for_word(tmp_path: Path) -> None:
    script = Script(choose="[A] good")
    conversation = talk(script, tmp_path, dialogue_tokens=400)
    said = ["No horror, please.", "It must be under 2 hours!", "nothing with  “snakes” or spiders"]
    for number in range(50):
        conversation.turn(said[number // 10] if number % 10 == 5 and number < 30 else f"turn {number}: something with espresso and a long long story behind it")
        assert conversation.state.tokens <= 400
        told = asked(conversation)[-1][-1].text
        assert len(told) < 9_000
    assert conversation.state.constraints == said and "summary" in script.kinds and conversation.state.summary == "they talked"
    told = conversation.state.told()
    assert all(f'"{" ".join(one.split())}"' in told for one in said) and "they talked" in told


def test_a_summary_that_fails_is_cut(tmp_path: Path) -> None:
    state = DialogueState(budget=300)
    for number in range(50):
        state.add(f"wish number {number} " * 5, "answer " * 300, lambda talk: None)
        assert state.tokens <= 300
    assert "wish number" in state.summary and state.turns[-1].user.startswith("wish number 49")
    state.constrain("no horror " * 500)
    state.constrain("no snakes")
    assert state.constraints == ["no snakes"] and state.dropped == 1


@pytest.mark.parametrize(
    ("text", "kept", "out", "wish"),
    [
        ("A comedy. No horror or war films!", ["No horror or war films!"], ["horror", "war"], "A comedy."),
        ("a comedy without romance, under two hours", ["a comedy without romance, under two hours"], ["romance"], "a comedy"),
        ("I don't like musicals", ["I don't like musicals"], ["musicals"], "I"),
        ("I don't know", [], [], "I don't know"),
        ("not too long", ["not too long"], [], ""),
        ("Why no horror?", [], [], "Why"),
        ("It is not for me, I don't want anything scary", ["It is not for me, I don't want anything scary"], [], "It is I"),
        ("something I have never seen before", ["something I have never seen before"], [], "something I have"),
        ("not only comedies, no more than two hours", ["not only comedies, no more than two hours"], [], ""),
        ("no love stories, nothing about space", ["no love stories, nothing about space"], ["love", "space"], ""),
        ("only films from before 1980", ["only films from before 1980"], [], "only films from"),
        ("不要恐怖片。", ["不要恐怖片。"], [], "不要恐怖片。"),
    ],
)
def test_conditions_are_seen(text: str, kept: list[str], out: list[str], wish: str) -> None:
    assert conditions(text) == kept and excluded_words(kept) == out and " ".join(asked_for(text).split()) == wish


def test_answers_are_read_by_label_alone() -> None:
    names = ["A", "B", "C"]
    assert chosen("1. [B]: good\n- [a] fine\n[Z] no\nC. last\n[B] again", names) == {1: "good", 0: "fine", 2: "last"}
    assert chosen("[C], [A]", names) == {2: "", 0: ""} and chosen("A great film\nBad one", names) == {}
    assert chosen("[C] The reason in a few words.\n[B] the reason in a few\n[A] it is short", names) == {0: "it is short"}, "the example is no choice"
    assert grounded('See [A]. See [X]. "Alien" is good. "Aliens 9" no.', {"A": "Alien"}) == ('See "Alien". "Alien" is good.', 2)
    shown = (["Star Trek: First Contact (1996)", "The Rock. Action", "Jaws"], ["222", "117", "234"])
    found = [mentioned(text, *shown) for text in ("why the rock?", "why 234", "why number 1", "why the third one?", "why?", "why number 9?", "WHY JAWS")]
    assert found == [1, 2, 0, 2, None, None, 2]


def test_what_a_model_writes_steers_no_terminal(tmp_path: Path) -> None:
    script = Script(gate="no", choose="[C] fine\x1b[2J and good\n[A] \x1b]0;owned\x07good", other="So\x1b[31m it is.\x07")
    conversation = talk(script, tmp_path)
    texts = [conversation.turn("go", route).text for route in ("recommend", "explain", "outside")]
    assert "fine" in texts[0] and all("it is" in text for text in texts[1:])
    assert all(sign.isprintable() or sign == "\n" for text in texts for sign in text)


def test_loops_and_cut_sentences_are_left_out() -> None:
    said = [Completion("It is good. It is, the film, the film, the film, the film", 0, 0, cut=True), Completion("It is" + ", the film" * 30 + ".", 0, 0)]
    assert [whole_sentences(one) for one in said] == ["It is good.", "It is, the film."]
    assert whole_sentences(None) == "" == whole_sentences(Completion("no end " * 40, 0, 0, cut=True))


def test_any_recommender_and_its_user_stand_behind_it(tmp_path: Path) -> None:
    knn = ItemKNN().fit(world(), FitOptions(quiet=True))
    request = Request(history=world().history(1), attributes={"club": "jazz"}, forget=frozenset({"club"}))
    conversation = talk(Script(choose="hm"), tmp_path, request, knn)
    assert [item.id for item in conversation.turn("go").items] == order(request, knn)[:5]
    assert "club" not in asked(conversation)[-1][-1].text
    system = ChatREC(ChatRECConfig(llm="unigram", retriever="itemknn")).fit(world(), FitOptions(quiet=True))
    assert [item.id for item in talk(Script(choose="hm"), tmp_path / "b", request, system).turn("go").items] == order(request, knn)[:5]


def test_a_conversation_goes_on_from_its_file(tmp_path: Path) -> None:
    ratings = np.array([4, np.nan, 2], np.float32)
    request = Request(history=np.array([3, 0, 5], np.int32), ratings=ratings, attributes={"club": "jazz"}, forget=frozenset({"age"}), wish="quiet")
    first = talk(Script(), tmp_path, request)
    first.add_items(pl.DataFrame({"id": ["n1"], "text": ["A lighthouse"]}))
    first.turn("espresso, but no jazz")
    first.save(tmp_path / "talk.json")
    again = talk(Script(other="because"), tmp_path).restore(tmp_path / "talk.json")
    assert dataclasses.asdict(again.state) == dataclasses.asdict(first.state) and again.shown == first.shown and again.search.new.equals(first.search.new)
    assert again.user.wish == "quiet" and again.user.history.tolist() == [3, 0, 5] and again.user.ratings is not None, "each rating stands beside its item"
    np.testing.assert_array_equal(again.user.ratings, ratings)
    assert again.user.attributes == request.attributes and [item.id for item in again.history()] == [item.id for item in first.history()]
    ids = [item.id for item in again.turn("others, please").items]
    assert ids == [item.id for item in first.turn("others, please").items] and len(ids) == 5
    refitted = BM25().fit(world()).with_items(pl.DataFrame({"id": ["n1"], "text": ["A lighthouse"]}))
    assert talk(Script(), tmp_path, recommender=refitted).restore(tmp_path / "talk.json").search.new.is_empty(), "the catalogue has it now"
    (tmp_path / "talk.json").write_text(json.dumps({"format": 1}))
    for path in (tmp_path / "talk.json", tmp_path / "nothing.json"):
        with pytest.raises(DataError):
            again.restore(path)


def test_a_failing_model_leaves_the_recommenders_order_and_is_asked_once(tmp_path: Path) -> None:
    def fail(prompt: Prompt) -> str:
        raise LanguageModelError("it is gone: start it again")

    conversation = talk(fail, tmp_path)
    reply = conversation.turn("something")
    assert reply.degraded and reply.notes["degraded"] == "it is gone: start it again" and [item.id for item in reply.items] == order()[:5]
    assert len(asked(conversation)) == 1
    reply = conversation.turn("why number 2?")
    assert reply.degraded and reply.items[0].id == order()[1] and "place 2" in reply.text
    with pytest.raises(LanguageModelError):
        talk(fail, tmp_path / "b", fallback=False).turn("something")


def served(url: str, tmp_path: Path, **settings: Any) -> Conversation:
    from tongtu.llm.http import Patience
    from tongtu.llm.opening import open_language_model

    model = open_language_model(f"openai:tiny@{url}", cache=tmp_path / "served.sqlite", patience=Patience(seconds=0.5, tries=2, pause=0.01))
    return Conversation(popular(), model, config=ConversationConfig(**settings))


def test_over_a_real_server_tools_are_called_and_refused(tmp_path: Path) -> None:
    def with_tools(body: dict[str, Any]) -> dict[str, Any] | str:
        return tool_call("recommend", {"query": "espresso", "n": 3}) if "tools" in body else "[B] nice"

    with chat_server(with_tools) as server:
        reply = served(server.url, tmp_path).turn("what I like")
        assert len(reply.items) == 3 and all("espresso" in item.title for item in reply.items) and not reply.degraded
        recommend = server.bodies[0]["tools"][0]["function"]
        assert recommend["name"] == "recommend" and {"user_id", "n", "query", "filters"} == set(recommend["parameters"]["properties"])
    with chat_server(lambda body: 400 if "tools" in body else "no" if "Must items" in body["messages"][-1]["content"] else "Paris") as server:
        conversation = served(server.url, tmp_path)
        assert conversation.turn("capital of France?").outside and not conversation.model.calls_tools
        conversation.turn("capital of Spain?")
        assert ["tools" in body for body in server.bodies].count(True) == 1, "a refusal is remembered"
    with chat_server(lambda body: tool_call("recommend", "{broken") if "tools" in body else "[A] good") as server:
        assert served(server.url, tmp_path).turn("hm").used_recommender


def test_a_dead_or_slow_server_costs_one_wait(tmp_path: Path) -> None:
    with chat_server(lambda body: 2.0) as server:
        started = time.monotonic()
        reply = served(server.url, tmp_path).turn("something")
        assert reply.degraded and [item.id for item in reply.items] == order()[:5] and time.monotonic() - started < 2
        url = server.url
    reply = served(url, tmp_path).turn("something else")
    assert reply.degraded and "does not answer" in reply.notes["degraded"] and [item.id for item in reply.items] == order()[:5]


def by_title(text: str) -> str:
    """Whole lines of the candidates, titles and all, in an order that depends on each one's own title."""
    lines = [found[0] for found in LINE.finditer(text.split("found in the catalogue")[1])]
    return "\n".join(sorted(lines, key=lambda line: hashlib.sha256(line.encode()).hexdigest()))


@pytest.mark.parametrize("title", HOSTILE)
def test_a_hostile_title_changes_nothing_but_its_own_line(title: str, tmp_path: Path) -> None:
    code = int(popular().recommend([Request()], 5).items[0][4])
    prompts, ranked = [], []
    for text in ("A quiet film", title):
        log = dataclasses.replace(world(), item_text=world().item_text.scatter(code - 1, text))
        conversation = talk(Script(choose=by_title), tmp_path, recommender=Popular().fit(log), candidates=8, top=8)
        reply = conversation.turn("go")
        assert not reply.degraded and len(reply.text.splitlines()) == 8
        prompts.append(asked(conversation)[-1])
        ranked.append([item.id for item in reply.items if item.id != world().items.ids[code - 1]])
    assert ranked[0] == ranked[1]
    before, after = (prompt[-1].text.splitlines() for prompt in prompts)
    changed = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    assert len(changed) == 1 and all(re.fullmatch(r'\[E\] "(?:[^"\\]|\\.)*"', line) for line in changed[0])
    assert prompts[0][0] == prompts[1][0] and len(prompts[0]) == len(prompts[1]) == 2


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_turn_stays_one_quoted_line(text: str, tmp_path: Path) -> None:
    conversation = talk(Script(choose="[A] good\n[B] good"), tmp_path)
    reply = conversation.turn(text)
    assert len(reply.items) == 5 and {item.id for item in reply.items} <= set(order()) and not reply.degraded
    for prompt in asked(conversation):
        assert [message.role for message in prompt] == ["system", "user"]
        (now,) = [line for line in prompt[1].text.splitlines() if line.startswith("Now I say: ")]
        assert re.fullmatch(r'Now I say: "(?:[^"\\]|\\.)*"', now)
        labelled = re.findall(r"^\[\w+\] \"", prompt[1].text, re.MULTILINE)
        assert len(labelled) == len(set(labelled))
    again = conversation.turn("more")
    assert len(again.items) == 5
