from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import TypeAdapter

from tongtu.config import build, plain
from tongtu.core import Codes, FitOptions, Recommender, Request, RequestBatch, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.data.splits import leave_one_out
from tongtu.data.synthetic import GROUP_WORDS, attribute_world
from tongtu.errors import ConfigError, DataError
from tongtu.ranking import top_k
from tongtu.systems import make
from tongtu.systems.baselines.ease import EASE
from tongtu.systems.baselines.popular import Popular
from tongtu.trust.asked import ask, groupings
from tongtu.trust.audit import AuditRecord, audit, from_json, make_record, to_json
from tongtu.trust.backdoor import replacement
from tongtu.trust.calibration import ALARMS, Calibration, calibrate, calibrated
from tongtu.trust.checks.folder import Learned
from tongtu.trust.checks.groups import ndcg
from tongtu.trust.finding import Finding, Level, Values, resampled_means, spread_p
from tongtu.trust.settings import AuditConfig

CONFIG = AuditConfig(group_users=25, depth=10, attackers=("linear",))
SMALL: dict[str, Any] = {"width": 16, "blocks": 1, "max_length": 12, "training": {"epochs": 5, "learning_rate": 1e-2, "tokens": 512}}
TARGET = 77
UNKNOWN = Learned(None, False, "the model does not say what it was fitted on", False)


@cache
def data() -> Dataset:
    """Users of ten clubs, each of which has a taste, on two sides of a town."""
    log = attribute_world(users=400, items=120, length=12, seed=3).data
    first = [words[0] for words in GROUP_WORDS[:5]]
    side = log.user_attributes["club"].is_in(first).replace_strict({True: "left", False: "right"}, return_dtype=pl.String)
    return dataclasses.replace(log, user_attributes=log.user_attributes.with_columns(side=side))


@cache
def train() -> Dataset:
    return leave_one_out(data()).train


def learned() -> Learned:
    return Learned(train(), False, "the model says it was fitted on the training part", True)


def members(attribute: str, value: str) -> np.ndarray[Any, Any]:
    member = np.zeros(data().users.size, np.bool_)
    member[1:] = (data().user_attributes[attribute] == value).to_numpy()
    return member


@cache
def sasrec(seed: int, rate: float = 0.0) -> Recommender:
    """A small SASRec; with a rate, so many of the next items of one side are replaced by the target."""
    change = replacement(np.array([TARGET], np.int32), rate, members("side", "left"))
    return make("sasrec", SMALL).fit(train(), FitOptions(seed=seed, quiet=True, objective=change))


@cache
def calibration() -> Calibration:
    return calibrate([sasrec(seed) for seed in (11, 12)], data(), CONFIG)


def findings(model: Recommender, told: Learned | None = None, levels: Calibration | None = None, config: AuditConfig = CONFIG) -> dict[str, Finding]:
    found, _ = audit(model, data(), told or learned(), config, levels)
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


class Told(Popular):
    """Popularity, and a bonus that a test chooses for some items of each user."""

    def __init__(self, bonus: Values) -> None:
        self.__dict__.update(Popular().fit(data(), FitOptions(quiet=True)).__dict__)
        self.bonus = bonus

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        batch = RequestBatch.of(requests)
        assert batch.user is not None
        scores: Scores = np.array(super().score(requests, items)) + self.bonus[batch.user][:, items]
        return scores.astype(np.float32)


class Lists:
    """EASE that tells no scores."""

    config = None

    def __init__(self) -> None:
        self.model = EASE(EASE.Config(l2=20.0)).fit(train(), FitOptions(quiet=True))
        self.items = self.model.items

    def fit(self, data: Dataset, options: FitOptions | None = None) -> Lists:
        return self

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        return top_k(self.model, requests, k)

    def save_pretrained(self, path: Path) -> None: ...

    @classmethod
    def from_pretrained(cls, path: Path) -> Lists:
        return cls()


