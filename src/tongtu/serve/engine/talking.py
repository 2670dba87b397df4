"""One turn of a conversation in a worker: the model recommends, a language model chooses among what it recommends and says why.

Between turns a conversation is the plain values that the front keeps for it. A language model that cannot be opened, or fails, leaves the
recommender's own order, marked "degraded".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tongtu.config import build, plain
from tongtu.core import Request
from tongtu.errors import LanguageModelError, TongtuError
from tongtu.llm.cached import CachedModel
from tongtu.llm.model import Completion, Prompt, Sampling
from tongtu.serve.engine.messages import question_from
from tongtu.serve.engine.opened import Opened
from tongtu.systems.prompted._asking import opened
from tongtu.systems.prompted.conversation import Conversation, ConversationConfig

_MOST = {"candidates": 200, "top": 50}  # what a conversation takes at most, where a system may have more
_PATIENCE = {"seconds": 20.0, "tries": 1}  # a user waits, so a server that does not answer is not asked again


def turn(model: Opened, frame: Mapping[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """The reply to what a user says, and the state to go on with.

    Args:
        model: Who recommends.
        frame: "question": who talks; "text"; "state": of the turn before, or None; "llm": the language model's name, or None.
        tell: Hears of each stage.
    """
    if model.conversation is None:
        tell("opening the language model")
        model.conversation = _conversation(model, frame["llm"])
    conversation: Conversation = model.conversation
    user = model.request(question_from(frame["question"]))
    conversation.begin(user)
    if frame["state"] is not None:
        _go_on(conversation, frame["state"], user)
    tell("thinking")
    reply = conversation.turn(frame["text"])
    return {
        "reply": reply.text,
        "items": [[item.id, item.title] for item in reply.items],
        "reasons": {item.id: item.reason for item in reply.items if item.reason},
        "degraded": str(reply.notes.get("degraded", "")) or None if reply.degraded else None,
        "state": conversation.to_json(),
    }


def _conversation(model: Opened, llm: str | None) -> Conversation:
    config = getattr(model.system, "config", None)
    own = {field.name for field in dataclasses.fields(ConversationConfig)}
    kept = {name: value for name, value in plain(config).items() if name in own} if model.language_model else {}
    limited = {name: min(kept[name], most) for name, most in _MOST.items() if name in kept}
    settings = build(ConversationConfig, {**kept, **limited, **_PATIENCE, **({} if llm is None else {"llm": llm})}, "chat")
    try:
        speaker = opened(settings)
    except TongtuError as error:
        speaker = CachedModel(_Absent(str(error)))
    return Conversation(model.system, speaker, config=settings)


def _go_on(conversation: Conversation, state: Mapping[str, Any], user: Request) -> None:
    try:
        conversation.from_json(state)
    except (ValueError, KeyError, TypeError, AttributeError):
        conversation.begin(user)  # it was kept by another version; what was said is lost, the user is not
    conversation.user = user


class _Absent:
    """A language model that is not there, and says why."""

    name = fingerprint = "absent"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling = Sampling()) -> list[Completion]:  # noqa: B008 (frozen)
        """See `LanguageModel.complete`."""
        raise LanguageModelError(self.reason)
