"""What a language model is worth on the five tasks of Liu et al. (2023), beside what costs nothing: runs a study and keeps its tables.

    python benchmarks/five_tasks.py experiments/five-tasks-ml-100k.toml --out runs/five-tasks-ml-100k

`results/five_tasks_*.json` gets every row's metrics with 95 % intervals over users, what was made up or said twice, and tokens and
seconds a prompt. Answers are cached: taken up again, a study asks only what is missing, and times are those of when it was asked.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from _record import write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    subprocess.run([sys.executable, "-m", "tongtu", "study", str(chosen.experiment), "--out", str(chosen.out)], check=True)
    study = json.loads((chosen.out / "study.json").read_text(encoding="utf-8"))
    kept = {name: value for name, value in study.items() if name not in ("format", "environment")}
    name = "five_tasks_" + chosen.experiment.stem.removeprefix("five-tasks-")
    write(name, kept, ("numpy", "polars", "rouge-score", "sacrebleu", "torch", "transformers"))


if __name__ == "__main__":
    main()
