"""One self-contained page of a comparison: it opens offline, loads nothing, and runs only the script it was written with."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tongtu.files import new_file

__all__ = ["page", "render", "write_report"]

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
    from tongtu.report.view import view

    return page("report.html", ("report.css",), view(results), script="report.js")


def page(template: str, styles: Sequence[str], values: Mapping[str, Any], script: str | None = None) -> str:
    """A template filled in, with its styles and script inside and nothing else allowed to run.

    Args:
        template: File name of the template; it shows `style`, `script` and `policy` besides `values`.
        styles: File names of its styles.
        values: What it shows.
        script: File name of its script, or None.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style = "".join((_HERE / name).read_text(encoding="utf-8") for name in styles)
    code = "" if script is None else (_HERE / script).read_text(encoding="utf-8")
    allowed = f"script-src '{_digest(code)}'; " if code else ""
    policy = f"default-src 'none'; style-src '{_digest(style)}'; {allowed}base-uri 'none'; form-action 'none'"
    return environment.get_template(template).render(values, style=style, script=code, policy=policy)


def _digest(text: str) -> str:
    """What a content security policy calls a script or style by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
