"""One Chromium for all tests of the pages, a service over tiny models, and a fresh page for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from serving import Service, Watch, serving

from tongtu.core import FitOptions
from tongtu.data.folder import save_dataset
from tongtu.data.synthetic import attribute_world
from tongtu.systems.baselines.bm25 import BM25
from tongtu.systems.baselines.grouppop import GroupPopular
from tongtu.systems.baselines.itemknn import ItemKNN

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
Opener = Callable[..., Page]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "no chromium on this machine: install Debian's package of that name"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with titles, categories and an attribute, and three models of it: one hears wishes, one heeds the attribute."""
    folder = tmp_path_factory.mktemp("shop")
    data = attribute_world(users=60, items=60, length=9, seed=1).data
    save_dataset(data, folder / "data")
    for name, system in (("knn", ItemKNN()), ("words", BM25()), ("group", GroupPopular())):
        system.fit(data, FitOptions(quiet=True)).save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="session")
def service(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    models = [f"{name}={shop / name}" for name in ("knn", "words", "group")]
    with serving(tmp_path_factory.mktemp("service"), *models, "--data", str(shop / "data"), "--llm", "unigram") as running:
        yield running


@pytest.fixture
def open_page(chromium: Browser, service: Service) -> Iterator[Opener]:
    """Open a page of the service (or of another one, by `at`); what must not happen while it is open fails the test."""
    contexts: list[BrowserContext] = []
    watches: list[Watch] = []

    def opened(path: str = "", at: Service | None = None, **options: Any) -> Page:
        context = chromium.new_context(viewport=options.pop("viewport", {"width": 1280, "height": 900}), **options)
        contexts.append(context)
        context.set_default_timeout(20_000)
        page = context.new_page()
        watches.append(Watch((at or service).url))
        watches[-1].over(page)
        page.goto(f"{(at or service).url}/{path}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not (bad := [one for watch in watches for one in watch.bad]), bad
