"""The page of an audit: a verdict a line, its evidence and remedy folded behind it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tongtu.config import plain
from tongtu.files import new_file
from tongtu.report import charts, page, words
from tongtu.trust.audit import AuditRecord
from tongtu.trust.finding import VERDICTS, Finding, Table, Verdict

_PARTS = {
    "folder": ("The folder", "Is it whole, free of code, and what does it say of its making?"),
    "backdoor": ("Back doors", "Are items pushed to users who would never choose them?"),
    "privacy": ("Privacy", "What does somebody who holds a user's vector learn of the user?"),
    "memory": ("Memory", "Does the model remember the very events it learned?"),
    "fairness": ("Groups of users", "Are groups served alike, and what does each receive?"),
    "popularity": ("Popularity", "Does the model lean to what is popular anyway?"),
}
_MARKS: Mapping[Verdict, str] = {"fine": "✓", "notice": "!", "alarm": "✕", "not measured": "–"}
_SHARES = ("share", "hits among", "in how many lists")


def write_audit(record: AuditRecord, path: Path, command: str | None = None) -> None:
    """Write the page of an audit.

    Args:
        record: The audit.
        path: The HTML file.
        command: What a reader types to repeat it.

    Raises:
        StorageError: If it cannot be written.
    """
    html = render_audit(record, command)
    with new_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def render_audit(record: AuditRecord, command: str | None = None) -> str:
    """The page as HTML. Every text is escaped: titles of items and names of files are the work of strangers."""
    counts = Counter(finding.verdict for finding in record.findings)
    told = [f"{counts[verdict]} {_plural(verdict, counts[verdict])}" for verdict in reversed(VERDICTS) if counts[verdict]]
    values = {
        "name": Path(str(record.model.get("folder", "model"))).name,
        "data": record.data["name"],
        "verdict": record.verdict,
        "mark": _MARKS[record.verdict],
        "headline": headline(record),
        "counts": ", ".join(told),
        "parts": [(key, *_PARTS[key], lines) for key in _PARTS if (lines := [_line(one) for one in record.findings if one.part == key])],
        "facts": _facts(record),
        "config": json.dumps(plain(record.config), indent=2),
        "command": command,
    }
    return page("audit.html", ("report.css", "audit.css"), values)


def headline(record: AuditRecord) -> str:
    """What the audit says in a sentence."""
    by = {verdict: [one.name for one in record.findings if one.verdict == verdict] for verdict in VERDICTS}
    if by["alarm"]:
        more = f" and {len(by['alarm']) - 2} more" if len(by["alarm"]) > 2 else ""
        return f"Alarm: {'; '.join(by['alarm'][:2])}{more}."
    if by["notice"]:
        return f"No alarm, and {len(by['notice'])} {_plural('notice', len(by['notice']))} to look at."
    return f"No alarm and no notice among {len(by['fine'])} lines that were measured." if by["fine"] else "Nothing was measured."


def value_text(finding: Finding) -> str:
    """A finding's number with its interval and the alarm's level."""
    if finding.value is None:
        return ""
    interval = "" if finding.interval is None else f" [{_number(finding.interval[0])}, {_number(finding.interval[1])}]"
    return f"{_number(finding.value)}{interval}"


def _plural(verdict: str, count: int) -> str:
    return f"{verdict}s" if verdict in ("alarm", "notice") and count != 1 else verdict


def _line(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "verdict": finding.verdict,
        "mark": _MARKS[finding.verdict],
        "value": value_text(finding),
        "level": None if finding.threshold is None or finding.value is None else f"alarm from {_number(finding.threshold)}",
        "bar": _bar(finding),
        "evidence": finding.evidence,
        "remedy": finding.remedy,
        "tables": [_table(table) for table in finding.tables],
    }


def _bar(finding: Finding) -> tuple[float, ...] | None:
    """Places of low end, value, high end and alarm level in a small picture."""
    if finding.value is None or finding.threshold is None or min(finding.value, finding.threshold) < 0:
        return None
    low, high = finding.interval or (finding.value, finding.value)
    limit = 1.15 * max(high, finding.threshold, 1e-9)
    return (*charts.bar(low, finding.value, high, limit), charts.bar(0, finding.threshold, 0, limit)[1])


def _table(table: Table) -> dict[str, Any]:
    rows = [[_cell(column, value) for column, value in zip(table.columns, row, strict=True)] for row in table.rows]
    words_in = [any(isinstance(row[place], str) for row in table.rows) for place in range(len(table.columns))]
    return {"title": table.title, "columns": list(zip(table.columns, words_in, strict=True)), "rows": rows, "words": words_in}


def _cell(column: str, value: str | int | float | None) -> str:
    if value is None or isinstance(value, str):
        return value or "–"
    if any(word in column for word in _SHARES):
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else _number(value)


def _number(value: float) -> str:
    """Three digits that say something."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _facts(record: AuditRecord) -> list[tuple[str, list[tuple[str, str]]]]:
    trained = record.model.get("trained_on") or {}
    model = [("Folder", record.model.get("folder")), ("Class", record.model.get("class")), ("Trained on, it says", trained.get("name"))]
    data = [(key.capitalize(), words.count(value) if isinstance(value, int) else str(value)) for key, value in record.data.items()]
    made = [("Users asked", words.count(record.users)), ("Seed", str(record.config.seed)), ("Time", words.seconds(record.seconds))]
    if record.calibration is not None:
        made.append(("Clean models", f"{', '.join(record.calibration.models)} on {record.calibration.data}"))
    made += [(package, number) for package, number in record.versions.items()]
    return [("Model", [(key, str(value)) for key, value in model if value]), ("Data", data), ("Audit", made)]
