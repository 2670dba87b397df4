"""A real service on a free port, and what a browser saw while it looked at it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from playwright.sync_api import ConsoleMessage, Page, Request

PATIENCE = 120.0  # seconds until a service must be ready, on a machine that does other things too


@dataclass
class Service:
    """A running `tongtu serve`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def api(self, method: str, path: str, key: str = "", **options: object) -> httpx.Response:
        """Ask it past the browser."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.request(method, f"{self.url}/v1/{path}", headers=headers, timeout=30, **options)  # type: ignore[arg-type]

    def ids(self, **question: object) -> list[str]:
        """The items that it recommends."""
        return [item["id"] for item in self.api("POST", "recommend", json=question).raise_for_status().json()["items"]]


@contextmanager
def serving(folder: Path, *arguments: str, ready: bool = True) -> Iterator[Service]:
    """`tongtu serve` with these arguments, its store and log in `folder`, once it is ready or listens; SIGTERM must end it well."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    # A long deadline: these tests are about the pages, and share the machine with others.
    settings = ["--port", "0", "--workers", "1", "--store", f"sqlite:///{folder}/store.db", "--set", "deadline=30"]
    command = [sys.executable, "-m", "tongtu", "serve", *arguments, *settings]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=errors, stderr=errors, stdin=subprocess.DEVNULL)
    try:
        service = Service(_found(process, log, ready), process, log)
        yield service
    finally:
        process.terminate()
        try:
            status = process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert status == 0, log.read_text()[-2000:]


def _found(process: subprocess.Popen[bytes], log: Path, ready: bool) -> str:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        told = log.read_text()
        assert process.poll() is None, told[-2000:]
        found = re.search(r"^Page +(http://\S+)/$", told, re.MULTILINE)
        if found:
            try:
                status = httpx.get(f"{found[1]}/health/ready", timeout=5).status_code
                if status == 200 or not ready:
                    return found[1]
            except httpx.TransportError:
                pass
        time.sleep(0.1)
    raise AssertionError(f"not ready after {PATIENCE:.0f} s: {log.read_text()[-2000:]}")


@dataclass
class Watch:
    """What must not happen while a page is open: errors, refusals by the content security policy, requests to anybody else."""

    own: str
    bad: list[str] = field(default_factory=list)

    def over(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.bad.append(f"error: {error}"))
        page.on("request", self._request)
        page.on("dialog", lambda dialog: (self.bad.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _console(self, message: ConsoleMessage) -> None:
        # Chromium logs every 4xx and 5xx by itself; tests provoke those on purpose.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.bad.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.own, "data:", "blob:")):
            self.bad.append(f"foreign request: {request.url}")


def titles(page: Page, model: str) -> list[str]:
    """The titles in a model's list, once it stands."""
    column(page, model).wait_for()
    page.wait_for_function("name => document.querySelector(`[data-model='${name}']`)?.getAttribute('aria-busy') === 'false'", arg=model)
    return page.locator(f"[data-model='{model}'] .list > li .head .title").all_inner_texts()


def listed(page: Page, model: str) -> list[str]:
    """The ids in a model's list, once it stands."""
    titles(page, model)
    return [line.get_attribute("data-id") or "" for line in page.locator(f"[data-model='{model}'] .list > li").all()]


def column(page: Page, model: str):  # type: ignore[no-untyped-def]
    return page.locator(f".column[data-model='{model}']")


def settle(page: Page, models: Sequence[str]) -> None:
    """Wait until nothing is being asked any more."""
    page.wait_for_timeout(200)  # longer than the pause after which the page asks
    for model in models:
        titles(page, model)
