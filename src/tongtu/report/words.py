"""The results in words and numbers a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def metric_name(key: str) -> str:
    """The usual writing of a metric: "ndcg@10" is NDCG@10."""
    name, at, cutoff = key.partition("@")
    known = {"ndcg": "NDCG", "mrr": "MRR", "recall": "Recall", "gini": "Gini", "popularity_lift": "Popularity lift"}
    return known.get(name, name.replace("_", " ").capitalize()) + at + cutoff


def metric_value(value: float | None) -> str:
    """Four digits after the point, as the field prints them."""
    return "–" if value is None else f"{value:.4f}"


def seconds(value: float | None) -> str:
    """A duration: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if value is None:
        return "–"
    if value < 9.95:
        return f"{value:.1f} s" if value >= 0.095 else f"{value * 1000:.0f} ms"
    whole = round(value)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 7200 else f"{whole // 3600} h {whole % 3600 // 60} min"


def count(value: float | None) -> str:
    """A number of things: 943, 52,480, 1.3 million."""
    if value is None:
        return "–"
    return f"{value / 1e6:.1f} million" if value >= 1e6 else f"{value:,.0f}"


def megabytes(value: float | None) -> str:
    """Memory: 512 MB, 3.2 GB."""
    if value is None:
        return "–"
    return f"{value / 1024:.1f} GB" if value >= 2048 else f"{value:,.0f} MB"


def chance(p: float) -> str:
    """A p value as it is written."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def summary(ranked: Sequence[Row], metric: str, pairs: Mapping[tuple[str, str], Row], level: float = 0.05) -> list[str]:
    """What the comparison says, in a few sentences; the first one is the answer.

    Args:
        ranked: Systems, best first.
        metric: The metric they are ranked by.
        pairs: Paired tests by (first, second) label, in both directions.
        level: The chance of error below which a difference counts.
    """
    if not ranked:
        return ["No system was compared."]
    best = ranked[0]
    low, high = best["interval"].get(metric, (None, None))
    width = "" if low is None else f" (95 % interval {metric_value(low)} to {metric_value(high)})"
    said = [f"{best['label']} ranks first with {metric_name(metric)} {metric_value(best['metrics'][metric])}{width}."]
    if len(ranked) > 1:
        said += [_margin(best, ranked[1], metric, pairs, level), *_ties(ranked, pairs, level)]
    return [*said, *_cost(ranked, metric)]


def _margin(best: Row, second: Row, metric: str, pairs: Mapping[tuple[str, str], Row], level: float) -> str:
    below = second["metrics"][metric]
    by = f"{(best['metrics'][metric] / below - 1) * 100:.1f} %" if below else "all of it"
    pair = pairs.get((best["label"], second["label"]))
    start = f"It is {by} ahead of {second['label']}"
    if pair is None:
        return f"{start}; whether that is more than chance was not tested."
    if pair["p"] < level:
        return f"{start}, and the difference is significant over the same users ({chance(pair['p'])})."
    return f"{start}, but the difference is not significant over the same users ({chance(pair['p'])}): treat the two as equal."


def _ties(ranked: Sequence[Row], pairs: Mapping[tuple[str, str], Row], level: float) -> list[str]:
    """Systems beyond the second that cannot be told from the first either."""
    best = ranked[0]["label"]
    equal = [row["label"] for row in ranked[2:] if (best, row["label"]) in pairs and pairs[best, row["label"]]["p"] >= level]
    return [f"Nor can {_listed(equal)} be told from it with these users."] if equal else []


def _cost(ranked: Sequence[Row], metric: str) -> list[str]:
    """What the winner costs, and the cheapest system that comes near."""
    best = ranked[0]
    if best.get("fit_seconds") is None:
        return []
    said = [f"{best['label']} takes {seconds(best['fit_seconds'])} to fit" + (f" and {best['ms_per_request']:.2g} ms a request." if best.get("ms_per_request") else ".")]
    top = best["metrics"][metric]
    near = [r for r in ranked[1:] if r.get("fit_seconds") is not None and r["metrics"][metric] >= 0.9 * top and r["fit_seconds"] < best["fit_seconds"] / 2]
    if near:
        cheap = min(near, key=lambda row: row["fit_seconds"])
        said.append(f"{cheap['label']} reaches {cheap['metrics'][metric] / top:.0%} of that accuracy in {seconds(cheap['fit_seconds'])}.")
    return said


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
