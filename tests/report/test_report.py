from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongtu.report import charts, render, words, write_report

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Every element that was opened, the text, and whether all was closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_says_who_wins_and_whether_it_is_sure(results: dict[str, Any]) -> None:
    page = Page(render(results))
    text = " ".join(" ".join(page.text).split())
    assert "SASRec ranks first with NDCG@10 0.0940, but HSTU cannot be told from it." in text
    assert "may be chance (p = 0.400" in text
    assert "EASE reaches 83% of that accuracy in 1.1 s." in text


def test_a_clear_winner_is_called_one(results: dict[str, Any]) -> None:
    for pair in results["pairs"]:
        pair["p_holm"] = 0.0004
    text = " ".join(Page(render(results)).text)
    assert "SASRec wins with NDCG@10 0.0940." in text and "significant over the same users (p &lt; 0.001)" not in text
    assert "the difference is significant over the same users (p < 0.001)" in text


def test_loads_nothing(results: dict[str, Any]) -> None:
    html = render(results)
    page = Page(html)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", html)
    assert not any(attributes.keys() & {"src", "srcset", "style", "onclick", "onload"} for _, attributes in page.elements)
    assert all(attributes["href"].startswith("#") for attributes in page.named("a"))  # type: ignore[union-attr]
    anchors = {attributes.get("id") for _, attributes in page.elements}
    assert {str(a["href"])[1:] for a in page.named("a")} <= anchors


def test_only_its_own_script_and_style_may_run(results: dict[str, Any]) -> None:
    html = render(results)
    policy = next(str(m["content"]) for m in Page(html).named("meta") if m.get("http-equiv") == "Content-Security-Policy")
    for tag in ("script", "style"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> & {{ 7 * 7 }} </title></style>"


def test_titles_and_names_are_only_text(results: dict[str, Any]) -> None:
    plain = Page(render(results))
    for example in results["examples"]:
        for item in [*example["history"], example["target"], *(i for one in example["lists"].values() for i in one["items"])]:
            item["text"] = HOSTILE
    results["data"]["name"] = HOSTILE
    results["protocol"]["split"] = HOSTILE
    results["command"] = HOSTILE
    results["systems"][0]["config"] = {"key": HOSTILE}
    for system in results["systems"]:
        system["slices"][HOSTILE] = {HOSTILE: {"cases": 1, "ndcg@10": 0.1}}
    html = render(results)
    page = Page(html)
    assert html.count("<script>") == 1 and "<img" not in html
    assert len(page.named("script")) == len(plain.named("script")) and not page.named("img")
    assert sum(HOSTILE in text for text in page.text) > 20
    assert "49" not in HOSTILE and "{{ 7 * 7 }}" in html


def test_can_be_read_by_everybody(results: dict[str, Any]) -> None:
    page = Page(render(results))
    assert all(th.get("scope") in {"col", "row"} for th in page.named("th"))
    drawn = [svg for svg in page.named("svg") if svg.get("aria-hidden") != "true"]
    assert drawn and all(svg.get("role") == "img" and svg.get("aria-label") for svg in drawn)
    assert len(page.named("desc")) == len(drawn)
    assert [th for th in page.named("th") if th.get("aria-sort") == "descending"]
    assert page.named("html") == [{"lang": "en"}] and page.named("meta")[0] == {"charset": "utf-8"}


@pytest.mark.parametrize("absent", [("pairs",), ("examples",), ("command",), ("pairs", "examples", "environment", "data", "protocol")])
def test_what_was_not_measured_is_left_out(results: dict[str, Any], absent: tuple[str, ...]) -> None:
    for name in absent:
        del results[name]
    Page(render(results))


def test_a_system_that_failed_is_named_with_its_reason(results: dict[str, Any]) -> None:
    results["systems"].append({"label": "EASE, wide", "system": "ease", "status": "failed", "error": "memory ran out <here>", "config": {}})
    text = " ".join(" ".join(Page(render(results)).text).split())
    assert "EASE, wide failed and is not in the table: memory ran out <here>" in text


def test_one_system_with_nothing_but_metrics(results: dict[str, Any]) -> None:
    page = Page(render({"systems": [{"system": "popular", "metrics": {"ndcg@10": 0.0}}]}))
    assert "popular reaches NDCG@10 0.0000." in page.text


def test_is_written_whole(results: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "out" / "report.html"
    write_report(json.loads(json.dumps(results)), path)
    assert path.read_text(encoding="utf-8") == render(results)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


@given(st.floats(1e-6, 1e6), st.floats(1.0001, 1e6), st.booleans())
def test_ticks_are_few_round_and_within_the_axis(low: float, times: float, log: bool) -> None:
    axis = charts.Axis.over([low, low * times], 0.0, 100.0, log)
    ticks = axis.ticks()
    assert len(ticks) <= 13 and ticks == sorted(set(ticks))
    assert all(-0.01 <= axis.place(tick) <= 100.01 for tick in ticks)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 0.2)), min_size=2, max_size=12))
def test_every_system_stands_in_the_picture(figures: list[tuple[float, float]]) -> None:
    points = [charts.Point(x, y, y * 0.9, y * 1.1, f"system {i}", "", "") for i, (x, y) in enumerate(figures)]
    chart = charts.scatter(points, "", "", "")
    assert chart is not None and sorted(mark.label for mark in chart.marks) == sorted(point.label for point in points)
    assert all(chart.left <= mark.x <= chart.right and chart.top <= mark.high <= mark.y <= mark.low <= chart.bottom for mark in chart.marks)


def test_labels_keep_apart() -> None:
    points = [charts.Point(1 + i * 0.4, 0.1 + i * 0.002, 0.1, 0.11, f"system {i}", "", "") for i in range(4)]
    chart = charts.scatter(points, "", "", "")
    assert chart is not None
    places = sorted((mark.label_y, mark.label_x, mark.anchor) for mark in chart.marks)
    assert len(set(places)) == 4


@pytest.mark.parametrize(("value", "text"), [(0.012, "12 ms"), (3.21, "3.2 s"), (62, "62 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (None, "–")])
def test_durations(value: float | None, text: str) -> None:
    assert words.seconds(value) == text


def test_many_equals_are_counted_in_the_headline_and_named_below(results: dict[str, Any]) -> None:
    for pair in results["pairs"]:
        pair["p_holm"] = 1.0
    text = " ".join(Page(render(results)).text)
    assert "SASRec ranks first with NDCG@10 0.0940, but 7 others cannot be told from it." in text
    assert "does not tell it from HSTU, BERT4Rec, EASE, ItemKNN, ALS, BPR or Popular." in text