def test_a_clean_model_gives_no_alarm_of_pushed_items() -> None:
    found = findings(sasrec(0), levels=calibration())
    assert {found[name].verdict for name in ("items pushed to everybody", "items pushed to a group of side")} <= {"fine", "notice"}


def test_a_target_taught_to_one_group_is_named() -> None:
    found = findings(sasrec(0, 0.3), levels=calibration())["items pushed to a group of side"]
    assert found.verdict == "alarm" and found.value is not None and found.threshold is not None and found.value > found.threshold
    assert f"Item {data().items.ids[TARGET - 1]} " in found.evidence and "side = left" in found.evidence
    assert "left" in {row[0] for table in found.tables for row in table.rows if row[1] == data().items.ids[TARGET - 1]}


def test_an_item_shown_to_everybody_is_an_alarm_with_built_in_levels() -> None:
    bonus = np.zeros((data().users.size, data().items.size))
    rare = int(data().item_counts[1:].argmin()) + 1
    bonus[:, rare] = 1e6
    found = findings(Told(bonus))["items pushed to everybody"]
    assert found.verdict == "alarm" and f"Item {data().items.ids[rare - 1]} " in found.evidence and "built in" in found.evidence


def test_levels_follow_from_clean_models() -> None:
    scores = np.random.default_rng(0).normal(2, 0.5, 400)
    many = calibrated([{"lists of all users": float(score)} for score in scores], ["SASRec"] * 400, "log", 20, 400)
    level = many.level("lists of all users")
    assert level is not None
    assert (scores > level.alarm).mean() <= ALARMS and (scores > level.alarm).mean() > ALARMS / 2 and level.notice < level.alarm
    few = calibrated([{"lists of all users": score} for score in (1.0, 1.4)], ["EASE", "ItemKNN"], "log", 20, 400)
    assert few.alarm["lists of all users"] > 2
    with pytest.raises(ConfigError, match="clean model"):
        calibrate([], data(), CONFIG)


def test_a_calibration_comes_back_from_json() -> None:
    assert build(Calibration, json.loads(json.dumps(plain(calibration())))) == calibration()
    with pytest.raises(ConfigError, match="upgrade"):
        build(Calibration, plain(calibration()) | {"format": 99})


def test_more_ways_to_look_do_not_make_more_alarms() -> None:
    """Scores of clean models that have nothing to do with each other: the share of models with any alarm stays near what was promised."""
    keys = [f"{statistic} of {way}" for statistic in ("lists", "ranks") for way in ("all users", "gender", "age")]
    rng = np.random.default_rng(1)

    def draw() -> dict[str, float]:
        return {key: float(rng.gumbel(3, 0.4)) for key in keys}

    levels = calibrated([draw() for _ in range(40)], ["SASRec"] * 40, "log", 20, 400).alarm
    alarms = np.mean([any(value >= levels[key] for key, value in draw().items()) for _ in range(500)])
    assert alarms < 0.12


def test_accuracy_that_only_one_group_has_is_seen() -> None:
    bonus = np.zeros((data().users.size, data().items.size))
    lucky = np.flatnonzero(members("club", GROUP_WORDS[1][0]))
    bonus[lucky, data().item[data().offset[lucky] - 1]] = 1e6
    found = findings(Told(bonus))["accuracy by club"]
    assert found.verdict == "alarm" and found.evidence.endswith("The model has not learned these events.")
    best = max(found.tables[0].rows, key=lambda row: float(row[2] or 0))
    assert best[0] == GROUP_WORDS[1][0] and best[2] == 1.0
    assert findings(Told(np.zeros_like(bonus)), Learned(data(), True, "it learned all", True))["accuracy by club"].evidence.endswith("may be too small.")


