"""Why an item is recommended: how far its score falls when one event of the history is left out.

Leaving one event out works for any recommender that scores, and needs nothing of its insides; it tells what the answer rests on,
not what the user thinks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tongtu.core import PAD, Recommender, Request, Scores, Writer
from tongtu.errors import TongtuError

if TYPE_CHECKING:
    from tongtu.serve.engine.index import VectorIndex

_NEWEST = 50  # events that are left out in turn
_TOLD = 5
_LEAST = 1e-6


def reasons(
    system: Recommender, index: VectorIndex | None, request: Request, history: Sequence[str], items: Sequence[str], weigh: bool = True
) -> list[dict[str, Any]]:
    """For each item the events that carry it, the heaviest first; an item that the model does not know has none.

    Args:
        system: The recommender.
        index: Its vectors, if it has any.
        request: The question.
        history: The ids of its history.
        items: Ids to be explained.
        weigh: Whether events are left out in turn; else there are only the words of a model that writes.
    """
    codes = system.items.encode(items)
    places = np.flatnonzero(request.history != PAD)[-_NEWEST:] if weigh else np.zeros(0, np.int64)
    base = dataclasses.replace(request, candidates=codes[codes != PAD], exclude_seen=False)
    asked = [base, *(_without(base, place) for place in places)]
    scores = _scores(system, index, asked, codes) if weigh else np.zeros((1, len(codes)), np.float32)
    fall = scores[0] - scores[1:]
    texts = _written(system, request, codes)
    found = []
    for number, item in enumerate(items):
        order = np.argsort(-fall[:, number], kind="stable")[: _TOLD if codes[number] != PAD else 0]
        because = [(history[places[row]], float(fall[row, number])) for row in order if np.isfinite(fall[row, number]) and fall[row, number] > _LEAST]
        found.append({"item": item, "because": because, "text": texts[number]})
    return found


def _without(request: Request, place: int) -> Request:
    return dataclasses.replace(
        request,
        history=np.delete(request.history, place),
        times=None if request.times is None else np.delete(request.times, place),
        ratings=None if request.ratings is None else np.delete(request.ratings, place),
    )


def _scores(system: Recommender, index: VectorIndex | None, requests: Sequence[Request], codes: Any) -> Scores:
    """float32[n, items] of the items asked for, NaN where the model lists them not."""
    if index is not None:
        return index.products(requests, codes)
    top = system.recommend(requests, max(len(set(codes.tolist())), 1))
    same = top.items[:, :, None] == codes
    values = np.where(same, top.scores[:, :, None], -np.inf).max(axis=1)
    known: Scores = np.where(np.isfinite(values), values, np.nan).astype(np.float32)
    return known


def _written(system: Recommender, request: Request, codes: Any) -> list[str | None]:
    """What the model itself says of each item, where it writes."""
    if not isinstance(system, Writer):
        return [None] * len(codes)
    try:
        return list(system.write([dataclasses.replace(request, candidates=codes[place : place + 1]) for place in range(len(codes))], "explanation"))
    except TongtuError:
        return [None] * len(codes)
