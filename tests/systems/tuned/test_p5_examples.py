"""What P5 is taught with: only the training part, every family where the log has what it needs, held-out words never."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

import numpy as np
import polars as pl
import pytest

from review_log import TITLES, reviews
from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import markov_world, taste_world
from tongtu.errors import ConfigError
from tongtu.evaluation.protocol import PROTOCOLS
from tongtu.semantic.indexing import Indexing, make_index
from tongtu.systems.tuned._p5_examples import Drawing, Pair, Pairs
from tongtu.systems.tuned._p5_negatives import Unmet
from tongtu.systems.tuned._p5_prompts import Writing
from tongtu.systems.tuned._p5_templates import FAMILIES, TEMPLATES, Family, Template, templates


def pairs(data: Dataset, config: Drawing | None = None, families: tuple[Family, ...] = FAMILIES, kind: str = "title") -> Pairs:
    return Pairs(data, make_index(Indexing(kind=kind), data, 0), config or Drawing(candidates=3), families)  # type: ignore[arg-type]


def drawn(data: Dataset, epochs: int = 10, config: Drawing | None = None, families: tuple[Family, ...] = FAMILIES) -> list[Pair]:
    made = pairs(data, config, families)
    return [pair for seed in range(epochs) for pair in made(seed)]


def pattern(template: Template) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "(.+)", re.escape(template.text)))


def test_every_family_has_seen_and_unseen_words_for_what_it_is_asked() -> None:
    for family in FAMILIES:
        assert sum(one.family == family and one.seen for one in TEMPLATES) >= 4
    for family, form in (("rating", "stars"), ("sequential", "item"), ("explanation", "text"), ("review", "headline"), ("direct", "choices")):
        assert templates(family, form) and templates(family, form, seen=False)  # type: ignore[arg-type]
    assert len({one.text for one in TEMPLATES}) == len(TEMPLATES)


def test_training_shows_all_seen_templates_and_no_unseen_one() -> None:
    prompts = [prompt for prompt, _ in drawn(reviews())]
    for template in TEMPLATES:
        assert any(pattern(template).fullmatch(prompt) for prompt in prompts) == template.seen, template


def test_a_seed_gives_the_same_pairs_and_another_seed_others() -> None:
    made, twin = pairs(reviews()), pairs(reviews())
    assert made(3) == made(3) == twin(3) != made(4)


def test_held_out_events_are_in_no_prompt_and_change_none() -> None:
    """Two logs that differ in what the protocol holds out alone, also in its ratings and reviews, teach the same."""
    data = reviews()
    split = PROTOCOLS["leave-one-out"].split(data)
    places = set(split.valid.requests.stop.tolist()) | set(split.test.requests.stop.tolist())
    out = np.isin(np.arange(data.n_events), list(places))
    rng = np.random.default_rng(0)
    fields = data.event_fields.with_columns(
        rating=pl.when(pl.Series(out)).then(6 - pl.col("rating")).otherwise(pl.col("rating")),
        review=pl.when(pl.Series(out)).then(pl.lit("nothing but lies")).otherwise(pl.col("review")),
    )
    other = dataclasses.replace(data, item=np.where(out, rng.permutation(data.item), data.item).astype(np.int32), event_fields=fields)
    ours, theirs = drawn(split.train), drawn(PROTOCOLS["leave-one-out"].split(other).train)
    assert ours == theirs
    held = [f"u{user} {'wrote at ' * wrote}e{event}" for user in range(12) for event in (3, 4) for wrote in (0, 1)]
    text = "\n".join(f"{prompt} {answer}" for prompt, answer in ours)
    assert not any(words in text for words in held), "a held-out review"
    assert any(words in "\n".join(f"{prompt} {answer}" for prompt, answer in drawn(data)) for words in held), "which the whole log would tell"


def test_next_items_follow_their_histories() -> None:
    data = markov_world(users=40).data
    walks = {user: data.history(user).tolist() for user in range(1, data.users.size)}
    index = make_index(Indexing(kind="independent"), data, 0)
    code = {text: number for number, text in enumerate(index.texts, start=1)}
    made = Pairs(data, index, Drawing(items=4, yes_no=0, choices=0, told=1, last=3, max_history=5, separators=(" ",)), ("sequential",))(0)
    assert len(made) == 4 * len(walks)
    for prompt, answer in made:
        walk = walks[int(re.findall(r"user_(\d+)", prompt)[0])]
        history = [code[text] for text in re.findall(r"<item_\d+>", prompt)]
        place = walk.index(code[answer])
        assert 1 <= len(history) <= 5 and walk[place - len(history) : place] == history
        assert place >= len(walk) - 3


def test_numbers_are_met_on_average_and_scale_together() -> None:
    data = taste_world(users=400).data
    counted = Counter(answer in ("yes", "no") for _, answer in pairs(data, Drawing(items=0.5, choices=0, yes_no=1.5, scale=0.5), ("sequential",))(0))
    assert 60 <= counted[False] <= 140 and 240 <= counted[True] <= 360


def test_candidates_are_what_the_user_never_met_and_the_answer_stands_anywhere() -> None:
    data = reviews()
    met = {code: {TITLES[item - 1] for item in data.history(code)} for code in range(1, 13)}
    config = Drawing(items=0, yes_no=0, direct_yes_no=0, candidates=4, told=1)
    places: Counter[int] = Counter()
    for prompt, answer in drawn(data, 20, config, ("sequential", "direct")):
        user = int(re.findall(r"user_(\d+)", prompt)[0])
        shown = re.findall(r"\[(.*?)\]", prompt)
        among = next(shown[at : at + 4] for at in range(len(shown) - 3) if not set(shown[at : at + 4]) & met[user] - {answer.strip("[]")})
        assert answer.strip("[]") in among and len(set(among)) == 4
        places[among.index(answer.strip("[]"))] += 1
    assert len(places) == 4 and min(places.values()) > 0.15 * sum(places.values())


def test_who_met_nearly_everything_gets_no_false_negatives() -> None:
    data = reviews(users=3, events=8)
    unmet = Unmet(data)
    user, item = np.array([1, 2]), np.array([1, 2])
    assert not unmet.beside(np.random.default_rng(0), user, item, 2)[1].any()
    assert not [answer for prompt, answer in drawn(data, 2, Drawing(candidates=2), ("direct",))]


def test_yes_and_no_are_as_frequent_and_true() -> None:
    data = reviews()
    met = {code: {TITLES[item - 1] for item in data.history(code)} for code in range(1, 13)}
    made = drawn(data, 10, Drawing(direct_choices=0, told=1), ("direct",))
    for prompt, answer in made:
        item, user = re.findall(r"\[(.*?)\]", prompt)[-1], int(re.findall(r"user_(\d+)", prompt)[0])
        assert (item in met[user]) == (answer == "yes")
    assert 0.4 < np.mean([answer == "yes" for _, answer in made]) < 0.6


def test_an_unknown_user_is_told_by_what_they_had() -> None:
    for prompt, _ in drawn(reviews(), 2, Drawing(told=0)):
        assert ("user_" not in prompt and "someone" in prompt) or "read the rating" in prompt or "sum up" in prompt
    writing = Writing(make_index(Indexing(kind="title"), reviews(), 0), (" , ",), 2)
    template = templates("direct", "yes or no")[0]
    assert writing.question(template)(0, ["[a]", "[b]", "[{c}]"], "[d]") == "would [d] suit someone who had [b] , [{c}] ?"
    assert writing.question(template)(7, ["[a]"], "[d]") == "would [d] suit user_7 ?"
    assert writing.question(template)(0, [], "[d]") == "would [d] suit someone ?"


def test_ratings_are_those_of_the_log_and_five_is_one_of_them() -> None:
    data = reviews()
    given = {f"[{TITLES[code - 1]}]": float(code % 5 + 1) for code in range(1, 9)}
    answers = set()
    for prompt, answer in drawn(data, 10, families=("rating",)):
        item = re.findall(r"\[.*?\]", prompt)
        stars = re.findall(r"(\d) stars|is (\d) the", prompt)
        if answer not in ("yes", "no"):
            answers.add(answer)
            assert float(answer) in {given[one] for one in item} and re.fullmatch(r"\d\.\d", answer)
        elif stars and "told" not in prompt:
            claimed = float("".join(stars[0]))
            assert answer == "no" or claimed in {given[one] for one in item}
    assert answers == {"1.0", "2.0", "3.0", "4.0", "5.0"}


def test_noise_stays_within_the_stars_and_needs_them() -> None:
    answers = [float(a) for _, a in drawn(reviews(), 30, Drawing(noise=True), ("rating",)) if a not in ("yes", "no")]
    assert min(answers) >= 1 and max(answers) <= 5 and len(set(answers)) > 20
    ten = reviews()
    ten = dataclasses.replace(ten, event_fields=ten.event_fields.with_columns(pl.col("rating") * 2))
    with pytest.raises(ConfigError, match="noise"):
        pairs(ten, Drawing(noise=True))


def test_families_without_their_data_are_left_out() -> None:
    data = reviews()
    assert pairs(data).families == FAMILIES
    assert pairs(dataclasses.replace(data, event_fields=data.event_fields.select("rating"))).families == ("rating", "sequential", "direct")
    assert pairs(dataclasses.replace(data, event_fields=pl.DataFrame())).families == ("sequential", "direct")
    some = data.event_fields.with_columns(rating=pl.lit(None, pl.Float64))
    unrated = drawn(dataclasses.replace(data, event_fields=some), 3, families=("rating", "explanation", "review"))
    assert unrated and not any("stars" in prompt for prompt, _ in unrated)
