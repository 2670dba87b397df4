from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from follower import Follower, make_log

from tongtu.candidates import named
from tongtu.candidates.file import SUFFIX, Share, mixture, write_candidates
from tongtu.config import build, plain
from tongtu.data.dataset import Dataset
from tongtu.data.folder import open_dataset, save_dataset
from tongtu.errors import ConfigError, DataError
from tongtu.evaluation.evaluate import evaluate
from tongtu.evaluation.protocol import PROTOCOLS, EvalProtocol, protocol_from, sample_users

OTHER = {
    "name": "another",
    "scheme": "cold_users",
    "valid": 0.7,
    "test": 0.95,
    "targets": "every",
    "fraction": 0.3,
    "shots": 2,
    "new_items": 0.2,
    "train_users": 0.5,
    "users": 9,
    "candidates": "uniform-100",
    "places": (0, 5),
    "wish": "vague",
    "wish_field": "kinds",
    "cutoffs": (5, 10),
    "filter_seen": False,
    "seed": 1,
}


LATER = {"new_items", "train_users", "places", "wish", "wish_field", "also_in"}


def test_every_field_changes_the_fingerprint(log: Dataset, there: Path) -> None:
    other = OTHER | {"also_in": str(there)}
    fields = {field.name for field in dataclasses.fields(EvalProtocol)} - {"ties"}  # there is one way to treat ties
    assert fields == set(other)
    needed: dict[str, dict[str, Any]] = {"places": {"candidates": "uniform-19"}, "wish_field": {"wish": "specific"}, "also_in": {"scheme": "cold_users"}}
    prints = {build(EvalProtocol, {name: value, **needed.get(name, {})}).fingerprint(log) for name, value in other.items()}
    prints |= {build(EvalProtocol, values).fingerprint(log) for values in ({}, *needed.values())}
    assert len(prints) == len(other) + 3, "the scheme that also_in needs is counted among the others"


def test_the_data_changes_the_fingerprint_and_nothing_else_does(log: Dataset) -> None:
    assert EvalProtocol().fingerprint(log) == EvalProtocol().fingerprint(make_log())
    assert EvalProtocol().fingerprint(log) != EvalProtocol().fingerprint(make_log(seed=1))


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - {"mind"}))  # needs impressions, see test_impressions.py
def test_named_protocols_split(log: Dataset, name: str) -> None:
    split = PROTOCOLS[name].split(log)
    assert len(split.valid) and len(split.test) and split.train.n_events < log.n_events
    if PROTOCOLS[name].candidates:
        for request, target in zip(split.test.requests, split.test.target, strict=True):
            assert request.candidates is not None and target in request.candidates
            assert not set(request.candidates) & set(request.history)


def test_a_sample_of_users_is_asked_in_the_test_only(log: Dataset) -> None:
    whole, part = EvalProtocol().split(log), EvalProtocol(users=7).split(log)
    assert len(np.unique(part.test.user)) == 7 and len(part.valid) == len(whole.valid)
    assert part.train.fingerprint == whole.train.fingerprint
    assert not np.array_equal(part.test.user, EvalProtocol(users=7, seed=1).split(log).test.user)


@pytest.mark.parametrize("name", ["leave-one-out", "global-time", "cold-users"])
def test_without_test_adds_validation_and_no_test_event(log: Dataset, name: str) -> None:
    rule = PROTOCOLS[name]
    split, more = rule.split(log), rule.without_test(log)
    assert split.train.n_events < more.n_events < log.n_events
    for user, request, target in zip(split.test.user, split.test.requests, split.test.target, strict=True):
        learned = more.history(user)
        if name == "cold-users":
            assert not len(learned)
        else:
            assert np.array_equal(learned, request.history) and target not in learned[len(request.history) :]
    if name == "leave-one-out":
        assert more.n_events == split.train.n_events + len(split.valid)


