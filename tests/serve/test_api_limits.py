"""Bodies counted while they come, rates, and room."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from tongtu.serve.asking import joined
from tongtu.serve.call import Attention, Call, Receive
from tongtu.serve.limits import Admission, Rates, parse, read_body
from tongtu.serve.problems import Problem
from tongtu.serve.schemas import EventBatch, EventBody, RecommendRequest, Seen
from tongtu.serve.store.records import History

JSON = (b"content-type", b"application/json")


def call(*headers: tuple[bytes, bytes]) -> Call:
    return Call({"headers": headers, "client": ("127.0.0.1", 1)}, 0.0)


def coming(parts: Sequence[bytes], wait: float = 0.0) -> Receive:
    left = list(parts)

    async def receive() -> dict[str, object]:
        await asyncio.sleep(wait)
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    return receive


def read(parts: Sequence[bytes], limit: int, *headers: tuple[bytes, bytes], patience: float = 5.0, wait: float = 0.0) -> bytes:
    async def work() -> bytes:
        return await read_body(call(*(headers or (JSON,))), coming(parts, wait), limit, asyncio.get_running_loop().time() + patience)

    return asyncio.run(work())


def refused(status: int, *args: object, **more: object) -> Problem:
    with pytest.raises(Problem) as problem:
        read(*args, **more)  # type: ignore[arg-type]
    assert problem.value.status == status
    return problem.value


def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not() -> None:
    assert read([b"x" * 100], 100) == b"x" * 100
    assert read([b"x" * 60, b"x" * 40], 100) == b"x" * 100
    assert refused(413, [b"x" * 101], 100).limit == {"name": "body", "value": 100}
    assert refused(413, [b"x" * 60, b"x" * 41], 100).limit == {"name": "body", "value": 100}


def test_a_body_without_end_is_not_read_to_its_end() -> None:
    taken = 0

    async def receive() -> dict[str, object]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b"x" * 10, "more_body": True}

    async def work() -> None:
        await read_body(call(JSON), receive, 100, asyncio.get_running_loop().time() + 5)

    with pytest.raises(Problem):
        asyncio.run(work())
    assert taken == 11


@pytest.mark.parametrize("length", [b"101", b"9" * 30])
def test_a_length_above_the_limit_is_refused_unread(length: bytes) -> None:
    refused(413, [], 100, JSON, (b"content-length", length))


def test_only_plain_json_is_taken() -> None:
    refused(415, [b"{}"], 100, (b"content-type", b"text/plain"))
    refused(415, [b"{}"], 100, JSON, (b"content-encoding", b"gzip"))
    assert read([b"{}"], 100, (b"content-type", b"Application/JSON; charset=utf-8")) == b"{}"


def test_a_body_that_does_not_come() -> None:
    refused(408, [b"{", b"}"], 100, patience=0.05, wait=0.04)


@pytest.mark.parametrize(
    "body",
    [
        b'{"k": NaN}',
        b'{"k": Infinity}',
        b'{"diversity": NaN}',
        b'{"diversity": 1e999}',
        b'{"k": 1' + b"0" * 5000 + b"}",
        b'{"k": 1e400}',
        b'{"k": true}',
        b'{"k": "5"}',
        b'{"user": "a\\u0000b"}',
        b'{"user": "\\ud800"}',
        b'{"user": "\\udc00\\ud800"}',
        b'{"user": "\xff"}',
        b'{"user": ""}',
        b'{"user": 7}',
        b'{"history": [1]}',
        b'{"history": {"item": "a"}}',
        b"[" * 100_000,
        b'{"attributes": ' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
        b'{"unknown": 1}',
        b"",
        b"null",
        b"\xef\xbb\xbf{}",
        b'{"user": "a"',
    ],
)
def test_hostile_json_is_a_mistake_of_the_client(body: bytes) -> None:
    with pytest.raises(Problem) as problem:
        parse(RecommendRequest, body)
    assert problem.value.status in (400, 422)
    problem.value.body("/v1/recommend", "x")


def test_bidirectional_text_is_taken_as_written() -> None:
    user = "\u202eabc\u2066\u200f\U0001f600é"
    assert parse(RecommendRequest, f'{{"user": "{user}"}}'.encode()).user == user


@pytest.mark.parametrize(
    ("kind", "name", "limit", "body"),
    [
        (RecommendRequest, "k", 1000, lambda n: json.dumps({"k": n})),
        (RecommendRequest, "history", 1000, lambda n: json.dumps({"history": ["a"] * n})),
        (RecommendRequest, "candidates", 10_000, lambda n: json.dumps({"candidates": ["a"] * n})),
        (RecommendRequest, "user", 512, lambda n: json.dumps({"user": "x" * n})),
        (RecommendRequest, "wish", 4000, lambda n: json.dumps({"wish": "x" * n})),
        (EventBatch, "events", 1000, lambda n: json.dumps({"events": [{"user": "u", "item": "a"}] * n})),
        (EventBody, "key", 128, lambda n: json.dumps({"user": "u", "item": "a", "key": "x" * n})),
    ],
)
def test_at_the_limit_and_one_above(kind: type, name: str, limit: int, body: object) -> None:
    parse(kind, body(limit).encode())  # type: ignore[operator]
    with pytest.raises(Problem) as problem:
        parse(kind, body(limit + 1).encode())  # type: ignore[operator]
    assert problem.value.status == 422
    assert problem.value.limit == {"name": name, "value": limit}


def test_rates_fill_as_time_goes() -> None:
    now = 0.0
    rates = Rates(2.0, lambda: now)
    rates.take("a")
    rates.take("a")
    with pytest.raises(Problem) as problem:
        rates.take("a")
    assert problem.value.status == 429
    assert problem.value.headers == {"Retry-After": "1"}
    assert problem.value.limit == {"name": "rate", "value": 2.0}
    rates.take("b")
    now = 0.5
    rates.take("a")
    with pytest.raises(Problem):
        rates.take("a")


def test_no_rate_is_no_limit() -> None:
    rates = Rates(0.0, lambda: 0.0)
    for _ in range(1000):
        rates.take("a")


def test_room_is_bounded() -> None:
    room = Admission(2)
    room.enter()
    room.enter()
    with pytest.raises(Problem) as problem:
        room.enter()
    assert problem.value.status == 503
    assert problem.value.headers["Retry-After"] == "1"
    room.leave()
    room.enter()


def test_a_client_that_leaves_cancels_the_work() -> None:
    async def work() -> tuple[float, bool]:
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()

        async def receive() -> dict[str, object]:
            await gone.wait()
            return {"type": "http.disconnect"}

        asked = call()

        async def answer() -> None:
            with Attention(asked, receive):
                await asyncio.sleep(10)

        task = asyncio.ensure_future(answer())
        await asyncio.sleep(0.1)
        gone.set()
        left = loop.time()
        with pytest.raises(asyncio.CancelledError):
            await task
        return loop.time() - left, asked.left

    seconds, left = asyncio.run(work())
    assert left
    assert seconds < 0.25


def test_request_ids_are_taken_only_if_harmless() -> None:
    assert call((b"x-request-id", b"abc-123")).id == "abc-123"
    assert call((b"x-request-id", b"a b")).id != "a b"
    assert len(call((b"x-request-id", b"x" * 65)).id) == 16


def test_a_given_history_behind_a_stored_one() -> None:
    stored = History(("a", "b"), (10, 20), (1.0, 2.0))
    assert joined(stored, [], 99, 5) == (("a", "b"), (10, 20), (1.0, 2.0))
    assert joined(stored, ["c"], 99, 5) == (("a", "b", "c"), (10, 20, 99), None)
    assert joined(stored, [Seen(item="c", time=30, rating=3)], 99, 2) == (("b", "c"), (20, 30), (2.0, 3.0))
    assert joined(History(), ["a", "b"], 99, 5) == (("a", "b"), None, None)
    assert joined(History(), ["a", Seen(item="b", time=5)], 99, 5) == (("a", "b"), None, None)
    assert joined(History(), [Seen(item="b", time=5)], 99, 5) == (("b",), (5,), None)
    assert joined(History(("a",), (1,), (None,)), [Seen(item="b", rating=2)], 9, 1) == (("b",), (9,), (2.0,))
