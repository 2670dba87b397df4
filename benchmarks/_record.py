"""What stands beside every number: the machine, the versions, the date, the commit and the command."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def environment(packages: Iterable[str] = ("numpy", "polars", "pyarrow", "torch")) -> dict[str, Any]:
    """The machine and what runs on it."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ram_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_average": [round(part, 2) for part in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
    }


def write(name: str, result: Mapping[str, Any], packages: Iterable[str] = ("numpy", "polars", "pyarrow", "torch")) -> Path:
    """Write `benchmarks/results/NAME.json`: the facts first, then the result."""
    given = ["PATH" if Path(part).is_absolute() else part for part in sys.argv[1:]]  # where files lay on this machine tells nobody anything
    command = " ".join(shlex.quote(part) for part in ["python", str(_script()), *given])
    facts = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "command": command, "environment": environment(packages)}
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**facts, **result}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _script() -> Path:
    """The file that runs, as it is called from the root of the repository."""
    here, file = Path(__file__).resolve().parent, Path(sys.argv[0]).resolve()
    return Path("benchmarks") / (file.relative_to(here) if file.is_relative_to(here) else file.name)


def commit() -> str:
    """The commit that is checked out, with "+changes" where tracked files differ from it."""
    here = Path(__file__).parent
    head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=here, capture_output=True, text=True, check=False).stdout
    changed = "\n".join(line for line in changed.splitlines() if "benchmarks/results/" not in line)
    return f"{head or 'no git'}{'+changes' if changed else ''}"


def cpu_model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
