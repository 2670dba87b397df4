"""From results.json to what the template shows: ordered, formatted, and with the geometry of its charts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tongtu.report import analyses, charts, words

Row = Mapping[str, Any]

METRIC = "ndcg@10"
LEVEL = 0.05
_SHOWN = ("auc", "recall@10", "mrr", "mrr@10", "ndcg@5", "coverage@10", "category_diversity@10", "category_coverage@10")
_COSTS = (
    ("fit_seconds", "Fit", words.seconds),
    ("ms_per_request", "ms a request", words.milliseconds),
    ("peak_memory_mb", "Peak memory", words.megabytes),
    ("parameters", "Parameters", words.count),
    ("tokens", "Tokens", words.count),
)


def view(results: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the template needs.

    Args:
        results: What results.json holds.
    """
    metric = str(results.get("metric", METRIC))
    whole = [_labelled(row, place) for place, row in enumerate(results["systems"]) if row.get("status", "done") == "done"]
    done = [row for row in whole if row["metrics"].get(metric) is not None]
    ranked = sorted(done, key=lambda row: -row["metrics"][metric])
    pairs = _both_ways(results.get("pairs", ()), metric)
    sentences = words.summary(ranked, metric, pairs, LEVEL)
    return {
        "title": str(results.get("name") or _data_name(results)),
        "data": _data_name(results),
        "headline": sentences[0],
        "sentences": sentences[1:],
        "metric": words.metric_name(metric),
        "columns": _columns(ranked, metric),
        "rows": _rows(ranked, metric),
        "failed": [(row["label"], row["error"]) for row in results["systems"] if row.get("status") == "failed"],
        "all_metrics": _all_metrics(ranked),
        "cost_charts": _cost_charts(ranked, metric),
        "variant_charts": analyses.variant_charts(ranked, metric),
        "habit_charts": analyses.habit_charts(ranked, metric),
        "answering": analyses.answering(ranked),
        "slices": _slices(ranked, metric),
        "curve_charts": _curve_charts(ranked),
        "loss_charts": _loss_charts(ranked),
        "matrix": _matrix(ranked, pairs),
        "examples": _examples(results.get("examples", ()), ranked),
        "facts": _facts(results),
        "configs": [(row["label"], _chosen(row), json.dumps(row.get("config", {}), indent=2, ensure_ascii=False)) for row in ranked],
        "steps": [(step["step"], words.seconds(step["seconds"]), step["kept"]) for step in results.get("seconds", ())],
        "command": results.get("command"),
        "roads": list(dict.fromkeys(row.get("road", "other") for row in ranked)),
    }


def _labelled(row: Row, place: int) -> dict[str, Any]:
    return {"interval": {}, "slices": {}, "road": "other", **row, "place": place, "label": str(row.get("label") or row["system"])}


def _data_name(results: Mapping[str, Any]) -> str:
    return str(results.get("data", {}).get("name", "data"))


def _both_ways(pairs: Sequence[Row], metric: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Paired tests by (row, column), each also turned round; corrected for their number where that was done."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for pair in pairs:
        if pair.get("metric", metric) == metric:
            p = pair.get("p_holm", pair["p"])
            found[pair["a"], pair["b"]] = {"p": p, "difference": pair["difference"]}
            found[pair["b"], pair["a"]] = {"p": p, "difference": -pair["difference"]}
    return found


def _columns(ranked: Sequence[Row], metric: str) -> list[dict[str, Any]]:
    main = [metric, *(name for name in _SHOWN if any(name in row["metrics"] for row in ranked))]
    costs = [(key, title) for key, title, _ in _COSTS if any(row.get(key) is not None for row in ranked)]
    return [*({"key": key, "title": words.metric_name(key), "metric": True} for key in main), *({"key": k, "title": t, "metric": False} for k, t in costs)]


def _rows(ranked: Sequence[Row], metric: str) -> list[dict[str, Any]]:
    write = {key: to_text for key, _, to_text in _COSTS}
    columns = _columns(ranked, metric)
    limit = max((row["interval"].get(metric, [0, row["metrics"][metric]])[1] for row in ranked), default=1) or 1
    shown = []
    for row in ranked:
        cells = []
        for column in columns:
            key = column["key"]
            value = row["metrics"].get(key) if column["metric"] else row.get(key)
            low, high = row["interval"].get(key, (None, None))
            cells.append(
                {
                    "sort": "" if value is None else value,
                    "text": words.metric_value(value) if column["metric"] else write[key](value),
                    "interval": "" if low is None else f"{words.metric_value(low)} – {words.metric_value(high)}",
                    "bar": charts.bar(low, value, high, limit) if key == metric and value is not None and low is not None else None,
                }
            )
        shown.append({"label": row["label"], "road": row["road"], "cells": cells})
    return shown


def _all_metrics(ranked: Sequence[Row]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for row in ranked for name in row["metrics"]))
    rows = [(row["label"], [(row["metrics"].get(name, ""), words.metric_value(row["metrics"].get(name))) for name in names]) for row in ranked]
    return {"names": [words.metric_name(name) for name in names], "rows": rows}


