"""Conversations over HTTP, as server-sent events: stages while it works, then the reply and its items."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tongtu.errors import TongtuError
from tongtu.serve.call import Attention, Call
from tongtu.serve.engine.messages import ModelFacts, Question
from tongtu.serve.problems import Problem, problem_of
from tongtu.serve.routes.parts import asked, call_of, service_of, takes
from tongtu.serve.schemas import ChatRequest, RecommendRequest
from tongtu.serve.service import Service
from tongtu.serve.sessions import Session

router = APIRouter(tags=["chat"])
_TOLD = takes(ChatRequest, 404)
_EVENT = {
    "type": "object",
    "properties": {"event": {"enum": ["stage", "reply", "items", "done", "problem"]}, "data": {"type": "string", "description": "JSON."}},
    "required": ["event", "data"],
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events: `stage` (what it is doing), `reply` (text), `items` (ids and titles), then `done` (session) or `problem`.",
        "content": {"text/event-stream": {"schema": _EVENT}},
    }
}


@router.post("/v1/chat", summary="Talk", response_class=Response, openapi_extra=_TOLD["openapi_extra"], responses={**_STREAM, **_TOLD["responses"]})
async def chat(request: Request) -> Response:
    """One turn of a conversation about the catalogue. The session in `done` goes on with it; it is forgotten half an hour after its last turn."""
    body, service, call = await asked(request, ChatRequest), service_of(request), call_of(request)
    facts = service.facts(body.user, body.model)
    if "chat" not in facts.can:
        raise Problem(422, f"the model {facts.name} cannot talk: start the service with --llm, and serve a model whose items have texts")
    session = service.sessions.of(body.session, call.key)
    if session is None:
        raise Problem(404, "no such session: it is over, or was begun with another key; begin a new one by leaving session out")
    until = call.began + service.settings.llm_deadline
    async with asyncio.timeout_at(until):
        put = await service.question(RecommendRequest(user=body.user, history=body.history))
    return Turn(service, call, facts, session, put, body.text)


class Turn(Response):
    """One turn, told while it happens. A client that leaves, a deadline or the end of the service ends it."""

    def __init__(self, service: Service, call: Call, facts: ModelFacts, session: Session, put: Question, text: str) -> None:
        super().__init__(None, 200, {"Cache-Control": "no-store"}, "text/event-stream")
        self.service, self.call, self.facts, self.session, self.put, self.text = service, call, facts, session, put, text
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        task, stopped = asyncio.current_task(), False

        async def stop() -> None:
            nonlocal stopped
            await self.service.ending.wait()
            stopped = True
            if task is not None:
                task.cancel()

        end = asyncio.ensure_future(stop())
        try:
            with Attention(self.call, receive):
                await self._talk(send)
        except asyncio.CancelledError:
            if not stopped or self.call.left or task is None:
                raise
            task.uncancel()
            await self._tell(send, "problem", {"status": 503, "detail": "the service is being stopped: go on in a moment"})
        except (TongtuError, TimeoutError, Problem) as error:
            problem = problem_of(error) or Problem(500, "something went wrong")
            await self._tell(send, "problem", {"status": problem.status, "detail": problem.detail, "request_id": self.call.id})
        finally:
            end.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _talk(self, send: Send) -> None:
        until = self.call.began + self.service.settings.llm_deadline
        async with asyncio.timeout_at(until), self.session.turn:
            if self.session.version != self.facts.version:
                self.session.version, self.session.state = self.facts.version, None
            async for part in self.service.engine.talk(self.facts.version, self.put, self.text, self.session.state, until):
                if "stage" in part:
                    await self._tell(send, "stage", {"stage": part["stage"]})
                    continue
                self.session.state = part.get("state")
                await self._tell(send, "reply", {"text": part["reply"], "degraded": part.get("degraded")})
                await self._tell(send, "items", {"items": await self._items(part.get("items", []))})
        done = {"session": self.session.id, "model": self.facts.name, "version": self.facts.version, "request_id": self.call.id}
        await self._tell(send, "done", done)

    async def _items(self, items: list[list[str]]) -> list[dict[str, Any]]:
        known = await self.service.catalogue.shown([id for id, _ in items])
        return [{**item, "title": item["title"] or title} for item, (_, title) in zip(known, items, strict=True)]

    async def _tell(self, send: Send, event: str, content: dict[str, Any]) -> None:
        # JSON has no bare line ends, so one data line holds it whatever a model wrote.
        await send({"type": "http.response.body", "body": b"event: %s\ndata: %s\n\n" % (event.encode(), orjson.dumps(content)), "more_body": True})