def test_gaps_by_chance_are_not_judged() -> None:
    rng = np.random.default_rng(2)
    group = rng.integers(0, 3, 300)
    values = rng.random(300)
    assert spread_p(values, group, 0) > 0.01 and spread_p(values + 0.5 * (group == 1), group, 0) < 0.01
    means = resampled_means(np.stack([values, np.ones(300)], axis=1), 0)
    assert np.quantile(means[:, 0], 0.025) < values.mean() < np.quantile(means[:, 0], 0.975) and (means[:, 1] == pytest.approx(1))
    assert ndcg(np.array([1, 2, 10, 11])) == pytest.approx([1, 1 / np.log2(3), 1 / np.log2(11), 0])


def test_popularity_is_lifted_by_popular_and_not_by_what_follows_histories() -> None:
    popular = findings(Popular().fit(train(), FitOptions(quiet=True)))
    follows = findings(EASE(EASE.Config(l2=20.0)).fit(train(), FitOptions(quiet=True)))
    name = "popularity of what is recommended"
    assert popular[name].value > 1.2 > 0.7 * (popular[name].value or 0) and popular[name].value > 1.1 * (follows[name].value or 9)  # type: ignore[operator]
    assert (popular["how many items are shown"].value or 0) > (follows["how many items are shown"].value or 1)


def test_memory_of_learned_events_is_told_from_none() -> None:
    name = "learned events can be told from others"
    bonus = np.zeros((data().users.size, data().items.size))
    users = np.arange(1, data().users.size)
    bonus[users, train().item[train().offset[users] - 1]] = 1e6
    remembers = findings(Told(bonus))[name]
    assert remembers.verdict == "alarm" and (remembers.value or 0) > 0.95
    noise = np.random.default_rng(0).normal(size=bonus.shape) * 1e6
    forgets = findings(Told(noise))[name]
    assert forgets.verdict == "fine" and forgets.interval is not None and forgets.interval[0] < 0.5 < forgets.interval[1]
    assert findings(Told(bonus), Learned(data(), True, "it learned all", True))[name].verdict == "not measured"
    assert findings(Told(bonus), UNKNOWN)[name].verdict == "not measured"


def test_memory_stands_against_users_that_were_never_met() -> None:
    kept = data().keep_events(data().event_user % 3 > 0)
    bonus = np.zeros((data().users.size, data().items.size))
    users = np.flatnonzero(kept.lengths > 0) + 1
    bonus[users, kept.item[kept.offset[users] - 1]] = 1e6
    found = findings(Told(bonus), Learned(kept, False, "some users", True))["learned events can be told from others"]
    assert "users it never met" in found.evidence and found.verdict == "alarm"


class Vectors(Told):
    """A model whose user vectors tell the club, unless they are asked to forget it."""

    keeps_promises = True
    forgets = True

    def user_vectors(self, requests: Sequence[Request]) -> Scores:
        batch = RequestBatch.of(requests)
        assert batch.user is not None
        if batch.forget is not None and not self.forgets:
            raise ConfigError("this model has not learned to forget 'club'")
        words = {words[0]: place for place, words in enumerate(GROUP_WORDS)}
        vectors = np.random.default_rng(0).normal(size=(data().users.size, 12))[batch.user]
        told = np.array([words[club] for club in data().user_attributes["club"].to_list()])[batch.user - 1]
        heard = np.array([batch.forget is not None and "club" in names for names in batch.forget or [()] * len(batch)])
        weight = np.where(heard, 0.0 if self.keeps_promises else 2.0, 3.0)
        vectors[np.arange(len(batch)), told] += weight
        return vectors.astype(np.float32)


@pytest.mark.parametrize("keeps", [True, False])
def test_what_vectors_tell_and_whether_they_forget(keeps: bool) -> None:
    model = Vectors(np.zeros((data().users.size, data().items.size)))
    model.keeps_promises = keeps
    found = findings(model)
    assert found["guessing club from user vectors"].verdict == "alarm" and "pfrec" in found["guessing club from user vectors"].remedy
    assert found["guessing club that was to be forgotten"].verdict == ("fine" if keeps else "alarm")


