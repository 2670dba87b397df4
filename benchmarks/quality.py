"""Accuracy on a data set of the literature: runs an experiment (or takes up a finished one) and keeps its table.

    python benchmarks/quality.py experiments/beauty.toml --out runs/beauty

`experiments/NAME.toml` says what is compared; `results/NAME.json` gets each system's test metrics, mean over seeds with a
95 % interval over users, each seed's own figures, and the validation figure its epoch was chosen by. A table that takes hours
can be made in parts: `--only LABEL ...` runs some rows, and rows made before stay, each with its own date, commit and machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from _record import RESULTS, commit, cpu_model, write
from _toml import document

from tongtu.config import read_toml
from tongtu.systems import cards

SHOWN = ("recall@5", "ndcg@5", "recall@10", "ndcg@10", "ndcg@20", "recall@50", "coverage@10")
BY_CATEGORY = ("category_diversity@5", "category_coverage@5", "category_diversity@10", "category_coverage@10")
INTERVALS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")


def kept(row: dict[str, Any]) -> dict[str, Any]:
    """What of a row of results.json goes on record."""
    if row["status"] != "done":
        return {"system": row["label"], "error": row["error"]}
    seeds = [
        {
            "seed": run["seed"],
            "recall@10": run["metrics"]["recall@10"],
            "ndcg@10": run["metrics"]["ndcg@10"],
            "epochs": run["epochs"],
            "validation ndcg@10": max((epoch["ndcg@10"] for epoch in run["curves"] if "ndcg@10" in epoch), default=None),
        }
        for run in row["runs"]
    ]
    return {
        "system": row["label"],
        "test": {name: row["metrics"][name] for name in (*SHOWN, *BY_CATEGORY) if name in row["metrics"]},
        "interval": {name: row["interval"][name] for name in (*INTERVALS, *BY_CATEGORY) if name in row["interval"]},
        "deviation over seeds": {name: float(np.std([seed[name] for seed in seeds])) for name in ("recall@10", "ndcg@10")},
        "by the target's training events": row["slices"].get("target's training events"),
        "by the target's place": row["slices"].get("target's place"),
        "a request to the language model": row.get("answering") or None,
        "popularity by rank": row.get("popularity by rank") if row.get("answering") else None,
        "fit_seconds": row["fit_seconds"],
        "parameters": row["parameters"],
        "peak_memory_mb": row["peak_memory_mb"],
        "seeds": seeds,
        "config": row["config"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, best NDCG@10 first."""
    lines = ["| system | R@10 | N@10 | 95 % of N@10 | over seeds | fit s |", "|---|---|---|---|---|---|"]
    for row in sorted((row for row in rows if "test" in row), key=lambda row: -row["test"]["ndcg@10"]):
        test, (low, high) = row["test"], row["interval"]["ndcg@10"]
        spread = row["deviation over seeds"]["ndcg@10"]
        cells = (row["system"], f"{test['recall@10']:.4f}", f"{test['ndcg@10']:.4f}", f"{low:.4f} to {high:.4f}", f"{spread:.4f}", f"{row['fit_seconds']:,.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def known_rows(name: str, results: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows recorded earlier under the same protocol, on the same data."""
    file = RESULTS / f"{name}.json"
    if not file.exists():
        return []
    record = json.loads(file.read_text(encoding="utf-8"))
    same = all(record[part]["fingerprint"] == results[part]["fingerprint"] for part in ("protocol", "data"))
    old = {"date": record["date"], "commit": record["commit"], "cpu": record["environment"]["cpu"]}
    return [{**row, "made": row.get("made", old)} for row in record["systems"]] if same else []


@contextmanager
def parts_of(experiment: Path, labels: list[str], seeds: list[int]) -> Iterator[Path]:
    """The experiment with only the rows of these labels, and only these seeds; all of it where none is named."""
    values = read_toml(experiment)
    values["seeds"] = seeds or values.get("seeds", [0])
    named = {entry.get("label") or cards()[entry["name"]].title: entry for entry in values["systems"]}
    missing = [label for label in labels if label not in named]
    if missing:
        raise SystemExit(f"{experiment} has no row {missing[0]!r}; it has {', '.join(named)}")
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / experiment.name
        part.write_text(document({**values, "systems": [named[label] for label in labels or named]}), encoding="utf-8")
        yield part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[], metavar="LABEL", help="run these rows of the experiment")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="fit with these seeds; by default those of the experiment")
    parser.add_argument("--workers", type=int, default=1, help="fits side by side, on one thread each where there are several")
    chosen = parser.parse_args()
    with parts_of(chosen.experiment, chosen.only, chosen.seeds) as experiment:
        command = [sys.executable, "-m", "tongtu", "compare", str(experiment), "--out", str(chosen.out), "--workers", str(chosen.workers)]
        subprocess.run(command, check=True)
    results = json.loads((chosen.out / "results.json").read_text(encoding="utf-8"))
    name = f"quality_{chosen.experiment.stem}"
    made = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "cpu": cpu_model()}
    rows = [kept(row) | {"made": made, "workers": chosen.workers} for row in results["systems"]]
    new = {row["system"] for row in rows}
    rows = [row for row in known_rows(name, results) if row["system"] not in new] + rows
    write(name, {"protocol": results["protocol"], "data": results["data"], "systems": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
