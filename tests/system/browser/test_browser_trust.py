"""Strangers' titles, keys and failures: what the pages do with what may not be trusted, and what they say when something is wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect
from serving import Service, column, listed, serving, settle, titles

pytestmark = pytest.mark.system

Opener = Callable[..., Page]
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> \u202egnp.exe \u05e9\u05dc\u05d5\u05dd"


def test_titles_are_text_and_nothing_else(open_page: Opener, service: Service) -> None:
    service.api("PUT", "items/hostile-1", json={"text": "watercolour hostile", "title": HOSTILE, "fields": {"categories": ["<b>bold</b>"]}}).raise_for_status()
    page = open_page("#model=knn&item=hostile-1&user=%3Cimg%20src%3Dx%20onerror%3Dalert(3)%3E")
    page.get_by_role("searchbox", name="Search the catalogue").fill("watercolour hostile")
    found = page.locator("#catalogue .title").first
    expect(found).to_have_text(HOSTILE)
    expect(page.locator("#history .title").first).to_have_text(HOSTILE)
    expect(page.locator("#person-title")).to_have_text("User <img src=x onerror=alert(3)>")
    settle(page, ["knn"])
    assert page.locator("main img, main script, main b").count() == 0
    assert found.evaluate("node => node.tagName") == "BDI"
    assert column(page, "knn").locator(".notes").inner_text() == "1 item unknown to this model"


def test_a_key_is_asked_for_kept_in_the_tab_and_never_shown(open_page: Opener, shop: Path, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/store.db"
    made = subprocess.run([sys.executable, "-m", "tongtu", "keys", "add", "page", "--store", store], capture_output=True, text=True, check=True)
    key = re.search(r"tt_[\w-]+", made.stdout + made.stderr)
    assert key
    with serving(tmp_path, f"knn={shop / 'knn'}", "--data", str(shop / "data")) as locked:
        page = open_page(at=locked)
        dialog = page.get_by_role("dialog", name="This service asks for a key")
        dialog.get_by_label("Key").fill("tt_" + "x" * 43)
        dialog.get_by_role("button", name="Use this key").click()
        expect(dialog).to_be_visible()
        dialog.get_by_label("Key").fill(key[0])
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        settle(page, ["knn"])
        assert len(listed(page, "knn")) == 10
        page.get_by_text("This request in your own code").click()
        expect(page.locator("#snippet")).to_contain_text("$TONGTU_KEY")
        assert key[0] not in page.content() + page.url
        assert page.evaluate("JSON.stringify([{...localStorage}, document.cookie])") == json.dumps([{}, ""]).replace(" ", "")
        page.reload()
        settle(page, ["knn"])
        assert len(listed(page, "knn")) == 10, "the tab knows the key after a reload"


def test_what_fails_is_said_and_can_be_tried_again(open_page: Opener, service: Service) -> None:
    page = open_page("#model=knn&model=words&item=item-1")
    settle(page, ["knn", "words"])
    problem = {"type": "about:blank", "title": "Too busy", "status": 503, "detail": "the queue is full: try again in 2 s", "instance": "/", "request_id": "r"}
    refused = [True]

    def busy(route) -> None:  # type: ignore[no-untyped-def]
        if refused[0] and '"model":"words"' in (route.request.post_data or ""):
            route.fulfill(status=503, content_type="application/problem+json", headers={"Retry-After": "2"}, body=json.dumps(problem))
        else:
            route.continue_()

    page.route("**/v1/recommend", busy)
    page.get_by_label("How many").fill("6")
    alert = column(page, "words").get_by_role("alert")
    expect(alert).to_contain_text("the queue is full: try again in 2 s")
    assert len(listed(page, "knn")) == 6, "one failure does not hide the other list"
    refused[0] = False
    alert.get_by_role("button", name="Try again").click()
    settle(page, ["words"])
    assert listed(page, "words") == service.ids(history=["item-1"], model="words", k=6)


def test_a_page_that_was_opened_too_early_goes_on_by_itself(open_page: Opener, shop: Path, tmp_path: Path) -> None:
    with serving(tmp_path, f"knn={shop / 'knn'}", "--data", str(shop / "data"), ready=False) as starting:
        page = open_page("#item=item-1", at=starting)
        expect(column(page, "knn").locator(".list > li")).to_have_count(10, timeout=120_000)
        expect(page.locator("#catalogue li").first).to_contain_text("number")
        expect(page.locator("#overlap")).to_be_empty()


def test_a_service_that_went_away_is_told_of(open_page: Opener, shop: Path, tmp_path: Path) -> None:
    with serving(tmp_path, f"knn={shop / 'knn'}") as short:
        page = open_page("#model=knn&item=item-1", at=short)
        settle(page, ["knn"])
        assert titles(page, "knn")
    page.get_by_label("How many").fill("3")
    expect(column(page, "knn").get_by_role("alert")).to_contain_text("The service does not answer")


@pytest.mark.parametrize("language", ["curl", "Python"])
def test_the_code_of_a_request_runs_and_answers_the_same(language: str, open_page: Opener, service: Service) -> None:
    page = open_page("#model=knn&item=item-1&item=item-12&k=5&attribute=%5B%22it%27s%22%2C%22a%20%5C%22b%5C%22%22%5D")
    settle(page, ["knn"])
    page.get_by_text("This request in your own code").click()
    page.get_by_role("button", name=language).click()
    code = page.locator("#snippet").inner_text()
    command = ["sh", "-c", f"{code} -s"] if language == "curl" else [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    if language == "curl":
        assert [item["id"] for item in json.loads(done.stdout)["items"]] == listed(page, "knn")
    else:
        assert [line.split()[1] for line in done.stdout.splitlines()] == listed(page, "knn")


def test_pages_carry_no_script_or_style_of_their_own(service: Service) -> None:
    for path in ("", "dashboard", "docs"):
        answer = httpx.get(f"{service.url}/{path}")
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:|https?://", answer.text)
