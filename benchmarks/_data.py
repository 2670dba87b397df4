"""The data set of a benchmark, and the command that was given."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from tongtu.data.dataset import Dataset
from tongtu.data.folder import open_dataset
from tongtu.data.importer import Columns, import_log


def read(path: Path) -> Dataset:
    """A data set folder, or a file with the columns user_id, item_id and position."""
    if (path / "dataset.json").exists():
        return open_dataset(path)
    return import_log(path, Columns(user="user_id", item="item_id", order="position"), name=path.resolve().parent.name, quiet=True)[0]


def command() -> str:
    """The command that repeats this run, with no more of a path than says what it is."""
    parts = (str(Path(*Path(part).parts[-3:])) if "/" in part else part for part in sys.argv[1:])
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *parts])
