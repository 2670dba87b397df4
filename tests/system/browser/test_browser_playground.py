"""The playground in a real Chromium over a real service: what somebody clicks is what the models are asked, and what they say is what is seen."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect
from serving import Service, column, listed, settle, titles

pytestmark = pytest.mark.system

Opener = Callable[..., Page]


def search(page: Page, words: str) -> None:
    page.get_by_role("searchbox", name="Search the catalogue").fill(words)
    expect(page.locator("#catalogue")).to_have_attribute("aria-busy", "false")
    page.wait_for_timeout(400)  # the search waits for a pause in typing


def choose(page: Page, title: str) -> None:
    search(page, title)
    page.locator("#catalogue").get_by_role("button", name=re.compile(f"^{re.escape(title)}.*add to the history")).first.click()


def test_a_new_person_clicks_a_history_together_and_is_recommended_to(open_page: Opener, service: Service) -> None:
    page = open_page()
    for number in (3, 13, 23):
        choose(page, f"espresso coffee grinder number {number}")
    history = ["item-3", "item-13", "item-23"]
    settle(page, ["knn"])
    assert listed(page, "knn") == service.ids(history=history, model="knn")
    assert [line.get_attribute("data-id") for line in page.locator("#history > li").all()] == history[::-1]
    expect(column(page, "knn").locator(".status")).to_contain_text(re.compile(r"\d+ ms.*3 events read"))
    version = service.api("GET", "models/knn").json()["version"]
    expect(column(page, "knn").locator(".status code")).to_have_text(version)
    # Every chosen item has a neighbour here, so the first line has a reason; it names something that was chosen.
    expect(column(page, "knn").locator(".list > li .why").first).to_contain_text(re.compile("because of espresso coffee grinder number (3|13|23)"))
    expect(page.get_by_role("status").filter(has_text="recommendations from knn")).to_have_count(1)

    page.get_by_role("button", name="Take back espresso coffee grinder number 13").click()
    settle(page, ["knn"])
    assert listed(page, "knn") == service.ids(history=["item-3", "item-23"], model="knn")
    page.reload()
    settle(page, ["knn"])
    assert listed(page, "knn") == service.ids(history=["item-3", "item-23"], model="knn"), "the address keeps the question"
    expect(page.locator("#history > li").first).to_contain_text("espresso coffee grinder number 23")


def test_three_models_side_by_side_and_what_they_share(open_page: Opener, service: Service) -> None:
    page = open_page("#item=item-1&item=item-11&model=knn&model=words&model=group")
    settle(page, ["knn", "words", "group"])
    question = {"history": ["item-1", "item-11"]}
    lists = {name: service.ids(**question, model=name) for name in ("knn", "words", "group")}
    assert {name: listed(page, name) for name in lists} == lists
    for one, other in (("knn", "words"), ("knn", "group"), ("words", "group")):
        shared = len(set(lists[one]) & set(lists[other]))
        expect(page.locator("#overlap")).to_contain_text(f"{one} and {other} share {shared} of 10")
    both = next(item for item in lists["knn"] if item in lists["words"])
    mark = column(page, "knn").locator(f"li[data-id='{both}'] .also")
    expect(mark).to_contain_text(f"words at {lists['words'].index(both) + 1}")
    page.get_by_role("button", name=re.compile("^words")).click()
    expect(column(page, "words")).to_have_count(0)
    settle(page, ["knn", "group"])
    assert listed(page, "group") == lists["group"]


def test_wish_filter_number_and_diversity_change_the_list(open_page: Opener, service: Service) -> None:
    page = open_page("#item=item-1&model=words&model=knn")
    settle(page, ["words", "knn"])
    page.get_by_label("In words").fill("telescope for the night sky")
    settle(page, ["words"])
    assert listed(page, "words") == service.ids(history=["item-1"], wish="telescope for the night sky", model="words")
    assert titles(page, "words")[0].startswith("night sky telescope")
    expect(page.locator("#wish-note")).to_have_text("knn cannot hear wishes and answers without it.")

    page.get_by_label("In words").fill("")
    page.locator("#filters-panel summary").click()
    page.get_by_role("group", name="Only these: categories").get_by_label("kitchen", exact=True).check()
    settle(page, ["knn"])
    assert titles(page, "knn") and all(re.match("espresso|sourdough", title) for title in titles(page, "knn"))

    page.get_by_label("How many").fill("4")
    settle(page, ["knn"])
    assert len(listed(page, "knn")) == 4
    page.get_by_label("Diversity").fill("0.7")
    settle(page, ["knn"])
    assert listed(page, "knn") == service.ids(history=["item-1"], filters={"categories": ["kitchen"]}, k=4, diversity=0.7, model="knn")


def test_attributes_count_until_they_are_left_out(open_page: Opener, service: Service) -> None:
    page = open_page("#model=group")
    settle(page, ["group"])
    nobody = listed(page, "group")
    page.locator("#attributes-panel summary").click()
    page.get_by_label("Name").fill("club")
    page.get_by_label("Value").fill("espresso")
    page.get_by_role("button", name="Add", exact=True).first.click()
    settle(page, ["group"])
    assert listed(page, "group") == service.ids(attributes={"club": "espresso"}, model="group") != nobody
    page.get_by_label("Leave out").check()
    settle(page, ["group"])
    assert listed(page, "group") == nobody


def test_a_late_answer_is_dropped(open_page: Opener, service: Service) -> None:
    page = open_page("#model=knn&item=item-1")
    settle(page, ["knn"])
    held: list[Route] = []

    def hold(route: Route) -> None:
        if held or "item-2" not in (route.request.post_data or ""):
            route.continue_()
        else:
            held.append(route)  # the question with item-2 stays unanswered until the next one is

    page.route("**/v1/recommend", hold)
    choose(page, "trail running shoes number 2")
    page.wait_for_timeout(400)
    page.get_by_role("button", name="Clear").click()
    choose(page, "wool knitting yarn number 8")
    settle(page, ["knn"])
    now = service.ids(history=["item-8"], model="knn")
    assert listed(page, "knn") == now
    assert held
    held[0].fulfill(status=200, json=service.api("POST", "recommend", json={"history": ["item-1", "item-2"], "model": "knn"}).json())
    page.wait_for_timeout(300)
    assert listed(page, "knn") == now


def test_a_user_is_picked_page_by_page_and_what_is_recorded_counts(open_page: Opener, service: Service) -> None:
    page = open_page("#model=knn")
    page.get_by_role("button", name="Choose a user").click()
    dialog = page.get_by_role("dialog", name="Choose a user")
    first = dialog.get_by_role("listitem").first
    expect(first).to_contain_text("user-1")
    dialog.get_by_role("button", name="Next").click()
    expect(first).not_to_contain_text("user-1 ")
    dialog.get_by_role("button", name="Previous").click()
    dialog.get_by_role("searchbox", name="Find a user by id").fill("user-17")
    dialog.get_by_role("button", name=re.compile("^user-17")).click()
    settle(page, ["knn"])
    assert listed(page, "knn") == service.ids(user="user-17", model="knn")
    before = service.api("GET", "users/user-17").json()
    expect(page.locator("#person")).to_contain_text(f"{before['events']} events in the store")

    top = listed(page, "knn")[0]
    column(page, "knn").get_by_role("button", name=re.compile("^Record")).first.click()
    expect(page.locator("#person")).to_contain_text(f"{before['events'] + 1} events in the store")
    after = service.api("GET", "users/user-17").json()
    assert after["history"][-1]["item"] == top
    settle(page, ["knn"])
    assert top not in listed(page, "knn")
    assert listed(page, "knn") == service.ids(user="user-17", model="knn")


def test_a_new_id_becomes_a_user_by_its_first_event(open_page: Opener, service: Service) -> None:
    page = open_page("#model=knn&item=item-5&item=item-15")
    page.get_by_role("button", name="Choose a user").click()
    page.get_by_role("searchbox", name="Find a user by id").fill("a/b ?&é")
    page.get_by_role("button", name="Use a/b ?&é as a new user").click()
    page.get_by_role("button", name="Record 2 events for user a/b ?&é").click()
    expect(page.locator("#person")).to_contain_text("2 events in the store")
    stored: dict[str, Any] = service.api("GET", "users/a%2Fb%20%3F%26%C3%A9").json()
    assert [event["item"] for event in stored["history"]] == ["item-5", "item-15"]
    expect(page.locator("#history > li")).to_have_count(0)


def test_similar_items_on_demand(open_page: Opener, service: Service) -> None:
    page = open_page("#model=knn&item=item-4")
    settle(page, ["knn"])
    top = listed(page, "knn")[0]
    button = column(page, "knn").get_by_role("button", name=re.compile("^Similar")).first
    button.click()
    expect(button).to_have_attribute("aria-expanded", "true")
    expected = [item["title"] for item in service.api("GET", f"items/{top}/similar?k=5&model=knn").json()["items"]]
    alike = column(page, "knn").locator(".alike .title")
    expect(alike).to_have_text(expected)
    button.click()
    expect(alike).to_have_count(0)


def test_a_conversation(open_page: Opener) -> None:
    page = open_page("#model=words")
    page.get_by_label("Your message").fill("an espresso grinder, please")
    page.get_by_role("button", name="Send").click()
    log = page.get_by_role("log", name="Conversation")
    expect(log).to_contain_text("an espresso grinder, please")
    offered = log.get_by_role("list", name="Recommended in this answer").get_by_role("listitem")
    expect(offered.first).to_be_visible(timeout=60_000)
    title = offered.first.locator(".title").inner_text()
    offered.first.get_by_role("button").click()
    expect(page.locator("#history > li")).to_have_text(re.compile(f"^{re.escape(title)}"))

    def forgotten(route: Route) -> None:
        body = json.loads(route.request.post_data or "{}")
        route.continue_(post_data=json.dumps({**body, "session": "gone"} if "session" in body else body))

    page.route("**/v1/chat", forgotten)  # the service answers 404 to that, and a new conversation begins
    page.get_by_label("Your message").fill("no grinder")
    page.get_by_role("button", name="Send").click()
    expect(log.get_by_role("list", name="Recommended in this answer")).to_have_count(2, timeout=60_000)
