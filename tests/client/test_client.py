from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tongtu.client import Client
from tongtu.client.answers import Event
from tongtu.client.problems import Busy, NotAllowed, NotThere, Refused, ServiceError, TookTooLong, Unreachable
from tongtu.errors import ConfigError, TongtuError

Answer = Callable[[httpx.Request], httpx.Response]
LIST = {
    "items": [{"id": "b", "title": "B", "score": 2.5, "rank": 1, "because": [{"id": "a", "weight": 1.5}]}, {"id": "c", "score": 1.0, "rank": 2}],
    "model": "shop",
    "version": "a1-1",
    "request_id": "r1",
    "unknown": ["x"],
    "a_field_of_tomorrow": 1,
}


def client(*answers: Any, **options: Any) -> tuple[Client, list[httpx.Request]]:
    """A client of a service that gives these answers in turn, the last one again and again; an exception is raised instead."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        one = answers[min(len(asked), len(answers) - 1)]
        asked.append(request)
        if isinstance(one, Exception):
            raise one
        return one if isinstance(one, httpx.Response) else httpx.Response(200, json=one)

    return Client("http://service", transport=httpx.MockTransport(answer), **options), asked


def sent(request: httpx.Request) -> Any:
    return json.loads(request.content)


def test_a_recommendation_is_typed_and_asks_for_what_was_said() -> None:
    shop, asked = client(LIST)
    found = shop.recommend("anna", history=["a", {"item": "x", "time": 5}], k=2, forget=["gender"], model=None)
    assert [item.id for item in found] == ["b", "c"] and len(found) == 2 and found[0].because[0].weight == 1.5
    assert (found.model, found.version, found.unknown, found.degraded) == ("shop", "a1-1", ("x",), None)
    assert sent(asked[0]) == {"user": "anna", "history": ["a", {"item": "x", "time": 5}], "k": 2, "forget": ["gender"]}


def test_the_key_goes_along_and_ids_are_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGTU_KEY", "tt_environment")
    shop, asked = client(LIST)
    shop.similar("a/b?c", k=3)
    assert asked[0].headers["authorization"] == "Bearer tt_environment"
    assert asked[0].url.raw_path == b"/v1/items/a%2Fb%3Fc/similar?k=3"
    monkeypatch.delenv("TONGTU_KEY")
    shop, asked = client(LIST)
    shop.similar("a")
    assert "authorization" not in asked[0].headers


def test_not_now_is_tried_again_after_what_the_service_asks_for() -> None:
    shop, asked = client(httpx.Response(429, headers={"Retry-After": "0.3"}), httpx.Response(503), LIST)
    started = time.monotonic()
    assert shop.recommend(history=["a"])[0].id == "b"
    assert len(asked) == 3 and 0.3 <= time.monotonic() - started < 5


@pytest.mark.parametrize("retry_after", ["60", "0"])
def test_trying_ends_at_the_deadline(retry_after: str) -> None:
    problem = {"title": "Too many requests", "detail": "the queue is full", "request_id": "r9"}
    shop, asked = client(httpx.Response(503, json=problem, headers={"Retry-After": retry_after}), deadline=0.5)
    started = time.monotonic()
    with pytest.raises(Busy, match=r"the queue is full.*request r9") as caught:
        shop.recommend(history=["a"])
    assert time.monotonic() - started < 1 and (len(asked) == 1 if retry_after == "60" else len(asked) > 1)
    assert caught.value.detail == "the queue is full" and caught.value.request_id == "r9" and caught.value.status == 503


def test_an_event_is_repeated_under_one_key() -> None:
    shop, asked = client(httpx.ReadError("lost"), {"accepted": 0, "duplicates": 1})
    assert shop.add_event("anna", "a", rating=4.0)  # the first try stored it, and its answer was lost
    keys = {sent(request)["key"] for request in asked}
    assert len(asked) == 2 and len(keys) == 1 and len(keys.pop()) == 32
    shop, asked = client({"accepted": 0, "duplicates": 1})
    assert not shop.add_event("anna", "a", key="order-7") and sent(asked[0])["key"] == "order-7"


def test_many_events_have_a_key_each() -> None:
    shop, asked = client({"accepted": 3, "duplicates": 0})
    assert shop.add_events([Event("anna", "a", time=5), {"user": "ben", "item": "b"}, {"user": "ben", "item": "c", "key": "k"}]) == 3
    rows = sent(asked[0])["events"]
    assert len({row["key"] for row in rows}) == 3 and rows[2]["key"] == "k"
    assert {name: value for name, value in rows[0].items() if name != "key"} == {"user": "anna", "item": "a", "time": 5}


def test_a_swap_is_not_repeated_where_it_may_have_happened() -> None:
    shop, asked = client(httpx.ReadError("lost"))
    with pytest.raises(Unreachable, match="lost"):
        shop.install_model("shop", "model")
    assert len(asked) == 1
    shop, asked = client(httpx.ConnectError("refused"), {"name": "shop", "version": "b2-2", "can": ["similar"]})
    assert shop.install_model("shop", "model").can == ("similar",) and len(asked) == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, NotAllowed), (403, NotAllowed), (404, NotThere), (413, Refused), (422, Refused), (504, TookTooLong), (500, ServiceError)],
)
def test_what_is_refused_carries_the_services_words(status: int, kind: type[ServiceError]) -> None:
    problem = {"title": "No", "detail": "k is at most 1000", "request_id": "r2", "limit": 1000}
    shop, asked = client(httpx.Response(status, json=problem))
    with pytest.raises(kind, match="k is at most 1000") as caught:
        shop.recommend(history=["a"], k=1001)
    assert type(caught.value) is kind and isinstance(caught.value, TongtuError)
    assert len(asked) == 1 and caught.value.problem["limit"] == 1000 and "\n" not in str(caught.value)


def test_what_is_no_service_is_told() -> None:
    with pytest.raises(ServiceError, match="check the address"):
        client(httpx.Response(200, text="<html>a router</html>"))[0].models()
    with pytest.raises(ServiceError, match="a proxy's page"):
        client(httpx.Response(500, text="a proxy's\n page"))[0].models()
    with pytest.raises(ConfigError, match="no address"):
        Client("service:8000")
    with Client("http://127.0.0.1:9", deadline=0.3) as nobody, pytest.raises(Unreachable, match="tongtu serve"):
        nobody.recommend(history=["a"])
    assert not Client("http://127.0.0.1:9").ready()


def test_pages_are_asked_for_as_they_are_needed() -> None:
    shop, asked = client({"items": [{"id": "a", "text": "A"}, {"id": "b"}], "next": "2"}, {"items": [{"id": "c", "fields": {"year": 1990}}], "next": None})
    found = shop.items(query="film")
    assert next(found).text == "A" and len(asked) == 1
    assert [item.id for item in found] == ["b", "c"]
    assert [dict(request.url.params) for request in asked] == [{"query": "film", "limit": "100"}, {"query": "film", "limit": "100", "cursor": "2"}]


def stream(text: str) -> httpx.Response:
    return httpx.Response(200, content=text.encode(), headers={"content-type": "text/event-stream"})


def test_a_conversation_comes_in_parts() -> None:
    turn = 'event: stage\ndata: {"stage": "search"}\n\n: still here\n\nevent: reply\ndata: {"reply":\ndata: "hi"}\n\nevent: done\ndata: {"session": "s1"}\n\n'
    shop, asked = client(httpx.Response(503, headers={"Retry-After": "0"}), stream(turn))
    parts = list(shop.chat("a comedy", user="anna"))
    assert [part.kind for part in parts] == ["stage", "reply", "done"] and parts[1].data["reply"] == "hi" and parts[2].data["session"] == "s1"
    assert len(asked) == 2 and sent(asked[1]) == {"text": "a comedy", "user": "anna"}


def test_a_conversation_that_fails_raises() -> None:
    shop, _ = client(stream('event: stage\ndata: {"stage": "search"}\n\nevent: problem\ndata: {"status": 504, "detail": "30 s are over"}\n\n'))
    parts = shop.chat("a comedy")
    assert next(parts).kind == "stage"
    with pytest.raises(TookTooLong, match="30 s are over"):
        next(parts)
