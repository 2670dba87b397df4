"""The dashboard in a real Chromium over a real service: figures that move, and models that are swapped, rolled back and dealt traffic."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from serving import Service, serving

pytestmark = pytest.mark.system

Opener = Callable[..., Page]


def _row(name: str, value: float) -> dict[str, object]:
    metrics = {"ndcg@10": value, "recall@10": 2 * value, "coverage@10": 0.5}
    interval = {"ndcg@10": [value - 0.02, value + 0.02]}
    return {"label": name, "road": "baselines", "status": "done", "metrics": metrics, "interval": interval, "fit_seconds": 1.5, "ms_per_request": 0.2}


RESULTS = {
    "data": {"name": "shop", "users": 60, "items": 60, "events": 540},
    "protocol": {"name": "leave-one-out"},
    "systems": [_row("Popular", 0.05), _row("ItemKNN", 0.1), {"label": "Broken", "road": "tuned", "status": "failed", "error": "no memory", "metrics": {}}],
}


@pytest.fixture(scope="module")
def run(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of its own: these tests change what is served."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "results.json").write_text(json.dumps(RESULTS))
    with serving(folder, f"knn={shop / 'knn'}", f"words={shop / 'words'}", "--data", str(shop / "data"), "--report", str(folder)) as running:
        yield running


def tile(page: Page, name: str):  # type: ignore[no-untyped-def]
    return page.locator(".tile", has_text=name).locator("dd")


def model(page: Page, name: str):  # type: ignore[no-untyped-def]
    return page.get_by_role("article", name=name)


def test_figures_follow_what_happens(open_page: Opener, run: Service) -> None:
    page = open_page("dashboard", at=run)
    expect(page.locator("#state")).to_contain_text("2 models served")
    expect(tile(page, "Workers, ranking")).to_contain_text("1 of 1")
    before = run.api("GET", "stats").json()
    for number in range(5):
        run.api("POST", "recommend", json={"history": ["item-1"], "k": 3}).raise_for_status()
        run.api("POST", "events", json={"user": "u", "item": f"item-{number + 1}"}).raise_for_status()
    run.api("POST", "recommend", json={"k": 0})
    expect(tile(page, "In the store")).to_contain_text(f"{before['store']['events'] + 5} events", timeout=15_000)
    row = page.get_by_role("row", name=re.compile("recommend"))
    expect(row.get_by_role("cell").nth(2)).to_have_text("1", timeout=15_000)
    expect(page.get_by_role("img", name=re.compile("events in the last hour"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("Half of the answers come within"))).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(500)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2600)
    assert asked == [], "a paused page asks nothing"


def test_swap_roll_back_and_a_model_that_cannot_be_opened(open_page: Opener, run: Service, shop: Path) -> None:
    page = open_page("dashboard", at=run)
    first = run.api("GET", "models/knn").json()["version"]
    expect(model(page, "knn").get_by_role("button", name="Roll back")).to_be_disabled()
    model(page, "knn").get_by_role("button", name="Swap").click()
    expect(page.get_by_label("Model folder")).to_be_focused()
    page.get_by_label("Model folder").fill("group")
    page.keyboard.press("Enter")
    note = page.locator("#models-note")
    expect(note).to_contain_text("knn answers with version", timeout=60_000)
    second = run.api("GET", "models/knn").json()
    assert second["system"] == "GroupPopular" and second["previous"] == first
    model(page, "knn").get_by_role("button", name="Roll back").click()
    expect(note).to_contain_text(f"{first} again")
    assert run.api("GET", "models/knn").json()["version"] == first

    broken = shop / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "config.json").write_text("{")
    page.get_by_label("Name").fill("knn")
    page.get_by_label("Model folder").fill("broken")
    page.get_by_role("button", name="Put in").click()
    expect(note.locator(".problem")).to_be_visible(timeout=60_000)
    assert run.api("GET", "models/knn").json()["version"] == first, "what is served goes on answering"


def test_traffic_is_dealt_and_a_shadow_is_asked(open_page: Opener, run: Service) -> None:
    page = open_page("dashboard", at=run)
    page.get_by_label("knn", exact=True).fill("30")
    expect(page.locator("#split-sum")).to_contain_text("must be 100")
    page.get_by_label("words", exact=True).fill("70")
    page.get_by_role("combobox", name="Shadow").select_option("knn")
    page.get_by_label("Its share").fill("100")
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.locator("#split-note")).to_contain_text("it holds from the next request on")
    served = {one["name"]: one for one in run.api("GET", "models").json()["models"]}
    assert (served["knn"]["share"], served["words"]["share"], served["knn"]["shadow"]) == (0.3, 0.7, 1.0)
    for number in range(20):
        run.api("POST", "recommend", json={"user": f"somebody-{number}", "history": ["item-1"]}).raise_for_status()
    expect(page.locator("#shadow")).to_contain_text("words and knn", timeout=15_000)


def test_taking_a_model_out_is_asked_twice(open_page: Opener, run: Service, shop: Path) -> None:
    run.api("POST", "models/extra", json={"path": "group"}).raise_for_status()
    page = open_page("dashboard", at=run)
    model(page, "extra").get_by_role("button", name="Take out").click()
    page.keyboard.press("Escape")
    assert run.api("GET", "models/extra").status_code == 200
    model(page, "extra").get_by_role("button", name="Take out").click()
    page.get_by_role("dialog").get_by_role("button", name="Take it out").click()
    expect(page.locator("#models-note")).to_contain_text("extra is no longer served")
    assert run.api("GET", "models/extra").status_code == 404


def test_the_comparison_is_shown_best_first(open_page: Opener, run: Service) -> None:
    page = open_page("dashboard", at=run)
    rows = page.locator("#comparison tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("ItemKNN")
    expect(rows.first).to_contain_text("0.0800 – 0.1200")
