"""A conversation as JSON and back: items by id, so that a recommender that was fitted again can go on with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tongtu.core import PAD, Request
from tongtu.systems.prompted._dialogue import DialogueState
from tongtu.systems.prompted._search import Candidate

if TYPE_CHECKING:
    from tongtu.systems.prompted.conversation import Conversation

FORMAT = 1


def to_json(conversation: Conversation) -> dict[str, Any]:
    """All of a conversation but the recommender and the language model."""
    user, items = conversation.user, conversation.search.recommender.items
    return {
        "format": FORMAT,
        "user": {
            "history": [None if code == PAD else items.ids[code - 1] for code in user.history.tolist()],
            "times": None if user.times is None else user.times.tolist(),
            "ratings": None if user.ratings is None else [None if np.isnan(one) else float(one) for one in user.ratings],
            "code": user.user,
            "attributes": dict(user.attributes),
            "forget": sorted(user.forget),
            "candidates": None if user.candidates is None else items.decode(user.candidates),
            "exclude_seen": user.exclude_seen,
            "wish": user.wish,
        },
        "state": conversation.state.to_json(),
        "shown": [{"id": one.id, "title": one.title, "text": one.text, "why": one.why, "new": one.new} for one in conversation.shown],
        "proposed": conversation.proposed,
        "query": conversation.query,
        "new items": conversation.search.new.to_dicts(),
    }


def from_json(conversation: Conversation, value: Mapping[str, Any]) -> None:
    """Put a conversation back.

    Raises:
        KeyError, TypeError, ValueError: If it is none, or of a newer format.
    """
    if value["format"] != FORMAT:
        raise ValueError("another format")
    user, items = value["user"], conversation.search.recommender.items
    state = DialogueState.from_json(value["state"])
    shown = [Candidate(str(one["id"]), str(one["title"]), str(one["text"]), str(one["why"]), bool(one["new"])) for one in value["shown"]]
    request = Request(
        history=items.encode([one or "" for one in user["history"]]),
        times=None if user["times"] is None else np.array(user["times"], np.int64),
        ratings=None if user["ratings"] is None else np.array([np.nan if one is None else one for one in user["ratings"]], np.float32),
        user=user["code"],
        attributes={str(name): str(one) for name, one in user["attributes"].items()},
        forget=frozenset(user["forget"]),
        candidates=None if user["candidates"] is None else items.encode(user["candidates"]),
        exclude_seen=bool(user["exclude_seen"]),
        wish=user.get("wish"),
    )
    known = set(conversation.search.new["id"])  # the catalogue, too, may have met them since
    new = [one for one in value["new items"] if one["id"] not in known and items.encode([one["id"]])[0] == PAD]
    if new:
        conversation.add_items(pl.DataFrame(new))
    conversation.user, conversation.state, conversation.shown = request, state, shown
    conversation.proposed, conversation.query = [str(one) for one in value["proposed"]], str(value["query"])