def test_a_model_that_says_it_cannot_forget_makes_no_promise() -> None:
    model = Vectors(np.zeros((data().users.size, data().items.size)))
    model.forgets = False
    assert "guessing club that was to be forgotten" not in findings(model)


def test_a_recommender_without_scores_or_vectors_is_audited_as_far_as_it_goes() -> None:
    found = findings(Lists(), config=dataclasses.replace(CONFIG, users=380))
    unmeasured = {name for name, one in found.items() if one.verdict == "not measured"}
    assert unmeasured == {"guessing attributes from user vectors", "learned events can be told from others"}
    assert all(one.evidence for one in found.values()) and found["accuracy by club"].value is not None


def test_a_model_of_another_catalogue_is_asked_in_its_own_codes() -> None:
    shuffled = np.random.default_rng(0).permutation(len(data().items))
    other = dataclasses.replace(
        data(),
        items=type(data().items)([data().items.ids[int(i)] for i in shuffled]),
        item=(np.argsort(shuffled)[data().item - 1] + 1).astype(np.int32),
        item_text=data().item_text.gather(shuffled),
    )
    model = EASE(EASE.Config(l2=20.0)).fit(data(), FitOptions(quiet=True))
    same, there = (ask(model, log, CONFIG) for log in (data(), other))
    assert (same.rank == there.rank).all() and data().items.decode(same.lists[0]) == other.items.decode(there.lists[0])


def test_data_that_cannot_be_asked_about() -> None:
    stranger = dataclasses.replace(data(), items=type(data().items)([f"other {i}" for i in range(120)]))
    with pytest.raises(DataError, match="knows no item"):
        ask(sasrec(0), stranger, CONFIG)
    with pytest.raises(DataError, match="three events"):
        ask(sasrec(0), data().keep_events(np.arange(data().n_events) < 2), CONFIG)
    with pytest.raises(DataError, match="user attribute"):
        groupings(data(), ["colour"], 25)
    assert groupings(dataclasses.replace(data(), user_attributes=data().user_attributes.select([])), None, 25) == []


def test_numbers_of_many_values_are_cut_and_named() -> None:
    ages = data().user_attributes.with_columns(age=np.arange(len(data().users)) / 4 + 10)
    found = groupings(dataclasses.replace(data(), user_attributes=ages), ["age"], 25)[0]
    assert found.labels[0].startswith("below ") and found.labels[-1].endswith(" and more") and len(found.labels) == 4
    assert np.bincount(found.code)[1:].min() >= 90


def test_a_record_comes_back_from_json_and_follows_its_schema() -> None:
    found, users = audit(sasrec(0), data(), learned(), CONFIG, calibration())
    record = make_record(found, {"folder": "model"}, data(), users, 1.234, CONFIG, calibration())
    values = json.loads(json.dumps(to_json(record), allow_nan=False))
    assert from_json(values) == record and values["config"]["seed"] == 0 and {"tongtu", "numpy"} <= values["versions"].keys()
    required = set(TypeAdapter(AuditRecord).json_schema()["required"])
    assert required <= values.keys()
    with pytest.raises(ConfigError, match="unknown key"):
        from_json(values | {"verdicts": []})


def test_the_same_seed_gives_the_same_audit() -> None:
    model = sasrec(0)
    small = dataclasses.replace(CONFIG, users=150)
    one, again = (audit(model, data(), learned(), small)[0] for _ in range(2))
    assert one == again
    assert drawn(model, small) != drawn(model, dataclasses.replace(small, seed=1))


def drawn(model: Recommender, config: AuditConfig) -> list[int]:
    users: Codes = ask(model, data(), config).users
    return users.tolist()


def test_levels_must_rise() -> None:
    with pytest.raises(ConfigError, match="notice must not lie above alarm"):
        build(AuditConfig, {"memory": {"notice": 0.9, "alarm": 0.8}})
    assert build(AuditConfig, {"memory": {"notice": 0.7, "alarm": 0.8}}).memory == Level(notice=0.7, alarm=0.8)
