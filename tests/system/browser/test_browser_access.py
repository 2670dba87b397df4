"""Everybody can use the pages: without a mouse, by ear, on a phone, in the dark, and without motion."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from serving import Service, column, listed, settle

pytestmark = pytest.mark.system

Opener = Callable[..., Page]
LOOKING = (Path(__file__).parent / "looking.js").read_text(encoding="utf-8")
WATCH_MOTION = """() => {
  const run = Element.prototype.animate;
  Element.prototype.animate = function (...how) { window.moved = true; return run.apply(this, how); };
}"""
FULL = (
    "#user=user-3&item=item-1&item=item-11&model=knn&model=words&model=group&wish=bread&forget=club"
    "&attribute=%5B%22age%22%2C%2233%22%5D&filter=%5B%22categories%22%2C%22home%22%2C%22arts%22%5D"
)
WHERE = [pytest.param(FULL, id="playground"), pytest.param("dashboard", id="dashboard"), pytest.param("docs", id="docs")]


def full(page: Page, path: str) -> None:
    """Bring the page into the state that shows most of it."""
    page.evaluate(LOOKING)
    if path == "docs":
        return
    if path == "dashboard":
        expect(page.locator("#tiles .tile").first).to_be_visible()
        return
    for panel in ("attributes", "filters", "snippet"):
        page.locator(f"#{panel}-panel summary").click()
    settle(page, ["knn", "words", "group"])
    column(page, "knn").get_by_role("button", name=re.compile("^Similar")).first.click()
    expect(page.locator(".alike li").first).to_be_visible()
    page.wait_for_function("document.getAnimations().length === 0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", WHERE)
def test_every_text_stands_out_from_its_ground(path: str, scheme: str, open_page: Opener) -> None:
    page = open_page(path, color_scheme=scheme)
    full(page, path)
    assert page.evaluate("faint(4.5)") == []
    if path == FULL:
        page.get_by_role("button", name="Choose a user").click()
        expect(page.locator("#people-list li").first).to_be_visible()
        assert page.evaluate("faint(4.5)") == []


@pytest.mark.parametrize("path", WHERE)
def test_everything_one_can_use_has_a_name_and_a_role(path: str, open_page: Opener) -> None:
    page = open_page(path)
    full(page, path)
    session = page.context.new_cdp_session(page)
    nodes: list[dict[str, Any]] = session.send("Accessibility.getFullAXTree")["nodes"]
    shown = [node for node in nodes if not node.get("ignored")]
    focusable = [node for node in shown if any(one["name"] == "focusable" and one["value"].get("value") for one in node.get("properties", []))]
    nameless = [node["role"]["value"] for node in focusable if not node.get("name", {}).get("value", "").strip() and node["role"]["value"] != "RootWebArea"]
    assert len(focusable) >= 5
    # What gets the focus only by a link to it (tabindex -1) is no control, and needs no name.
    assert [role for role in nameless if role not in ("main", "generic", "heading")] == []
    roles = {node["role"]["value"] for node in shown}
    assert {"banner", "navigation", "main"} <= roles
    levels = page.evaluate("levels()")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels)), levels


@pytest.mark.parametrize("path", WHERE)
def test_a_phone_has_room_for_it(path: str, open_page: Opener) -> None:
    page = open_page(path, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    full(page, path)
    assert page.evaluate("wide()") == []
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("small(24)") == []
    if path == FULL:
        page.get_by_role("navigation", name="On this page").get_by_role("link", name="Recommendations").tap()
        expect(column(page, "knn").locator(".list > li").first).to_be_in_viewport()
        assert "item=item-1" in page.url, "the address still holds the question"


def test_without_a_mouse(open_page: Opener, service: Service) -> None:
    page = open_page("#model=knn")
    settle(page, ["knn"])
    keys = page.keyboard
    keys.press("Tab")
    expect(page.get_by_role("link", name="Skip to the recommendations")).to_be_focused()
    keys.press("Enter")
    expect(page.locator("#results")).to_be_focused()
    keys.press("Tab")
    first = column(page, "knn").locator(".list > li").first.get_by_role("button").first
    expect(first).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is seen"
    top = listed(page, "knn")[0]
    keys.press("Enter")
    settle(page, ["knn"])
    assert listed(page, "knn") == service.ids(history=[top], model="knn")
    expect(first).to_be_focused()
    assert listed(page, "knn")[0] != top, "the focus is on the item that took the place"

    page.get_by_role("searchbox", name="Search the catalogue").focus()
    keys.type("grinder number 3")
    page.wait_for_timeout(600)
    for _ in range(2):
        keys.press("Tab")  # over the choice of a category to the first item found
    keys.press("Enter")
    expect(page.locator("#history > li")).to_have_count(2)
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"


def test_escape_closes_and_the_focus_returns(open_page: Opener) -> None:
    page = open_page("#model=knn")
    opener = page.get_by_role("button", name="Choose a user")
    opener.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("searchbox", name="Find a user by id")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(opener).to_be_focused()


@pytest.mark.parametrize(("motion", "moves"), [("reduce", False), ("no-preference", True)])
def test_nothing_moves_for_those_who_asked_for_that(motion: str, moves: bool, open_page: Opener) -> None:
    page = open_page("#model=knn&item=item-1", reduced_motion=motion)
    settle(page, ["knn"])
    page.evaluate(WATCH_MOTION)
    page.locator("#catalogue").get_by_role("button").nth(3).click()
    settle(page, ["knn"])
    assert page.evaluate("window.moved === true") is moves


def test_changes_are_said_aloud(open_page: Opener) -> None:
    page = open_page("#model=knn&model=words&item=item-1")
    settle(page, ["knn", "words"])
    spoken = page.locator("body > [role=status]")
    expect(spoken).to_have_text(re.compile("^10 recommendations from knn and words; first "))
    page.get_by_label("How many").fill("7")
    expect(spoken).to_have_text(re.compile("^7 recommendations from knn and words; first "))
