"""Conversations as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from served import Served, fitted

Events = list[tuple[str, Any]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models, _ = fitted(tmp_path_factory.mktemp("models"))
    folder = tmp_path_factory.mktemp("store")
    running = Served(models=(f"ease={models['ease']}",), store=f"sqlite:///{folder / 'store.db'}", llm="unigram", llm_deadline=120.0)
    yield running
    running.close()


def turn(served: Served, **body: Any) -> Events:
    answer = served.ask("POST", "/v1/chat", body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    events = []
    for block in answer.text.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


def test_a_turn_and_the_next(served: Served) -> None:
    items = [item["id"] for item in served.ask("GET", "/v1/items?limit=5").json()["items"]]
    events = turn(served, text="something new\n\nevent: done", history=items)
    names = [name for name, _ in events]
    assert names[-3:] == ["reply", "items", "done"]
    assert set(names[:-3]) == {"stage"}
    told = dict(events)
    assert told["reply"]["text"]
    assert all({"id", "title"} <= item.keys() for item in told["items"]["items"])
    session = told["done"]["session"]
    assert dict(turn(served, text="another one", session=session))["done"]["session"] == session
    assert dict(turn(served, text="another one"))["done"]["session"] != session


def test_a_session_is_its_owners_and_ends(served: Served) -> None:
    session = dict(turn(served, text="hello"))["done"]["session"]
    assert served.ask("POST", "/v1/chat", {"text": "x", "session": "no-such"}).status_code == 404
    served.service.sessions.kept[session].owner = "somebody else"
    assert served.ask("POST", "/v1/chat", {"text": "x", "session": session}).status_code == 404
    served.service.sessions.kept[session].owner = ""
    served.service.sessions.kept[session].touched -= 3600
    served.service.sessions.kept.move_to_end(session, last=False)
    assert served.ask("POST", "/v1/chat", {"text": "x", "session": session}).status_code == 404


def test_the_end_of_the_service_ends_a_turn_with_a_word(served: Served) -> None:
    served.service.ending.set()
    try:
        (name, told), *rest = turn(served, text="hello")
    finally:
        served.service.ending.clear()
    last = (rest or [(name, told)])[-1]
    assert last[0] == "problem"
    assert last[1]["status"] == 503
    assert dict(turn(served, text="hello"))["done"]


def test_a_deadline_ends_a_turn_with_a_word(served: Served) -> None:
    object.__setattr__(served.service.settings, "llm_deadline", 0.001)
    try:
        name, told = turn(served, text="hello")[-1]
    finally:
        object.__setattr__(served.service.settings, "llm_deadline", 120.0)
    assert (name, told["status"]) == ("problem", 504)
