"""One turn of a conversation in a worker: the model recommends, a language model chooses among what it recommends and says why.

Between turns a conversation is the plain values that the front keeps for it. A language model that cannot be opened, or fails, leaves the
recommender's own order, marked "degraded".
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tongtu.config import build, plain
from tongtu.core import Request
from tongtu.errors import ConfigError, LanguageModelError, TongtuError
from tongtu.llm.cached import CachedModel
from tongtu.llm.model import CallsTools, Completion, LanguageModel, Likelihoods, Likely, Prompt, Sampling
from tongtu.serve.engine.messages import question_from
from tongtu.serve.engine.opened import Opened
from tongtu.systems.prompted._asking import opened
from tongtu.systems.prompted.conversation import Conversation, ConversationConfig

_MOST = {"candidates": 200, "top": 50}  # what a conversation takes at most, where a system may have more
_PATIENCE = {"seconds": 20.0, "tries": 1}  # a user waits, so a server that does not answer is not asked again
_IN_PROCESS = ("smollm2", "hf:", "unigram")
_SMALL = {"candidates": 10, "max_tokens": 96, "lookups": 1}  # what a small model on a processor can do while a user waits
_SHARE = 0.6  # of the time, after which the language model is not asked again: an answer that was begun must end in the rest


def turn(model: Opened, frame: Mapping[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """The reply to what a user says, and the state to go on with.

    Args:
        model: Who recommends.
        frame: "question": who talks; "text"; "state": of the turn before, or None; "llm": the language model's name, or None;
            "seconds": until nobody waits any more.
        tell: Hears of each stage.
    """
    started = time.monotonic()
    if model.conversation is None:
        tell("opening the language model")
        model.conversation = _conversation(model, frame["llm"])
    conversation: Conversation = model.conversation
    user = model.request(question_from(frame["question"]))
    conversation.begin(user)
    if frame["state"] is not None:
        _go_on(conversation, frame["state"], user)
    tell("thinking")
    speaker = conversation.model.model
    assert isinstance(speaker, _Hurried)
    speaker.until = started + _SHARE * frame["seconds"]
    reply = conversation.turn(frame["text"])
    return {
        "reply": reply.text,
        "items": [[item.id, item.title] for item in reply.items],
        "reasons": {item.id: item.reason for item in reply.items if item.reason},
        "degraded": str(reply.notes.get("degraded", "")) or None if reply.degraded else None,
        "state": conversation.to_json(),
    }


def _conversation(model: Opened, llm: str | None) -> Conversation:
    own = {field.name for field in dataclasses.fields(ConversationConfig)}
    values = {name: value for name, value in plain(model.system.config).items() if name in own} if model.language_model else {}
    values |= {name: min(values[name], most) for name, most in _MOST.items() if name in values}
    values |= _PATIENCE | ({} if llm is None else {"llm": llm})
    settings = build(ConversationConfig, values, "chat")
    try:
        speaker = opened(settings)
    except TongtuError as error:
        speaker = CachedModel(_Absent(str(error)))
    if settings.llm.startswith(_IN_PROCESS) and not model.language_model:
        small: dict[str, Any] = {**_SMALL, **({"choice": "likelihood"} if isinstance(speaker.model, Likely) else {})}
        settings = dataclasses.replace(settings, **small)
    speaker.model = _Hurried(speaker.model)
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


class _Hurried:
    """A language model that is not asked any more when time runs out: what it has not said by then, the recommender says."""

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.name, self.fingerprint = model, model.name, model.fingerprint
        self.until = 0.0

    @property
    def calls_tools(self) -> bool:
        """See `CallsTools`."""
        return isinstance(self.model, CallsTools) and self.model.calls_tools

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling = Sampling()) -> list[Completion]:  # noqa: B008 (frozen)
        """See `LanguageModel.complete`."""
        self._in_time()
        return self.model.complete(prompts, sampling)

    def log_likelihood(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Likelihoods]:
        """See `Likely.log_likelihood`."""
        if not isinstance(self.model, Likely):
            raise ConfigError(f"{self.name} tells no likelihoods: choose another language model, or choice=list")
        self._in_time()
        return self.model.log_likelihood(prompts, continuations)

    def _in_time(self) -> None:
        if time.monotonic() > self.until:
            raise LanguageModelError("there was no time left to ask the language model")
