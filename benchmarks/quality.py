"""Accuracy on a data set of the literature: runs an experiment (or takes up a finished one) and keeps its table.

    python benchmarks/quality.py experiments/beauty.toml --out runs/beauty

`experiments/NAME.toml` says what is compared; `results/NAME.json` gets each system's test metrics, mean over seeds with a
95 % interval over users, each seed's own figures, and the validation figure its epoch was chosen by.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from _record import write

SHOWN = ("recall@10", "ndcg@10", "recall@50", "coverage@10")


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
        "test": {name: row["metrics"][name] for name in SHOWN if name in row["metrics"]},
        "interval": {name: row["interval"][name] for name in ("recall@10", "ndcg@10")},
        "deviation over seeds": {name: float(np.std([seed[name] for seed in seeds])) for name in ("recall@10", "ndcg@10")},
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    subprocess.run([sys.executable, "-m", "tongtu", "compare", str(chosen.experiment), "--out", str(chosen.out)], check=True)
    results = json.loads((chosen.out / "results.json").read_text(encoding="utf-8"))
    rows = [kept(row) for row in results["systems"]]
    write(f"quality_{chosen.experiment.stem}", {"protocol": results["protocol"], "data": results["data"], "seeds": results["seeds"], "systems": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
