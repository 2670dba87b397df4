from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tongtu.report.audit import headline, render_audit, write_audit
from tongtu.trust.audit import AuditRecord
from tongtu.trust.finding import Finding, Table, Verdict
from tongtu.trust.settings import AuditConfig

STRANGE = "<script>alert(1)</script>"


def finding(name: str, verdict: Verdict) -> Finding:
    table = Table(
        title="Largest scores", columns=("item", "share of lists with it", "score", "users"), rows=((STRANGE, 0.256, 4.5, 1200), ("b", None, 150.0, 2))
    )
    return Finding(
        part="backdoor",
        name=name,
        verdict=verdict,
        evidence="Item 7 stands in many lists.",
        remedy="" if verdict == "fine" else "Do not deploy.",
        value=None if verdict == "not measured" else 4.5,
        interval=None if verdict == "not measured" else (4.0, 5.0),
        threshold=None if verdict == "not measured" else 3.0,
        tables=(table,),
    )


def record(*verdicts: Verdict) -> AuditRecord:
    findings = tuple(finding(f"line {place}", verdict) for place, verdict in enumerate(verdicts))
    data = {"name": STRANGE, "fingerprint": "ab12", "users": 10, "items": 4, "events": 55}
    return AuditRecord(
        verdict=max(verdicts, key=["not measured", "fine", "notice", "alarm"].index),
        model={"folder": "runs/model", "class": "tongtu.systems.x:X"},
        data=data,
        users=10,
        seconds=12.3,
        versions={"tongtu": "0.1.0"},
        config=AuditConfig(),
        findings=findings,
    )


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_verdict_a_line_with_the_evidence_behind_it() -> None:
    page = Page(render_audit(record("alarm", "notice", "fine", "not measured"), "tongtu audit model --data shop"))
    folded = [attributes for tag, attributes in page.elements if tag == "details" and "finding" in (attributes.get("class") or "")]
    assert len(folded) == 4 and ["open" in one for one in folded] == [True, False, False, False]
    for said in (
        "1 alarm, 1 notice, 1 fine, 1 not measured",
        "4.500 [4, 5]",
        "alarm from 3",
        "25.6%",
        "1,200",
        "150",
        "What to do: Do not deploy.",
        "tongtu audit model",
    ):
        assert said in " ".join(page.text.split()), said


def test_strangers_texts_are_escaped_and_nothing_is_loaded_or_run() -> None:
    html = render_audit(record("alarm"))
    page = Page(html)
    assert STRANGE not in html and STRANGE in page.text
    assert not re.search(r"https?:|//[a-z]|url\(|@import", html)
    assert "script" not in {tag for tag, _ in page.elements} and not any(a.keys() & {"src", "style", "onclick"} for _, a in page.elements)
    policy = next(str(a["content"]) for tag, a in page.elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert (
        f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy
        and "default-src 'none'" in policy
        and "script-src" not in policy
    )
    anchors = {attributes.get("id") for _, attributes in page.elements}
    assert {str(a["href"])[1:] for tag, a in page.elements if tag == "a"} <= anchors


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (("alarm", "alarm", "alarm", "fine"), "Alarm: line 0; line 1 and 1 more."),
        (("notice", "fine"), "No alarm, and 1 notice to look at."),
        (("fine", "not measured"), "No alarm and no notice among 1 lines that were measured."),
        (("not measured",), "Nothing was measured."),
    ],
)
def test_the_headline_is_the_answer(verdicts: tuple[Verdict, ...], said: str) -> None:
    assert headline(record(*verdicts)) == said


def test_it_is_written_whole(tmp_path: Path) -> None:
    write_audit(record("fine"), tmp_path / "sub" / "audit.html")
    assert (tmp_path / "sub" / "audit.html").read_text().endswith("</html>")
