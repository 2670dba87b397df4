"""Imports point one way, and looking at Tongtu does not load the heavy libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tongtu

ROOT = Path(tongtu.__file__).parent
# A part may import those of lower rank, and those of its own rank only if it is itself the same part.
RANK = {
    **dict.fromkeys(("errors", "core", "config", "vocab", "files", "hub", "progress", "ranking", "tensors", "pretrained"), 0),
    "data": 1,
    **dict.fromkeys(("nn", "text", "semantic", "decode", "llm"), 2),
    **dict.fromkeys(("tuning", "train", "candidates"), 3),
    **dict.fromkeys(("systems", "evaluation", "trust"), 4),
    "scale": 5,
    **dict.fromkeys(("report", "serve", "testing", "client"), 6),
    "cli": 7,
    "__main__": 8,
}
GROUND = 0  # the files of rank 0 may import each other
HEAVY = ("torch", "transformers", "accelerate", "implicit")


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(tree: ast.AST) -> Iterator[str]:
    """Modules of ours that a file imports, wherever in the file; blocks for type checkers do not count."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from imports(other)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "tongtu")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports in full"
            if node.module == "tongtu":
                yield from (f"tongtu.{alias.name}" for alias in node.names)
            elif node.module and node.module.startswith("tongtu."):
                yield node.module
        yield from imports(node)


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_one_way(file: Path) -> None:
    part = file.relative_to(ROOT).parts[0].removesuffix(".py")
    for module in imports(ast.parse(file.read_text(encoding="utf-8"))):
        other = part_of(module)
        if part == "__init__" or other == part:
            continue
        assert part in RANK and other in RANK, f"{file.name} imports {module}: give both a rank"
        below = RANK[other] < RANK[part] or RANK[other] == RANK[part] == GROUND
        assert below, f"{file.relative_to(ROOT)} (rank {RANK[part]}) imports {module} (rank {RANK[other]})"


def test_no_drawer_for_everything() -> None:
    assert not [file for file in ROOT.rglob("*") if file.stem in {"utils", "util", "helpers", "common", "misc"}]


def test_the_checker_sees_imports() -> None:
    text = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from tongtu.cli import main
def late():
    import tongtu.report.view
from tongtu import hub
from tongtu.data.dataset import Dataset
"""
    assert list(imports(ast.parse(text))) == ["tongtu.report.view", "tongtu.hub", "tongtu.data.dataset"]


@pytest.mark.parametrize(
    "statement",
    [
        "import tongtu; tongtu.open_model; tongtu.Dataset; tongtu.Request",
        "import tongtu.data.splits, tongtu.data.synthetic, tongtu.ranking",
        "import tongtu.systems; tongtu.systems.cards()",
        "import tongtu.evaluation.evaluate, tongtu.evaluation.protocol",
        "import tongtu.systems.baselines.ease, tongtu.systems.baselines.als, tongtu.systems.baselines.popular",
        "import tongtu.serve.run, tongtu.serve.starting",
        "import sys; sys.argv = ['tongtu', '--help']\nfrom tongtu.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code",
    ],
)
def test_light_imports(statement: str) -> None:
    check = f"{statement}\nimport sys\nloaded = sorted({set(HEAVY)!r} & set(sys.modules))\nassert not loaded, loaded"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
