"""The gate of a conversation: what a turn needs, decided by a tool that the model calls, else by questions to be answered with yes or no.

What cannot be read means yes, the recommender is needed: a list nobody asked for does less harm than an invented one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from tongtu.llm.model import Completion, Tool, ToolCall
from tongtu.systems.prompted._chat_templates import IS_ABOUT_SHOWN, NEEDS_CATALOGUE, TOOLS
from tongtu.systems.prompted._templates import Words

Route = Literal["recommend", "explain", "outside"]

_WHY = re.compile(r"^\W*(?:(?:and|but|so|ok|okay|hm+)\W+)?(?:why|how come)\b(?!\s+(?:not|don['’]?t|do you not|can['’]?t|won['’]?t))", re.IGNORECASE)
_YES = re.compile(r"\b(?:yes|yeah|yep|true)\b|是", re.IGNORECASE)
_NO = re.compile(r"\b(?:no|nope|not|false)\b|不|否", re.IGNORECASE)
_MOST = 50

Speak = Callable[..., Completion | None]
"""Asks the model to go on with a prompt's last part; None once it has failed."""


@dataclasses.dataclass(frozen=True)
class Decision:
    """What a turn needs.

    Attributes:
        route: The recommender; an explanation from what is at hand; or an answer from outside the catalogue.
        query, n, include, exclude: Arguments of the recommender, where the model gave them.
    """

    route: Route
    query: str | None = None
    n: int | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def asks_why(text: str) -> bool:
    """Whether a turn asks for a reason, and not for something else ("why not ...")."""
    return _WHY.search(text) is not None


def decide(speak: Speak, words: Words, tools: bool, shown: bool) -> Decision:
    """What the newest turn needs, as the model sees it.

    Args:
        speak: Asks the model, with `tools` where they are given.
        words: How the things are called.
        tools: Whether the model calls tools.
        shown: Whether anything was proposed or is in the history, that could be explained.
    """
    told = dataclasses.asdict(words)
    if tools:
        answer = speak(TOOLS["use"], tools=gate_tools(words))
        found = [decision for call in (answer.calls if answer else ()) if (decision := _from_call(call)) is not None]
        if found:
            return found[0]
    if yes_or_no(speak(NEEDS_CATALOGUE.format(**told), max_tokens=8), default=True):
        return Decision("recommend")
    if shown and yes_or_no(speak(IS_ABOUT_SHOWN.format(**told), max_tokens=8), default=False):
        return Decision("explain")
    return Decision("outside")


def yes_or_no(answer: Completion | None, default: bool) -> bool:
    """What an answer says first; `default` where it says neither, both in one breath, or nothing."""
    text = "" if answer is None else answer.text
    yes, no = _YES.search(text), _NO.search(text)
    if yes is None and no is None:
        return default
    if yes is None or no is None:
        return yes is not None
    return default if yes.start() == no.start() else yes.start() < no.start()


def gate_tools(words: Words) -> tuple[Tool, ...]:
    """The recommender and its alternatives as functions that a model may call."""
    told = dataclasses.asdict(words)
    strings = {"type": "array", "items": {"type": "string"}}
    arguments: dict[str, Any] = {
        "user_id": {"type": "string", "description": 'The user to recommend for: always "me".'},
        "n": {"type": "integer", "minimum": 1, "maximum": _MOST, "description": f"How many {words.things} to look up."},
        "query": {"type": "string", "description": f"A few words that the {words.things} should have; empty for whatever the user may like."},
        "filters": {
            "type": "object",
            "description": f"Words of which the {words.things} must have one, and words of which they may have none.",
            "properties": {"include": strings, "exclude": strings},
        },
    }
    nothing: dict[str, Any] = {"type": "object", "properties": {}}
    return (
        Tool(name="recommend", description=TOOLS["recommend"].format(**told), parameters={"type": "object", "properties": arguments, "required": ["query"]}),
        Tool(name="explain", description=TOOLS["explain"].format(**told), parameters=nothing),
        Tool(name="answer_outside", description=TOOLS["answer_outside"].format(**told), parameters=nothing),
    )


def _from_call(call: ToolCall) -> Decision | None:
    """A call as a decision; arguments of another kind than asked for are as good as absent, and the user is always the one who speaks."""
    if call.name == "explain":
        return Decision("explain")
    if call.name == "answer_outside":
        return Decision("outside")
    if call.name != "recommend":
        return None
    query, n, filters = call.arguments.get("query"), call.arguments.get("n"), call.arguments.get("filters")
    filters = filters if isinstance(filters, Mapping) else {}
    return Decision(
        "recommend",
        query[:400] if isinstance(query, str) else None,
        min(max(n, 1), _MOST) if isinstance(n, int) and not isinstance(n, bool) else None,
        _strings(filters.get("include")),
        _strings(filters.get("exclude")),
    )


def _strings(value: Any) -> tuple[str, ...]:
    given: Sequence[Any] = value if isinstance(value, list) else []
    return tuple(one.strip() for one in given[:_MOST] if isinstance(one, str) and one.strip())
