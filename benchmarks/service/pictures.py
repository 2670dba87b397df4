"""The pictures of the service's pages in the documents, taken with Chromium from a service that is running.

    tongtu serve sasrec=DIR ease=DIR bm25=DIR --data ml-100k --report DIR --port 8000
    python benchmarks/service/pictures.py http://127.0.0.1:8000 docs
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from urllib.parse import quote

import httpx
from playwright.sync_api import Browser, Page, expect, sync_playwright

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
MODELS = ("sasrec", "ease", "bm25")
CHOSEN = ("Fargo", "Pulp Fiction", "Usual Suspects, The")
PATIENCE = 60_000  # milliseconds


def main(url: str, out: Path) -> None:
    """Take the three pictures."""
    chosen = [httpx.get(f"{url}/v1/items", params={"query": title, "limit": 1}).raise_for_status().json()["items"][0]["id"] for title in CHOSEN]
    address = "#" + "&".join(f"item={quote(item)}" for item in chosen) + "".join(f"&model={name}" for name in MODELS) + "&k=5"
    busy(url, chosen, seconds=3)  # the first answers of a service are slower than all that follow
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        page = opened(browser, url, address, 1360, 900, "light")
        stands(page)
        page.screenshot(path=out / "playground.png")
        page = opened(browser, url, address, 390, 780, "dark")
        stands(page)
        page.locator("#columns").scroll_into_view_if_needed()
        page.evaluate("document.querySelector('#overlap').scrollIntoView()")
        page.screenshot(path=out / "playground-phone.png")
        page = opened(browser, url, "dashboard", 1360, 960, "light")
        busy(url, chosen, seconds=24)
        page.wait_for_timeout(2500)
        page.screenshot(path=out / "dashboard.png")
        browser.close()


def opened(browser: Browser, url: str, path: str, width: int, height: int, scheme: str) -> Page:
    """A page of the service."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    page.goto(f"{url}/{path}")
    return page


def stands(page: Page) -> None:
    """Wait until the lists and the reasons are there."""
    for model in ("sasrec", "ease"):
        expect(page.locator(f"[data-model={model}] .why bdi").first).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#catalogue li").first).to_be_visible(timeout=PATIENCE)
    page.wait_for_function("document.querySelectorAll('[aria-busy=true]').length === 0 && document.getAnimations().length === 0")


def busy(url: str, items: list[str], seconds: float) -> None:
    """Somebody uses the service, so that there is something to see."""
    until, number = time.monotonic() + seconds, 0
    with httpx.Client(base_url=url) as client:
        while time.monotonic() < until:
            number += 1
            client.post("/v1/recommend", json={"history": items[: number % 3 + 1], "k": 10, "model": MODELS[number % 3]})
            if number % 4 == 0:
                client.post("/v1/events", json={"user": f"visitor-{number % 50}", "item": items[number % 3]})


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), Path(sys.argv[2]))
