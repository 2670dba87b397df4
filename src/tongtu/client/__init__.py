"""A client of the service that `tongtu serve` starts.

    from tongtu.client import Client

    with Client("http://127.0.0.1:8000") as shop:
        shop.add_event("anna", "sku-17")
        print([item.id for item in shop.recommend(user="anna", k=5)])

What can be repeated without harm is repeated when the service says "not now" (429, 503), cannot be reached or loses the connection: questions always,
events because each carries an idempotency key, which the client makes where the caller gives none. Pauses double, are never shorter than
`Retry-After` asks for, and end at the call's deadline. One client may be used from many threads; under asyncio, ask it in `asyncio.to_thread`.
"""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import quote

import httpx

from tongtu.client.answers import Event, ItemRow, Model, Part, Reasons, Recommendation, UserRow, made, model_from, reasons_from, recommendation_from
from tongtu.client.problems import Unreachable, problem_from
from tongtu.errors import ConfigError

KEY = "TONGTU_KEY"
_NOT_NOW = {429, 502, 503}
_PAUSE = 0.1  # seconds before the second try
_LONGEST = 20.0


class Client:
    """The service, as typed Python calls.

    Args:
        url: Where it answers, without "/v1".
        key: An API key, "tt_..."; `TONGTU_KEY` of the environment if None. A service on the same machine may need none.
        deadline: Most seconds for a call, with all its tries.
        transport: Of httpx; None for the network.

    Raises:
        ConfigError: If `url` is no address. Every call raises a `ServiceError` (`tongtu.client.problems`) where the service refuses or is not reached.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8000", key: str | None = None, deadline: float = 30.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"{url!r} is no address of a service: write one like http://127.0.0.1:8000")
        key = key or os.environ.get(KEY)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.url, self.deadline = url.rstrip("/"), deadline
        self._http = httpx.Client(base_url=self.url, headers=headers, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def recommend(self, user: str | None = None, history: Sequence[str | Mapping[str, Any]] = (), k: int = 10, **more: Any) -> Recommendation:
        """The best `k` items.

        Args:
            user: Whose stored events and attributes count.
            history: Item ids, or mappings with "item" and perhaps "time" and "rating", oldest first; they come behind the stored events.
            k: How many.
            more: Any other field of `POST /v1/recommend`: attributes, forget, wish, candidates, exclude, exclude_seen, filters, diversity, model, explain.
        """
        return recommendation_from(self._ask("POST", "/v1/recommend", _question(user, history, k=k, **more)))

    def recommend_many(self, questions: Sequence[Mapping[str, Any]]) -> list[Recommendation]:
        """One answer for each question, a mapping with the fields of `POST /v1/recommend`; up to 100 at once."""
        answer = self._ask("POST", "/v1/recommend/batch", {"requests": [dict(question) for question in questions]})
        return [recommendation_from(one) for one in answer["answers"]]

    def similar(self, item: str, k: int = 10, model: str | None = None) -> Recommendation:
        """The `k` items most like one."""
        return recommendation_from(self._ask("GET", f"/v1/items/{_id(item)}/similar", params={"k": k, "model": model}))

    def explain(
        self, items: Sequence[str], user: str | None = None, history: Sequence[str | Mapping[str, Any]] = (), model: str | None = None
    ) -> list[Reasons]:
        """Which events of the history speak for each of up to ten items."""
        return [reasons_from(one) for one in self._ask("POST", "/v1/explain", _question(user, history, items=list(items), model=model))["reasons"]]

    def add_event(self, user: str, item: str, time: int | None = None, key: str | None = None, **fields: Any) -> bool:
        """Store one event: False if one with the given key is there already. When the call returns, the event is on the service's disk.

        Args:
            user, item: Ids.
            time: Seconds since 1970; the service's clock if None.
            key: The idempotency key; two calls with one key store one event, also days apart.
            fields: `rating`, or `fields` with further values.
        """
        event = _without_none({"user": user, "item": item, "time": time, "key": key or uuid.uuid4().hex, **fields})
        new = bool(self._ask("POST", "/v1/events", event)["accepted"])
        return new or key is None  # a key of our own can only be there from a try whose answer was lost

    def add_events(self, events: Sequence[Event | Mapping[str, Any]]) -> int:
        """Store up to 1,000 events, all or none; returns how many were new to the try that succeeded."""
        rows = [one.plain() if isinstance(one, Event) else _without_none(one) for one in events]
        return int(self._ask("POST", "/v1/events/batch", {"events": [{"key": uuid.uuid4().hex, **row} for row in rows]})["accepted"])

    def user(self, user: str) -> UserRow:
        """What is stored of a user: attributes and the newest events."""
        return made(UserRow, self._ask("GET", f"/v1/users/{_id(user)}"))

    def users(self, query: str | None = None, limit: int = 100) -> Iterator[dict[str, Any]]:
        """Stored users, page by page as they are asked for."""
        return self._pages("/v1/users", "users", {"query": query, "limit": limit})

    def put_user(self, user: str, attributes: Mapping[str, str]) -> None:
        """Store a user's attributes in place of those that were there."""
        self._ask("PUT", f"/v1/users/{_id(user)}", {"attributes": dict(attributes)})

    def delete_user(self, user: str) -> int:
        """Remove a user with all events and attributes; returns how many events it were."""
        return int(self._ask("DELETE", f"/v1/users/{_id(user)}").get("events", 0))

    def item(self, item: str) -> ItemRow:
        """What is stored of an item."""
        return made(ItemRow, self._ask("GET", f"/v1/items/{_id(item)}"))

    def items(self, query: str | None = None, category: str | None = None, limit: int = 100) -> Iterator[ItemRow]:
        """Stored items, page by page as they are asked for."""
        return (made(ItemRow, row) for row in self._pages("/v1/items", "items", {"query": query, "category": category, "limit": limit}))

    def put_item(self, item: str, text: str, title: str | None = None, fields: Mapping[str, Any] | None = None) -> list[str]:
        """Store an item; returns the models that can recommend it from then on: those that know it, and those that read texts."""
        stored = self._ask("PUT", f"/v1/items/{_id(item)}", _without_none({"text": text, "title": title, "fields": fields}))
        return list(stored.get("recommendable", ()))

    def chat(self, text: str, session: str | None = None, **more: Any) -> Iterator[Part]:
        """Talk about the items: what happens, part by part.

        Args:
            text: What the user says.
            session: Of the conversation, from the part "done" of the turn before; None begins one.
            more: user, history, model.
        """
        body = _without_none({"text": text, "session": session, **more})
        until = time.monotonic() + self.deadline
        with self._streamed("/v1/chat", body, until) as answer:
            kind, data = "", ""
            for line in answer.iter_lines():
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if name == "event":
                    kind = value
                elif name == "data":
                    data = f"{data}\n{value}" if data else value
                elif not line and kind:
                    part = Part(kind, json.loads(data or "{}"))
                    if kind == "problem":
                        raise problem_from(int(part.data.get("status", 500)), part.data, self.url)
                    yield part
                    kind, data = "", ""

    def models(self) -> list[Model]:
        """The models that are served."""
        return [model_from(one) for one in self._ask("GET", "/v1/models")["models"]]

    def install_model(self, name: str, path: str) -> Model:
        """Serve the model folder at `path`, which the service must see, as `name`: the one before goes on answering until it is open."""
        return model_from(self._ask("POST", f"/v1/models/{_id(name)}", {"path": path}, repeatable=False))

    def rollback_model(self, name: str) -> Model:
        """Serve the version of `name` that was served before."""
        return model_from(self._ask("POST", f"/v1/models/{_id(name)}/rollback", repeatable=False))

    def remove_model(self, name: str) -> None:
        """Serve `name` no longer."""
        self._ask("DELETE", f"/v1/models/{_id(name)}")

    def set_traffic(self, split: Mapping[str, float], shadow: Mapping[str, Any] | None = None, salt: str | None = None) -> dict[str, Any]:
        """Part users among models, {"a": .9, "b": .1}, and have a `shadow` {"model", "share"} answer beside them unseen."""
        return self._ask("PUT", "/v1/traffic", _without_none({"split": dict(split), "shadow": shadow, "salt": salt}))

    def stats(self) -> dict[str, Any]:
        """Requests, latencies, events and models, as the dashboard shows them; needs a key of the scope admin."""
        return self._ask("GET", "/v1/stats")

    def ready(self) -> bool:
        """Whether the service takes requests."""
        try:
            return self._http.get("/health/ready", timeout=min(self.deadline, 5.0)).is_success
        except httpx.TransportError:
            return False

    def _pages(self, path: str, name: str, params: Mapping[str, Any]) -> Iterator[Any]:
        cursor: str | None = None
        while True:
            page = self._ask("GET", path, params={**params, "cursor": cursor})
            yield from page[name]
            cursor = page.get("next")
            if cursor is None:
                return

    def _ask(self, method: str, path: str, body: Any = None, params: Mapping[str, Any] | None = None, repeatable: bool = True) -> dict[str, Any]:
        """The answer to one call, tried until it succeeds, is refused, or its deadline is over."""
        until = time.monotonic() + self.deadline
        request = {"json": body, "params": _without_none(params or {})}
        for pause in _pauses():
            try:
                answer = self._http.request(method, path, timeout=max(until - time.monotonic(), 0.001), **request)
            except httpx.TransportError as error:
                # Only where no connection came about is it certain that nothing was done.
                if not (repeatable or isinstance(error, httpx.ConnectError)) or time.monotonic() + pause >= until:
                    raise Unreachable(self.url, error) from None
                time.sleep(pause)
                continue
            if answer.is_success:
                return _content(answer, self.url)
            wait = max(pause, _seconds(answer.headers.get("Retry-After")))
            if answer.status_code not in _NOT_NOW or (answer.status_code == 502 and not repeatable) or time.monotonic() + wait >= until:
                raise problem_from(answer.status_code, _problem(answer), self.url)
            time.sleep(wait)
        raise AssertionError("pauses have no end")

    @contextmanager
    def _streamed(self, path: str, body: Mapping[str, Any], until: float) -> Iterator[httpx.Response]:
        """An answer that comes in parts; a turn that has begun is not tried again."""
        for pause in _pauses():
            try:
                with self._http.stream("POST", path, json=body, timeout=max(until - time.monotonic(), 0.001)) as answer:
                    if answer.is_success:
                        yield answer
                        return
                    answer.read()
            except httpx.TransportError as error:
                raise Unreachable(self.url, error) from None
            wait = max(pause, _seconds(answer.headers.get("Retry-After")))
            if answer.status_code not in _NOT_NOW or time.monotonic() + wait >= until:
                raise problem_from(answer.status_code, _problem(answer), self.url)
            time.sleep(wait)


def _pauses() -> Iterator[float]:
    """Seconds to wait after each try: doubling, and each time other ones, so that many clients do not come back at once."""
    longest = _PAUSE
    while True:
        yield random.uniform(longest / 2, longest)
        longest = min(2 * longest, _LONGEST)


def _content(answer: httpx.Response, url: str) -> dict[str, Any]:
    if not answer.content:
        return {}
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise problem_from(answer.status_code, {"detail": "the answer is not of Tongtu's service: check the address"}, url)
    return found


def _problem(answer: httpx.Response) -> dict[str, Any]:
    """A problem+json body; of anything else (a proxy's page) the beginning of its text."""
    try:
        found = answer.json()
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"detail": " ".join(answer.text.split())[:160]}


def _question(user: str | None, history: Sequence[str | Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    return _without_none({"user": user, "history": list(history) or None, **more})


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _id(text: str) -> str:
    return quote(text, safe="")


def _seconds(header: str | None) -> float:
    try:
        return min(max(float(header or 0), 0.0), 3600.0)
    except ValueError:
        return 0.0
