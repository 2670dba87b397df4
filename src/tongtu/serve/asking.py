"""From what is asked over HTTP to a question for a model, and from its answer back to what is told."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tongtu.serve.catalogue import Shown
from tongtu.serve.engine.messages import Answer, Question, Reasons
from tongtu.serve.histories import Known
from tongtu.serve.problems import over
from tongtu.serve.schemas import RecommendRequest, Seen
from tongtu.serve.store.records import History

NOBODY = Known(History(), None)


def question(asked: RecommendRequest, known: Known, longest: int) -> Question:
    """The question for a model.

    Args:
        asked: What was asked.
        known: What the store knows of the user.
        longest: Most events of the history, the newest.
    """
    now = int(time.time())
    items, times, ratings = joined(known.history, asked.history, now, longest)
    attributes = {**(known.attributes or {}), **asked.attributes} if known.attributes or asked.attributes else {}
    return Question(
        k=asked.k,
        history=items,
        times=times,
        ratings=ratings,
        now=now,
        user=asked.user,
        attributes=attributes,
        forget=tuple(asked.forget),
        wish=asked.wish,
        candidates=None if asked.candidates is None else tuple(asked.candidates),
        exclude=tuple(asked.exclude),
        exclude_seen=asked.exclude_seen,
        diversity=asked.diversity,
    )


def joined(stored: History, given: Sequence[str | Seen], now: int, longest: int) -> tuple[tuple[str, ...], tuple[int, ...] | None, tuple[float, ...] | None]:
    """Items, times and ratings of a stored history with a given one behind it; times and ratings only where all events have them.

    A given event without a time, behind stored ones, happened now.
    """
    if not given:
        return stored.items, stored.times or None, stored.rated()
    items = (*stored.items, *(entry if isinstance(entry, str) else entry.item for entry in given))[-longest:]
    told = [entry for entry in given if not isinstance(entry, str)]
    if not stored.items and not told:
        return items, None, None
    new = [None if isinstance(entry, str) else entry.time for entry in given]
    timed = bool(stored.items) or None not in new
    times = (*stored.times, *(now if time is None else time for time in new))[-longest:] if timed else None
    given_ratings = (None if isinstance(entry, str) else entry.rating for entry in given)
    ratings = tuple(rating for rating in (*stored.ratings, *given_ratings)[-longest:] if rating is not None)
    return items, times, ratings if len(ratings) == len(items) else None


def check_limits(asked: RecommendRequest, max_k: int, max_history: int) -> None:
    """Refuse what passes the limits of the settings; those of the schema were checked before.

    Raises:
        Problem: 422, naming the limit.
    """
    if asked.k > max_k:
        raise over("k", max_k)
    if len(asked.history) > max_history:
        raise over("history", max_history, unit=" events")


def told(answer: Answer, items: Sequence[Shown], names: Mapping[str, str], request_id: str, length: int) -> dict[str, Any]:
    """An answer as JSON values.

    Args:
        answer: The model's.
        items: What is known of each item, in the answer's order.
        names: "model" and "version", where the answer names none.
        request_id: That of the request.
        length: Of the history.
    """
    rows = [{**item, "score": score, "rank": rank} for rank, (item, score) in enumerate(zip(items, answer.scores, strict=True), 1)]
    found: dict[str, Any] = {
        "items": rows,
        "model": answer.model or names["model"],
        "version": answer.version or names["version"],
        "request_id": request_id,
        "history_length": length,
        "unknown": list(answer.unknown),
        "notes": dict(answer.notes),
    }
    if "degraded" in answer.notes:
        found["degraded"] = str(answer.notes["degraded"])
    return found


def causes(reasons: Reasons, titles: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """The events that speak for an item, as JSON values."""
    return [{"id": item, "title": titles.get(item), "weight": weight} for item, weight in reasons.because]


def shorter(answer: Answer, keep: Sequence[int]) -> Answer:
    """An answer with only the items at these places."""
    return replace(answer, items=tuple(answer.items[i] for i in keep), scores=tuple(answer.scores[i] for i in keep))


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """Jaccard index of two lists: 1 for the same items, 0 for none in common."""
    a, b = set(one), set(other)
    return round(len(a & b) / len(a | b), 4) if a or b else 1.0
