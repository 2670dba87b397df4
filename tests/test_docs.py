"""What the documents show really runs."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from tongtu import hub

ROOT = Path(__file__).parents[1]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_system_of_the_guide_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's class stands in a module that its model folders may name, as an installed package's would."""
    module = types.ModuleType(f"{hub._OURS}markov")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks("docs/add-a-system.md", "python"):
        exec(compile(block, "docs/add-a-system.md", "exec", dont_inherit=True), module.__dict__)


@pytest.mark.slow
@pytest.mark.parametrize("document", ["README.md", "README.zh.md"])
def test_the_api_of_the_readme_runs(document: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = blocks(document, "python")
    assert found
    for block in found:
        exec(compile(block, document, "exec", dont_inherit=True), {})


def test_both_readmes_show_the_same_commands() -> None:
    english, chinese = (re.findall(r"^(?:make|tongtu) .*$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE) for name in ("README.md", "README.zh.md"))
    assert english and english == chinese


@pytest.mark.parametrize("document", sorted(str(p.relative_to(ROOT)) for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]))
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = [t.split("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text) if not t.startswith(("http", "#"))]
    assert [t for t in targets if not ((ROOT / document).parent / t).exists()] == []
