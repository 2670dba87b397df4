"""Instructions: enough of them, of every making, each with its slots filled, and nothing of a wish where there is none."""

from __future__ import annotations

from collections import Counter

import pytest

from tongtu.systems.tuned._instruct_templates import FORMS, TEMPLATES, Template, asking, slots

WORDS = {"thing": "film", "things": "films", "act": "watch", "acted": "watched"}
FILLED = {name: f"<{name}>" for name in ("history", "taste", "vague", "specific", "item", "target", "first", "second", "candidates", "verdict")}


def test_at_least_39_different_ones() -> None:
    texts = {(one.prompt, one.answer) for one in TEMPLATES}
    assert len(texts) == len(TEMPLATES) >= 39
    assert Counter(one.form for one in TEMPLATES).keys() == set(FORMS)


def test_every_preference_meets_every_intention_in_every_task() -> None:
    made = {(one.preference, one.intention, one.task) for one in TEMPLATES if one.form not in ("turned", "reasoned")}
    for task in ("pointwise", "matching", "reranking", "pairwise"):
        for preference in ("none", "implicit", "explicit"):
            for intention in ("none", "vague", "specific"):
                asked_of_nobody = preference == intention == "none" and task != "matching"
                rare = (preference, intention, task) == ("explicit", "vague", "pairwise")
                assert ((preference, intention, task) in made) == (not asked_of_nobody and not rare)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda one: one.prompt[:60])
def test_each_slot_is_filled(template: Template) -> None:
    for text in (template.prompt, template.answer):
        filled = text.format(**WORDS, **FILLED)
        assert "{" not in filled and "}" not in filled
        assert all(FILLED[name] in filled for name in slots(text) - WORDS.keys())


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda one: one.prompt[:60])
def test_a_template_is_what_it_says(template: Template) -> None:
    told = slots(template.prompt)
    if template.form != "turned":
        assert ("history" in told, "taste" in told) == (template.preference == "implicit", template.preference == "explicit")
        assert ("vague" in told, "specific" in told) == (template.intention == "vague", template.intention == "specific")
        assert "target" not in told, "an answer is not told"
        assert "{target}" in template.answer or template.task == "pointwise"
        assert ("candidates" in told) == (template.task == "reranking")
    else:
        assert not {"vague", "specific"} & told and template.task == "writing"


@pytest.mark.parametrize(("history", "wish"), [(True, False), (False, True), (True, True), (False, False)])
@pytest.mark.parametrize("listed", [False, True])
def test_what_requests_are_put_by(history: bool, wish: bool, listed: bool) -> None:
    listed = listed and (history or wish)
    told = slots(asking(history, wish, listed).prompt) - WORDS.keys()
    assert told == {name for name, is_told in (("history", history), ("specific", wish), ("candidates", listed)) if is_told}
