"""The results in words and numbers a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

_NEAR = 0.8  # the share of the best accuracy at which a cheaper system is worth naming


def metric_name(key: str) -> str:
    """The usual writing of a metric: "ndcg@10" is NDCG@10."""
    name, at, cutoff = key.partition("@")
    known = {"ndcg": "NDCG", "mrr": "MRR", "auc": "AUC", "recall": "Recall", "gini": "Gini", "popularity_lift": "Popularity lift"}
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


def milliseconds(value: float | None) -> str:
    """The time of one answer in milliseconds: 0.077, 12, 2,770."""
    return "–" if value is None else f"{value:.2g}" if value < 99.5 else f"{value:,.0f}"


def count(value: float | None) -> str:
    """A number of things: 943, 52,480, 1.3 M."""
    if value is None:
        return "–"
    return f"{value / 1e6:.1f} M" if value >= 1e6 else f"{value:,.0f}"


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
    best, rest = ranked[0], ranked[1:]
    equal = [row["label"] for row in rest if pairs.get((best["label"], row["label"]), {"p": 0})["p"] >= level]
    said = [_headline(best, rest, metric, equal), *_interval(best, metric)]
    if rest:
        if len(equal) > 2:
            said.append(f"The paired test over the same users does not tell it from {_listed(equal)}.")
        said.append(_margin(best, rest[0], metric, pairs.get((best["label"], rest[0]["label"])), level))
    return [*said, *_cost(ranked, metric)]


def _headline(best: Row, rest: Sequence[Row], metric: str, equal: Sequence[str]) -> str:
    value = f"{metric_name(metric)} {metric_value(best['metrics'][metric])}"
    if not rest:
        return f"{best['label']} reaches {value}."
    if equal:
        others = " and ".join(equal) if len(equal) < 3 else f"{len(equal)} others"
        return f"{best['label']} ranks first with {value}, but {others} cannot be told from it."
    return f"{best['label']} wins with {value}."


def _interval(best: Row, metric: str) -> list[str]:
    if metric not in best["interval"]:
        return []
    low, high = best["interval"][metric]
    return [f"The 95 % interval of {best['label']} over users runs from {metric_value(low)} to {metric_value(high)}."]


def _margin(best: Row, second: Row, metric: str, pair: Row | None, level: float) -> str:
    below = second["metrics"][metric]
    start = f"It is {(best['metrics'][metric] / below - 1) * 100:.1f} % ahead of {second['label']}" if below else f"{second['label']} finds nothing"
    if pair is None:
        return f"{start}; whether that is more than chance was not tested."
    if pair["p"] < level:
        return f"{start}, and the difference is significant over the same users ({chance(pair['p'])})."
    return f"{start}, a difference that may be chance ({chance(pair['p'])} over the same users): choose between them by cost."


def _cost(ranked: Sequence[Row], metric: str) -> list[str]:
    """What the winner costs, and the cheapest system that comes near."""
    best = ranked[0]
    if best.get("fit_seconds") is None:
        return []
    answer = f" and {milliseconds(best['ms_per_request'])} ms to answer a request" if best.get("ms_per_request") else ""
    said = [f"{best['label']} takes {seconds(best['fit_seconds'])} to fit{answer}."]
    top = best["metrics"][metric]
    near = [r for r in ranked[1:] if r["metrics"][metric] >= _NEAR * top and (r.get("fit_seconds") or best["fit_seconds"]) < best["fit_seconds"] / 2]
    if near:
        cheap = min(near, key=lambda row: row["fit_seconds"])
        said.append(f"{cheap['label']} reaches {cheap['metrics'][metric] / top:.0%} of that accuracy in {seconds(cheap['fit_seconds'])}.")
    return said


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
