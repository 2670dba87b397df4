"""What a practitioner looks at first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from tongtu.data.dataset import Dataset

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)


def statistics(data: Dataset) -> dict[str, Any]:
    """Sections of named numbers, plain values that JSON can hold; what the data cannot tell is left out."""
    sections: dict[str, Any] = {
        "size": _size(data),
        "events of a user": _quantiles(data.lengths),
        "events of an item": _quantiles(data.item_counts[1:]) | _tail(data),
        "order": _order(data),
        "item text": _text(data),
    }
    for title, frame in (("item fields", data.item_fields), ("user attributes", data.user_attributes), ("event fields", data.event_fields)):
        if frame.width:
            sections[title] = {f"{name} known": 1 - frame[name].null_count() / max(frame.height, 1) for name in frame.columns}
    if data.domain is not None:
        events = np.bincount(data.domain[data.item - 1], minlength=len(data.domains))
        sections["events of a domain"] = {name: int(count) for name, count in zip(data.domains, events, strict=True)}
    if data.impressions is not None:
        shown = len(data.impressions.item)
        sections["impressions"] = {
            "impressions": len(data.impressions.user),
            "items shown": shown,
            "share clicked": float(data.impressions.clicked.mean()) if shown else 0.0,
        }
    return sections


def repeats(data: Dataset) -> float:
    """The share of events whose user had the same item before."""
    pair = data.event_user.astype(np.int64) * data.items.size + data.item
    pair.sort()
    return float((pair[1:] == pair[:-1]).sum() / max(data.n_events, 1))


def ties(data: Dataset) -> npt.NDArray[np.bool_]:
    """bool[events]: the event has the same user and second as the one before it; false where there are no times."""
    same = np.zeros(data.n_events, np.bool_)
    if data.time is not None and data.n_events > 1:
        same[1:] = (data.time[1:] == data.time[:-1]) & (data.event_user[1:] == data.event_user[:-1])
    return same


def gini(counts: npt.NDArray[np.int64]) -> float:
    """Gini coefficient of counts: 0 where all are equal, towards 1 where one has everything."""
    ordered = np.sort(counts).astype(np.float64)
    n, total = len(ordered), ordered.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total)) if total else 0.0


def _size(data: Dataset) -> dict[str, Any]:
    return {
        "users": len(data.users),
        "items": len(data.items),
        "items without events": int((data.item_counts[1:] == 0).sum()),
        "events": data.n_events,
        "density": data.n_events / max(len(data.users) * len(data.items), 1),
        "users with fewer than 3 events": int((data.lengths < 3).sum()),
    }


def _quantiles(counts: npt.NDArray[np.int64]) -> dict[str, Any]:
    if not len(counts):
        return {}
    names = ["least", *(f"{part:.0%} quantile" if part != 0.5 else "median" for part in _QUANTILES[1:-1]), "most"]
    values = np.quantile(counts, _QUANTILES, method="lower")
    return {"mean": float(counts.mean())} | {name: int(value) for name, value in zip(names, values, strict=True)}


def _tail(data: Dataset) -> dict[str, Any]:
    counts = np.sort(data.item_counts[1:])
    tail = counts[: int(len(counts) * 0.8)].sum()
    return {
        "share of events on the least popular 80 % of items": float(tail / max(data.n_events, 1)),
        "share of events on the most popular item": float(counts[-1] / max(data.n_events, 1)) if len(counts) else 0.0,
        "Gini": gini(counts),
    }


def _order(data: Dataset) -> dict[str, Any]:
    facts: dict[str, Any] = {"repeat share": repeats(data)}
    if data.time is None or not data.n_events:
        return {"known": "an order only"} | facts
    first, last = int(data.time.min()), int(data.time.max())
    tied = ties(data)
    either = tied.copy()
    either[:-1] |= tied[1:]
    return {
        "known": "times",
        "first": datetime.fromtimestamp(first, UTC).isoformat(),
        "last": datetime.fromtimestamp(last, UTC).isoformat(),
        "days": (last - first) / 86_400,
        "share of events that share their user's second with another": float(either.mean()),
    } | facts


def _text(data: Dataset) -> dict[str, Any]:
    held = data.item_text.filter(data.item_text != "")
    words = held.str.split(" ").list.len()
    facts: dict[str, Any] = {"items with text": float(len(held) / max(len(data.items), 1))}
    return facts | ({"median words": float(_number(words.median()))} if len(held) else {})


def _number(value: Any) -> float:
    return float(value) if value is not None else 0.0

