"""A comparison as results.json holds it, made up but of the true form."""

from __future__ import annotations

from typing import Any

import pytest

_TRUE = {"Popular": 0.028, "ItemKNN": 0.065, "EASE": 0.078, "ALS": 0.061, "BPR": 0.055, "SASRec": 0.094, "BERT4Rec": 0.083, "HSTU": 0.0925}
_COST = {"Popular": 0.02, "ItemKNN": 0.4, "EASE": 1.1, "ALS": 2.5, "BPR": 4.0, "SASRec": 31.0, "BERT4Rec": 62.0, "HSTU": 48.0}
_LEARNED = {"SASRec": 14, "BERT4Rec": 30, "HSTU": 18}


def _curve(label: str) -> list[dict[str, float]]:
    epochs, value = _LEARNED.get(label, 0), _TRUE[label]
    return [
        {"epoch": e, "seconds": _COST[label] / epochs, "loss": 7.2 - 2.1 * e / (e + 4), "ndcg@10": value * (1 - 0.8 / e) * (1 - max(0, e - 12) * 0.004)}
        for e in range(1, epochs + 1)
    ]


def _system(label: str) -> dict[str, Any]:
    value = _TRUE[label]
    metrics = {f"{name}@{k}": value * share * (1 + k / 60) for name, share in (("ndcg", 1.0), ("recall", 1.85), ("mrr", 0.8)) for k in (1, 5, 10, 20, 50)}
    metrics["ndcg@10"] = value
    metrics["coverage@10"] = 0.2 + value * 3
    bands = {"history length": ("1–9", "10–49", "50–199", "200+"), "target popularity": ("head", "middle", "tail"), "gender": ("F", "M")}
    return {
        "label": label,
        "status": "done",
        "system": label.lower(),
        "road": "behaviour" if label in _LEARNED else "baselines",
        "metrics": metrics,
        "interval": {name: [0.9 * v, 1.1 * v] for name, v in metrics.items() if not name.startswith("coverage")},
        "slices": {
            kind: {band: {"cases": 100 * (i + 1), "ndcg@10": value * (1.2 - 0.25 * i)} for i, band in enumerate(bands[kind])}
            for kind in bands
        },
        "fit_seconds": _COST[label],
        "ms_per_request": 0.05 + _COST[label] / 100,
        "peak_memory_mb": 300 + _COST[label] * 9,
        "parameters": 1_682 if label == "Popular" else int(1e5 * _COST[label]),
        "seed": 1,
        "config": {"training": {"epochs": _LEARNED.get(label)}},
        "curves": _curve(label),
    }


def _lists(films: list[dict[str, str]], start: int, rank: int | None) -> dict[str, Any]:
    return {label: {"items": films[i : i + 5], "rank": rank} for i, label in enumerate(_TRUE, start)}


@pytest.fixture
def results() -> dict[str, Any]:
    """Eight systems on a small film catalogue."""
    labels = list(_TRUE)
    films = [{"id": str(i), "text": f"Film number {i} (19{i + 50})"} for i in range(40)]
    return {
        "protocol": {"split": "leave_one_out", "filter_seen": True, "cutoffs": [1, 5, 10, 20, 50], "seed": 0, "fingerprint": "9d" * 16},
        "data": {"name": "ml-100k", "users": 943, "items": 1682, "events": 100_000, "fingerprint": "4f" * 16},
        "environment": {"tongtu": "0.1.0", "python": "3.11.7", "threads": 2, "cpu": "a processor", "date": "2026-11-23"},
        "seconds": [{"step": f"{label}, seed 1", "seconds": _COST[label], "kept": label == "BPR"} for label in labels],
        "command": "tongtu compare experiments/demo.toml --out demo",
        "systems": [_system(label) for label in labels],
        "pairs": [
            {"a": a, "b": b, "metric": "ndcg@10", "difference": _TRUE[a] - _TRUE[b], "p": 0.0, "p_holm": 0.4 if abs(_TRUE[a] - _TRUE[b]) < 0.005 else 0.0004}
            for i, a in enumerate(labels)
            for b in labels[i + 1 :]
        ],
        "examples": [
            {"user": "77", "history": films[:6], "target": films[9], "lists": _lists(films, 4, 12)},
            {"user": "612", "history": films[20:24], "target": films[30], "lists": _lists(films, 22, None)},
        ],
    }
