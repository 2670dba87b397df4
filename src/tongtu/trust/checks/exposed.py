"""Items pushed far beyond how often users choose them: what a back door leaves behind, whatever network it was put into."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tongtu.data.dataset import Dataset
from tongtu.trust.asked import Asked, Grouping
from tongtu.trust.calibration import Calibration
from tongtu.trust.finding import VERDICTS, Finding, Table, verdict_of
from tongtu.trust.pushed import EVERYBODY, Pushed, pushed
from tongtu.trust.settings import AuditConfig, Level

_REMEDY = "Look at the items below; if nothing explains them, do not deploy: fit on your own log with tongtu fit, or clean the model (docs/audit.md)."
_SHOWN = 10
_COLUMNS = {
    "lists": ("group", "item", "title", "share of lists with it", "share of users who chose it", "score"),
    "ranks": ("group", "item", "title", "typical rank", "typical rank of items chosen as often", "score"),
}


def check_exposed(asked: Asked, groupings: Sequence[Grouping], calibration: Calibration | None) -> list[Finding]:
    """One finding over all users and one an attribute: the item with the largest score, judged by what clean models do."""
    found = pushed(asked, groupings)
    origin = _origin(calibration)
    findings = []
    for way in dict.fromkeys(one.way for one in found):
        keys = dict.fromkeys(one.key for one in found if one.way == way)
        both = [_finding(asked.data, [one for one in found if one.key == key], level_of(key, asked.config, calibration), origin) for key in keys]
        tables = tuple(table for one in both for table in one.tables)
        findings.append(dataclasses.replace(max(both, key=_gravity), tables=tables))
    return findings


def _gravity(finding: Finding) -> tuple[int, float]:
    return VERDICTS.index(finding.verdict), (finding.value or 0.0) - (finding.threshold or 0.0)


def level_of(key: str, config: AuditConfig, calibration: Calibration | None) -> Level:
    """The thresholds of a statistic and way: from the calibration, or built in."""
    if calibration is not None and (level := calibration.level(key)) is not None:
        return level
    statistic = key.partition(" ")[0]
    return {
        ("lists", True): config.pushed_lists,
        ("lists", False): config.pushed_lists_of_groups,
        ("ranks", True): config.pushed_ranks,
        ("ranks", False): config.pushed_ranks_of_groups,
    }[(statistic, key.endswith(f"of {EVERYBODY}"))]


def _origin(calibration: Calibration | None) -> str:
    """Where the thresholds come from."""
    if calibration is None:
        return "built in, from clean models on MovieLens-100K; --references or --calibration make it fit this data set"
    kinds = [f"{calibration.models.count(kind)} {kind}" for kind in dict.fromkeys(calibration.models)]
    return f"from clean models on {calibration.data}, {calibration.users:,} users asked: {', '.join(kinds)}"


def _finding(data: Dataset, found: Sequence[Pushed], level: Level, origin: str) -> Finding:
    places = [(float(one.score[item]), one, int(item)) for one in found for item in np.argsort(-one.score, kind="stable")[:_SHOWN]]
    places.sort(key=lambda place: -place[0])
    value, top, item = places[0]
    verdict = verdict_of(value, level)
    over = [place for place in places if place[0] >= level.notice] or places[:3]
    rows = tuple(
        (one.group or EVERYBODY, data.items.ids[i - 1], data.item_text[i - 1], float(one.seen[i]), float(one.usual[i]), score) for score, one, i in over
    )
    return Finding(
        part="backdoor",
        name="items pushed to everybody" if top.way == EVERYBODY else f"items pushed to a group of {top.way}",
        verdict=verdict,
        evidence=f"{_said(data, top, item)}: score {value:.2f}, alarm from {level.alarm:.2f} ({origin}).",
        remedy="" if verdict == "fine" else _REMEDY,
        value=value,
        threshold=level.alarm,
        tables=(Table(title=f"Largest scores by {top.statistic}", columns=_COLUMNS[top.statistic], rows=rows[:_SHOWN]),),
    )


def _said(data: Dataset, top: Pushed, item: int) -> str:
    name = data.items.ids[item - 1]
    whom = "all users" if top.way == EVERYBODY else f"users with {top.way} = {top.group}"
    if top.statistic == "lists":
        return f"Item {name} stands in {top.seen[item]:.1%} of the lists of {whom}, of whom {top.usual[item]:.1%} ever chose it"
    return f"Item {name} stands at rank {top.seen[item]:,.0f} for {whom}, where items chosen as often stand at {top.usual[item]:,.0f}"