def _cost_charts(ranked: Sequence[Row], metric: str) -> list[charts.Chart]:
    title = words.metric_name(metric)
    wanted = (("fit_seconds", "seconds to fit"), ("ms_per_request", "milliseconds a request"))
    made = [charts.scatter(_points(ranked, metric, key, unit), f"{title} against {unit}", f"{unit} (logarithmic)", title) for key, unit in wanted]
    return [chart for chart in made if chart is not None]


def _points(ranked: Sequence[Row], metric: str, key: str, unit: str) -> list[charts.Point]:
    points = []
    for row in ranked:
        value, cost = row["metrics"][metric], row.get(key)
        low, high = row["interval"].get(metric, (value, value))
        if cost is not None:
            tip = f"{row['label']}: {words.metric_value(value)}, {cost:.3g} {unit}"
            points.append(charts.Point(cost, value, low, high, row["label"], tip, f"road-{row['road']}"))
    return points


def _curve_charts(ranked: Sequence[Row]) -> list[charts.Chart]:
    """What training did for accuracy, all systems together."""
    made = [
        charts.lines(_series(ranked, "epoch", METRIC), "Validation NDCG@10 by epoch", "epoch", "NDCG@10"),
        charts.lines(_series(ranked, "seconds", METRIC), "Validation NDCG@10 by seconds of training", "seconds", "NDCG@10"),
    ]
    return [chart for chart in made if chart is not None]


def _loss_charts(ranked: Sequence[Row]) -> list[charts.Chart]:
    """The loss of each system by itself: different losses have nothing to say to each other."""
    made = [charts.lines([one], f"Training loss of {one[0]}", "epoch", "loss", highest=False) for one in _series(ranked, "epoch", "loss")]
    return [chart for chart in made if chart is not None]


def _series(ranked: Sequence[Row], x: str, y: str) -> list[tuple[str, list[tuple[float, float]]]]:
    """Points (epoch or seconds since the start, figure) of each system that was trained by epochs."""
    found = []
    for row in ranked:
        clock, points = 0.0, []
        for step in row.get("curves") or []:
            clock += step.get("seconds") or 0.0
            if step.get(y) is not None:
                points.append((clock if x == "seconds" else float(step["epoch"]), step[y]))
        if points:
            found.append((row["label"], points))
    return found


def _slices(ranked: Sequence[Row], metric: str) -> list[dict[str, Any]]:
    """One table a slice: systems against its groups, each cell shaded by its share of the group's best."""
    kinds = list(dict.fromkeys(kind for row in ranked for kind in row["slices"]))
    tables = []
    for kind in kinds:
        groups = {part: found["cases"] for row in ranked for part, found in row["slices"].get(kind, {}).items()}
        found = {(row["label"], part): figures.get(metric) for row in ranked for part, figures in row["slices"].get(kind, {}).items()}
        best = {value: max((found.get((row["label"], value)) or 0.0 for row in ranked), default=0.0) for value in groups}
        rows = [(row["label"], [_shaded(found.get((row["label"], value)), best[value]) for value in groups]) for row in ranked]
        tables.append({"title": f"By {kind}", "groups": [(v, f"{n:,}") for v, n in groups.items()], "rows": rows})
    return tables


def _shaded(value: float | None, best: float) -> dict[str, Any]:
    shade = 0 if not value or not best else round(value / best * 8)
    return {"text": words.metric_value(value), "shade": shade, "best": bool(value) and value == best}


def _matrix(ranked: Sequence[Row], pairs: Mapping[tuple[str, str], Row]) -> dict[str, Any] | None:
    """Row less column: which differences are more than chance."""
    if not pairs:
        return None
    labels = [row["label"] for row in ranked]
    return {"labels": labels, "rows": [(one, [_difference(pairs.get((one, other))) for other in labels]) for one in labels]}


def _difference(pair: Row | None) -> dict[str, str]:
    if pair is None:
        return {"text": "", "chance": "", "tone": "none"}
    tone = "equal" if pair["p"] >= LEVEL else "better" if pair["difference"] > 0 else "worse"
    return {"text": f"{pair['difference']:+.4f}".replace("-", "−"), "chance": words.chance(pair["p"]), "tone": tone}


def _examples(examples: Sequence[Row], ranked: Sequence[Row]) -> list[dict[str, Any]]:
    """Users as they are: what they had, what came next, and what each system would have shown."""
    return [
        {
            "user": example.get("user", ""),
            "history": example["history"],
            "target": example["target"],
            "lists": [
                {"label": row["label"], **example["lists"][row["label"]], "target": example["target"]["id"]}
                for row in ranked
                if row["label"] in example["lists"]
            ],
        }
        for example in examples
    ]


def _facts(results: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    names = (("Protocol", "protocol"), ("Data", "data"), ("Environment", "environment"))
    return [(title, [(key.replace("_", " "), _plain(value)) for key, value in results.get(part, {}).items()]) for title, part in names]


def _chosen(row: Row) -> str:
    """How the configuration came about."""
    search = row.get("search")
    if not search:
        return "set in the experiment"
    return f"best of {search['trials']} trials on validation, {words.metric_name(search['metric'])} {words.metric_value(search['best'])}"


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)) and all(not isinstance(v, (list, tuple, dict)) for v in value):
        return ", ".join(_plain(v) for v in value)
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value, ensure_ascii=False)
