"""One self-contained page of a comparison: it opens offline, loads nothing, and runs only the script it was written with."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tongtu.files import new_file

__all__ = ["render", "write_report"]

_HERE = Path(__file__).parent


def write_report(results: Mapping[str, Any], path: Path) -> None:
    """Write the report of a comparison.

    Args:
        results: What results.json holds.
        path: The HTML file.

    Raises:
        StorageError: If it cannot be written.
    """
    page = render(results)
    with new_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render(results: Mapping[str, Any]) -> str:
    """The report as HTML. Every text of `results` is escaped: titles of items are the work of strangers."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from tongtu.report.view import view

    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    policy = f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    return environment.get_template("report.html").render(view(results), style=style, script=script, policy=policy)


def _digest(text: str) -> str:
    """What a content security policy calls a script or style by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