def test_new_items_are_never_learned_but_stay_in_histories_and_targets(log: Dataset) -> None:
    rule = EvalProtocol(new_items=0.3)
    plain_split, split = EvalProtocol().split(log), rule.split(log)
    new = np.flatnonzero((plain_split.train.item_counts > 0) & (split.train.item_counts == 0))
    assert len(new) == round(0.3 * (plain_split.train.item_counts > 0).sum())
    assert np.array_equal(split.test.target, plain_split.test.target) and np.isin(split.test.target, new).any()
    assert any(np.isin(request.history, new).any() for request in split.test.requests)
    assert np.array_equal(split.train.item_counts[np.setdiff1d(np.arange(log.items.size), new)], np.delete(plain_split.train.item_counts, new))
    assert not np.isin(rule.without_test(log).item, new).any(), "nor when validation events are learned too"
    assert not np.array_equal(split.train.item_counts, EvalProtocol(new_items=0.3, seed=1).split(log).train.item_counts)
    with pytest.raises(DataError, match="choose one between 0 and 1"):
        EvalProtocol(new_items=1e-6).split(log)


def test_few_users_are_learned_from_and_validated_on_and_all_are_tested(log: Dataset) -> None:
    rule, whole = EvalProtocol(train_users=0.4), EvalProtocol().split(log)
    split, fewer = rule.split(log), EvalProtocol(train_users=0.2).split(log)
    kept = np.flatnonzero(split.train.lengths) + 1
    assert len(kept) == round(0.4 * len(log.users)) and set(split.valid.user) <= set(kept)
    assert np.array_equal(split.test.target, whole.test.target)
    assert all(np.array_equal(split.train.history(user), whole.train.history(user)) for user in kept)
    assert set(np.flatnonzero(fewer.train.lengths) + 1) < set(kept), "a smaller share is a part of a larger one"
    assert set(np.flatnonzero(rule.without_test(log).lengths) + 1) == set(kept)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another domain: 20 users of the log met something there, one never did, and 30 of its users are strangers."""
    ids = [f"u{n}" for n in range(5, 26)] + [f"stranger{n}" for n in range(30)]
    other = make_log(len(ids), items=10, seed=1)
    silent = other.keep_events(other.event_user != 1)
    folder = tmp_path_factory.mktemp("domains") / "there"
    save_dataset(dataclasses.replace(silent, users=type(other.users)(ids)), folder)
    return folder


def test_only_users_who_are_elsewhere_too_are_held_out(log: Dataset, there: Path) -> None:
    rule = build(EvalProtocol, {"scheme": "cold_users", "fraction": 0.5, "also_in": str(there)})
    split = rule.split(log)
    asked = {*split.valid.user.tolist(), *split.test.user.tolist()}
    known = {n + 1 for n in range(6, 26)}
    assert len(asked) == 10 and asked < known, "a half of those who met something there"
    assert set(split.train.event_user.tolist()) == set(log.event_user.tolist()) - asked
    assert set(np.unique(rule.without_test(log).event_user).tolist()) == set(log.event_user.tolist()) - set(split.test.user.tolist())


def test_the_other_domain_counts_by_its_content(log: Dataset, there: Path, tmp_path: Path) -> None:
    rule = build(EvalProtocol, {"scheme": "cold_users", "also_in": str(there)})
    shutil.copytree(there, tmp_path / "moved")
    assert dataclasses.replace(rule, also_in=str(tmp_path / "moved")).fingerprint(log) == rule.fingerprint(log)
    data = open_dataset(there)
    save_dataset(data.keep_events(np.arange(data.n_events) > 0), tmp_path / "less")
    assert dataclasses.replace(rule, also_in=str(tmp_path / "less")).fingerprint(log) != rule.fingerprint(log)


def test_a_domain_without_shared_users_is_refused_in_a_line(log: Dataset, tmp_path: Path) -> None:
    other = make_log(seed=2)
    save_dataset(dataclasses.replace(other, users=type(other.users)([f"v{n}" for n in range(60)])), tmp_path / "apart")
    with pytest.raises(DataError, match="share no user id: choose another also_in, or leave it out") as told:
        build(EvalProtocol, {"scheme": "cold_users", "also_in": str(tmp_path / "apart")}).split(log)
    assert "\n" not in str(told.value)


def test_a_field_that_came_later_leaves_older_fingerprints_alone(log: Dataset) -> None:
    older = {name: value for name, value in plain(EvalProtocol()).items() if name not in LATER}
    assert EvalProtocol().fingerprint(log) == hashlib.sha256(json.dumps([older, log.fingerprint], sort_keys=True).encode()).hexdigest()


def test_from_a_name_or_a_table() -> None:
    assert protocol_from("global-time") is PROTOCOLS["global-time"]
    assert protocol_from({"name": "global-time", "seed": 3}) == dataclasses.replace(PROTOCOLS["global-time"], seed=3)
    assert build(EvalProtocol, plain(PROTOCOLS["bert4rec-popularity-100"])) == PROTOCOLS["bert4rec-popularity-100"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("leave-one", "leave-one-out"),
        ({"filter_sen": True}, "filter_seen"),
        ({"cutoffs": [10, 5]}, "rising"),
        ({"cutoffs": [5]}, "must contain 10"),
        ({"scheme": "random"}, "leave_one_out"),
        ({"places": [0, 5]}, "say with candidates which"),
        ({"places": [1, 1], "candidates": "uniform-9"}, "different whole numbers"),
        ({"wish": "precise"}, "specific"),
        ({"wish_field": "genres"}, "say with wish which"),
        ({"wish": "vague", "wish_field": "genres"}, "name one of categories"),
        ({"candidates": "nowhere/lists.parquet"}, "tongtu candidates"),
        ({"also_in": "ml-100k"}, "the scheme is leave_one_out: leave also_in out, or set scheme to cold_users"),
        ({"name": "cold-users", "also_in": "nowhere"}, "neither a data set folder nor a public data set"),
    ],
)
def test_mistakes_name_their_remedy(values: object, said: str) -> None:
    with pytest.raises((ConfigError, DataError), match=said):
        protocol_from(values).split(make_log())  # type: ignore[arg-type]


def test_an_unknown_candidate_source_is_refused(log: Dataset) -> None:
    with pytest.raises(ConfigError, match="uniform-100"):
        EvalProtocol(candidates="hundred").split(log)


@pytest.fixture
def lists(log: Dataset, tmp_path: Path) -> Path:
    """A file of nine users' candidates, of which six are popular and four drawn, without the target's help."""
    split = EvalProtocol().split(log)
    shares = [Share(name, lambda m, kind=name: named(f"{kind}-{m}", log.items, split.train.item_counts), n) for name, n in (("popular", 6), ("uniform", 4))]
    cases = sample_users(split.test, 9, seed=2)
    path = tmp_path / f"lists{SUFFIX}"
    write_candidates(path, mixture(shares, cases, with_target=False), cases, log, {})
    return path


def test_a_candidate_file_limits_the_test_and_leaves_validation_whole(log: Dataset, lists: Path) -> None:
    whole, split = EvalProtocol().split(log), EvalProtocol(candidates=str(lists)).split(log)
    assert np.array_equal(split.test.user, sample_users(whole.test, 9, seed=2).user)
    assert split.valid.requests.candidates is None and len(split.valid) == len(whole.valid) and split.train.fingerprint == whole.train.fingerprint
    table = {row["user"]: row for row in pl.read_parquet(lists).iter_rows(named=True)}
    assert split.test.requests.candidates is not None
    listed = np.zeros(9, np.bool_)
    for n, (user, target, codes) in enumerate(zip(split.test.user, split.test.target, split.test.requests.candidates, strict=True)):
        row = table[log.users.ids[int(user) - 1]]
        assert codes is not None and log.items.decode(codes) == row["items"] and log.items.ids[int(target) - 1] == row["target"]
        listed[n] = row["target"] in row["items"]
    assert 0 < listed.sum() < 9
    ranks = evaluate(Follower().fit(split.train), split.test, split.train).ranks
    assert (ranks[listed] <= 10).all() and (ranks[~listed] > 10).all(), "a target that is not listed is a miss"
    assert len(EvalProtocol(candidates=str(lists), users=4).split(log).test) == 4


def test_a_candidate_file_counts_by_its_content(log: Dataset, lists: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.parquet"
    moved.write_bytes(lists.read_bytes())
    before = EvalProtocol(candidates=str(lists)).fingerprint(log)
    assert EvalProtocol(candidates=str(moved)).fingerprint(log) == before != EvalProtocol().fingerprint(log)
    pl.read_parquet(lists)[1:].write_parquet(moved)
    assert EvalProtocol(candidates=str(moved)).fingerprint(log) != before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop("items"), "lacks the columns items"),
        (lambda t: t.with_columns(items=pl.lit("i1")), "must hold a list"),
        (lambda t: t.with_columns(items=pl.concat_list("items", pl.lit("nobody"))), "1 of its items are not in walks, say 'nobody'"),
        (lambda t: t.with_columns(items=pl.concat_list("items", "items")), "an id twice"),
        (lambda t: t.with_columns(items=pl.concat_list("items", pl.lit(None, pl.String))), "a missing id"),
        (lambda t: t.with_columns(user=pl.lit("stranger")), "9 of its 9 rows are not among the cases"),
        (lambda t: t.with_columns(target=pl.col("target").reverse()), "under this protocol"),
        (lambda t: t[:0], "it has no rows"),
    ],
)
def test_a_foreign_candidate_file_is_refused(log: Dataset, lists: Path, change: Any, said: str) -> None:
    change(pl.read_parquet(lists)).write_parquet(lists)
    with pytest.raises(DataError, match=f"{said}.*tongtu candidates") as told:
        EvalProtocol(candidates=str(lists)).split(log)
    assert "\n" not in str(told.value)


def test_a_file_that_is_not_parquet_is_refused(log: Dataset, lists: Path) -> None:
    lists.write_text("user,target,items")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        EvalProtocol(candidates=str(lists)).split(log)


def test_numbers_as_ids_and_a_user_asked_twice(log: Dataset, tmp_path: Path) -> None:
    """A file of another program, with numbers for ids, for a protocol that asks one user for many targets."""
    numbers = dataclasses.replace(
        make_log(repeats=True), users=type(log.users)([str(n) for n in range(60)]), items=type(log.items)([str(n) for n in range(100, 140)])
    )
    rule = EvalProtocol(name="global-time", scheme="global_time", targets="every", filter_seen=False)
    cases = rule.split(numbers).test
    assert len(np.unique(cases.user)) < len(cases)
    mine = [[int(target) + 99, 100 + n % 40] if int(target) != n % 40 + 1 else [int(target) + 99] for n, target in enumerate(cases.target)]
    frame = pl.DataFrame({"user": cases.user - 1, "target": cases.target + 99, "items": mine})
    frame.write_parquet(tmp_path / "other.parquet")
    found = dataclasses.replace(rule, candidates=str(tmp_path / "other.parquet")).split(numbers).test
    assert np.array_equal(found.target, cases.target) and np.array_equal(found.requests.stop, cases.requests.stop)
    assert found.requests.candidates is not None
    assert [[int(i) for i in numbers.items.decode(codes)] for codes in found.requests.candidates if codes is not None] == mine


BANDS = {"0", "1-4", "5-9", "10-14", "15-19"}


def test_places_ask_each_case_with_its_target_at_each_place(log: Dataset) -> None:
    once, moved = EvalProtocol(candidates="uniform-19", users=7).split(log), EvalProtocol(candidates="uniform-19", users=7, places=(0, 10, 19)).split(log)
    assert len(moved.test) == 3 * 7 and len(moved.valid) == len(once.valid)
    assert once.test.requests.candidates is not None and moved.test.requests.candidates is not None
    for n, (target, codes) in enumerate(zip(moved.test.target, moved.test.requests.candidates, strict=True)):
        before = once.test.requests.candidates[n // 3]
        assert codes is not None and before is not None and target == once.test.target[n // 3]
        assert codes.tolist().index(target) == (0, 10, 19)[n % 3]
        assert codes[codes != target].tolist() == before[before != target].tolist()
    result = evaluate(Follower().fit(moved.train), moved.test, moved.train)
    assert {name: part["cases"] for name, part in result.slices["target's place"].items()} == {"0": 7, "10": 7, "19": 7}, "places that are asked are told apart"
    assert set(evaluate(Follower().fit(once.train), EvalProtocol(candidates="uniform-19").split(log).test, once.train).slices["target's place"]) <= BANDS
    assert (result.ranks.reshape(7, 3) == result.ranks.reshape(7, 3)[:, :1]).all(), "a scorer does not mind the place"
    with pytest.raises(DataError, match="has a place 25: the longest has 20"):
        EvalProtocol(candidates="uniform-19", places=(25,)).split(log)


def test_places_leave_lists_without_the_target_alone(log: Dataset, lists: Path) -> None:
    once, moved = EvalProtocol(candidates=str(lists)).split(log), EvalProtocol(candidates=str(lists), places=(3,)).split(log)
    assert once.test.requests.candidates is not None and moved.test.requests.candidates is not None
    absent = [target not in codes for codes, target in zip(moved.test.requests.candidates, moved.test.target, strict=True) if codes is not None]
    for gone, before, after in zip(absent, once.test.requests.candidates, moved.test.requests.candidates, strict=True):
        assert before is not None and after is not None and (not gone or np.array_equal(before, after))
    parts = evaluate(Follower().fit(moved.train), moved.test, moved.train).slices["target's place"]
    assert parts["absent"]["cases"] == sum(absent) and parts["3"]["cases"] == 9 - sum(absent) and parts["absent"]["recall@10"] == 0


def test_each_case_gets_the_wish_of_its_target_and_nothing_else_changes(log: Dataset) -> None:
    once, split = EvalProtocol().split(log), EvalProtocol(wish="specific").split(log)
    assert split.train.fingerprint == once.train.fingerprint and once.test.requests.wish is None
    for before, cases in ((once.valid, split.valid), (once.test, split.test)):
        assert np.array_equal(before.target, cases.target) and np.array_equal(before.requests.stop, cases.requests.stop)
        assert [request.wish for request in cases.requests] == [", ".join(log.item_fields["categories"][int(target) - 1]) for target in cases.target]
    vague, again, other = (EvalProtocol(wish="vague", seed=seed).split(log).test.requests.wish for seed in (0, 0, 1))
    assert vague is not None and vague == again != other
    assert EvalProtocol(wish="vague").without_test(log).fingerprint == EvalProtocol().without_test(log).fingerprint


def test_wishes_go_with_candidate_files_places_users_and_new_items(log: Dataset, lists: Path) -> None:
    told = log.item_fields["categories"]
    for rule in (
        EvalProtocol(wish="specific", candidates=str(lists), places=(0, 3)),
        EvalProtocol(wish="specific", users=7, new_items=0.3),
        EvalProtocol(wish="specific", scheme="global_time", candidates="uniform-9"),
    ):
        test = rule.split(log).test
        assert len(test) and [request.wish for request in test.requests] == [", ".join(told[int(target) - 1]) for target in test.target]


def test_a_target_of_which_nothing_may_be_said_is_asked_for_without_a_wish(log: Dataset) -> None:
    test = EvalProtocol().split(log).test
    bare = np.isin(np.arange(1, log.items.size), test.target[:3])
    fields = log.item_fields.with_columns(categories=pl.when(pl.Series(bare)).then(None).otherwise("categories"))
    asked = EvalProtocol(wish="specific").split(dataclasses.replace(log, item_fields=fields)).test
    assert np.array_equal(asked.target, test.target)
    assert [request.wish is None for request in asked.requests] == bare[test.target - 1].tolist()
    titled = log.item_fields.with_columns(title=pl.col("categories").list.join(" and "))
    with pytest.raises(DataError, match=r"no case has a wish, .* name another wish_field"):
        EvalProtocol(wish="specific").split(dataclasses.replace(log, item_fields=titled))
