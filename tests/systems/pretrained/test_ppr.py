from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tongtu.core import FitOptions, Recommender, Request
from tongtu.data.dataset import Dataset
from tongtu.data.folder import save_dataset
from tongtu.data.splits import cold_users
from tongtu.data.synthetic import GROUP_WORDS, attribute_world, taste_world
from tongtu.errors import ConfigError, DataError, ModelError
from tongtu.hub import open_model
from tongtu.systems import make
from tongtu.systems.pretrained._base import fingerprint_of
from tongtu.systems.pretrained.finetuning import FineTuning
from tongtu.systems.pretrained.ppr import PPR, mean_vectors
from tongtu.testing import case_ndcg

QUIET = FitOptions(quiet=True)
BODY: dict[str, Any] = {"width": 16, "max_length": 10, "blocks": 1, "training": {"epochs": 4, "learning_rate": 5e-3}}
FEW = {"epochs": 4, "learning_rate": 5e-3}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return attribute_world(users=200, items=60).data


@pytest.fixture(scope="module")
def bases(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    for name in ("sasrec", "hstu"):
        make(name, BODY).fit(data, QUIET).save_pretrained(folder / name)
    return folder


def ppr(**settings: Any) -> PPR:
    made = make("ppr", {"training": FEW} | settings)
    assert isinstance(made, PPR)
    return made


def tuning(**settings: Any) -> FineTuning:
    made = make("finetuning", {"training": FEW} | settings)
    assert isinstance(made, FineTuning)
    return made


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("base", ["sasrec", "hstu"])
def test_tuning_leaves_the_base_untouched(data: Dataset, bases: Path, base: str) -> None:
    system: Any = open_model(bases / base)
    files, fingerprint = bytes_of(bases / base), fingerprint_of(system)
    request = [Request(history=np.array([3, 7], np.int32))]
    before = system.score(request, slice(None))
    tuned: list[Any] = [ppr(base=str(bases / base), mode=mode).fit(data, QUIET) for mode in ("light", "full")]
    tuned += [tuning(base=str(bases / base), way=way).fit(data, QUIET) for way in ("all", "adapter", "lora")]
    for one in tuned:
        assert one.base.fingerprint == fingerprint == fingerprint_of(one.base.system)
        assert not np.allclose(one.score(request, slice(None)), before, atol=1e-3)
        changed = fingerprint_of(dataclasses.replace(one.base, system=_with_net(one.base.system, one.net.base)).system) != fingerprint
        assert changed == (one is tuned[1] or one is tuned[2]), "only what tunes everything has other weights"
    assert bytes_of(bases / base) == files


def _with_net(system: Any, net: Any) -> Any:
    other = type(system)(system.config)
    other.items, other.net = system.items, net
    return other


def test_nothing_tuned_is_the_base(data: Dataset, bases: Path) -> None:
    base: Any = open_model(bases / "sasrec")
    requests = [Request(), *data.requests(np.arange(1, 5, dtype=np.int32))]
    same = tuning(base=str(bases / "sasrec"), way="none").fit(data, QUIET)
    np.testing.assert_array_equal(same.score(requests, slice(None)), base.score(requests, slice(None)))


def test_many_small_folders_stand_on_one_base(data: Dataset, bases: Path, tmp_path: Path) -> None:
    base = str(bases / "sasrec")
    names: dict[str, Any] = {"prompts": ppr(base=base), "others": ppr(base=base, prompts=3), "lora": tuning(base=base, way="lora")}
    for name, system in names.items():
        system.fit(data, QUIET).save_pretrained(tmp_path / name)
    opened: dict[str, Any] = {name: open_model(tmp_path / name) for name in names}
    assert len({id(one.base.system) for one in opened.values()}) == 1
    table = opened["prompts"].base.system.net.item.weight
    assert all(one.net.base.item.weight is table for one in opened.values())
    requests = [Request(attributes={"club": "chess"}), *data.requests(np.arange(1, 5, dtype=np.int32))]
    for name, one in opened.items():
        np.testing.assert_array_equal(one.score(requests, slice(None)), names[name].score(requests, slice(None)))
        weights = (tmp_path / name / "model.safetensors").stat().st_size
        assert weights < 2.5 * 4 * one.provenance["tuned"] + 4_000 and not (tmp_path / name / "base").exists()
        assert one.item_text is not None and one.item_text.equals(data.item_text)


def test_the_base_is_found_beside_and_told_when_missing_or_another(data: Dataset, bases: Path, tmp_path: Path) -> None:
    for name in ("sasrec", "hstu"):
        shutil.copytree(bases / name, tmp_path / "made" / name)
    system = ppr(base=str(tmp_path / "made" / "sasrec")).fit(data, QUIET)
    system.save_pretrained(tmp_path / "made" / "prompts")
    (tmp_path / "made").rename(tmp_path / "moved")
    assert PPR.from_pretrained(tmp_path / "moved" / "prompts").base.fingerprint == system.base.fingerprint
    (tmp_path / "moved" / "sasrec").rename(tmp_path / "moved" / "away")
    with pytest.raises(ModelError, match="which is not there"):
        open_model(tmp_path / "moved" / "prompts")
    (tmp_path / "moved" / "hstu").rename(tmp_path / "moved" / "sasrec")
    with pytest.raises(ModelError, match="made for another model"):
        open_model(tmp_path / "moved" / "prompts")


@pytest.mark.parametrize("settings", [{"carry": True}, {"mode": "full"}])
def test_a_folder_can_stand_alone(data: Dataset, bases: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    shutil.copytree(bases / "sasrec", tmp_path / "base")
    system = ppr(base=str(tmp_path / "base"), **settings).fit(data, QUIET)
    system.save_pretrained(tmp_path / "prompts")
    shutil.rmtree(tmp_path / "base")
    requests = [Request(attributes={"club": "chess"})]
    opened: Any = open_model(tmp_path / "prompts")
    np.testing.assert_array_equal(opened.score(requests, slice(None)), system.score(requests, slice(None)))
    assert isinstance(open_model(tmp_path / "prompts" / "base"), Recommender)


def test_a_base_made_in_a_fit_is_kept_for_the_next(data: Dataset, tmp_path: Path) -> None:
    settings = {"pretraining": BODY, "bases": str(tmp_path / "bases")}
    one, other = ppr(**settings).fit(data, QUIET), tuning(**settings).fit(data, QUIET)
    (kept,) = (tmp_path / "bases").iterdir()
    assert one.base.folder == other.base.folder == kept and one.base.fingerprint == other.base.fingerprint
    assert other.base.seconds < one.base.seconds
    ppr(**settings).fit(data, FitOptions(seed=1, quiet=True))
    assert len(list((tmp_path / "bases").iterdir())) == 2, "another seed makes another base"


def test_bases_that_do_not_fit_are_refused(data: Dataset, bases: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a model folder nor a system"):
        ppr(base="no/such/folder").fit(data, QUIET)
    with pytest.raises(ConfigError, match="takes no prompts"):
        ppr(base="bert4rec", pretraining=BODY).fit(data, QUIET)
    with pytest.raises(ConfigError, match="takes no prompts"):
        ppr(base="popular").fit(data, QUIET)
    with pytest.raises(ConfigError, match="pre-trained already"):
        ppr(base=str(bases / "sasrec"), pretraining=BODY).fit(data, QUIET)
    with pytest.raises(ModelError, match="knows other items"):
        ppr(base=str(bases / "sasrec")).fit(taste_world(users=50, items=40).data, QUIET)


def test_field_tables_start_from_what_their_users_met(data: Dataset, bases: Path) -> None:
    base: Any = open_model(bases / "sasrec")
    vectors = base.net.item_vectors(slice(None)).detach()
    profile = np.array([[1 if name == "chess" else 0] for name in data.user_attributes["club"]])
    (table,) = mean_vectors(vectors, data, profile, (3,))
    chess = np.isin(data.event_user - 1, np.flatnonzero(profile[:, 0]))
    np.testing.assert_allclose(table[1], vectors[data.item[chess].astype(np.int64)].mean(0), rtol=1e-4, atol=1e-6)
    everybody = vectors[data.item.astype(np.int64)].mean(0)
    np.testing.assert_allclose(table[[0, 2]], np.stack([everybody, everybody]), rtol=1e-4, atol=1e-6)


def test_unknown_attributes_are_ordinary(data: Dataset, bases: Path) -> None:
    system = ppr(base=str(bases / "sasrec"), training=FEW | {"epochs": 12}).fit(data, QUIET)
    forgetful = Request(attributes={"club": "chess"}, forget=frozenset({"club"}))
    asked = [Request(), Request(attributes={"club": "golf"}), forgetful, Request(attributes={"age": "5"})]
    scores = system.score(asked, slice(None))
    assert (scores == scores[:1]).all()
    assert not np.allclose(system.score([Request(attributes={"club": "chess"})], slice(None)), scores[:1], atol=1e-3)
    nobody = dataclasses.replace(data, user_attributes=pl.DataFrame())
    common = ppr(base=str(bases / "sasrec")).fit(nobody, QUIET).score([Request(), Request(attributes={"club": "chess"})], slice(None))
    assert (common[0] == common[1]).all()


def test_attributes_are_those_that_were_chosen(data: Dataset, bases: Path) -> None:
    table = data.user_attributes.with_columns(age=pl.Series(np.arange(len(data.users))))
    system = ppr(base=str(bases / "sasrec"), attributes=["age"], buckets=4).fit(dataclasses.replace(data, user_attributes=table), QUIET)
    assert [field.name for field in system.reader.fields] == ["age"] and system.reader.sizes == (5,)
    json.dumps(system.provenance)


def test_prompts_find_the_taste_of_users_without_history_and_the_base_cannot(tmp_path: Path) -> None:
    world = attribute_world()
    split = cold_users(world.data, shots=0)
    pretraining = {**BODY, "width": 32, "training": {"epochs": 12, "learning_rate": 5e-3}}
    settings = {"bases": str(tmp_path), "pretraining": pretraining, "training": {"epochs": 15, "learning_rate": 5e-3}}
    base = case_ndcg(tuning(**settings, way="none").fit(split.train, QUIET), split.test).mean()
    popular = case_ndcg(make("popular").fit(split.train, QUIET), split.test).mean()
    for mode in ("light", "full"):
        system = ppr(**settings, mode=mode).fit(split.train, QUIET)
        assert case_ndcg(system, split.test).mean() > 4 * max(base, popular), mode
        for group, words in enumerate(GROUP_WORDS, start=1):
            best = system.recommend([Request(attributes={"club": words[0]})], 10).items[0]
            assert (world.group[best] == group).mean() >= 0.6, mode


def test_a_text_tells_who_a_user_is(tmp_path: Path) -> None:
    """A bio is read at the fit, and a wish in its place when asked; words are enough, no attribute has a value to look up."""
    world = attribute_world()
    words = {first: f"I like {first} {second} and {third}" for first, second, third in GROUP_WORDS}
    bios = pl.DataFrame({"wish": [f"{words[club]}, says user {number}" for number, club in enumerate(world.data.user_attributes["club"])]})
    data = dataclasses.replace(world.data, user_attributes=bios)
    system = ppr(pretraining=BODY, text="wish", encoder="hashing", training={"epochs": 25, "learning_rate": 5e-3}).fit(data, QUIET)
    assert not system.reader.fields
    system.save_pretrained(tmp_path / "prompts")
    opened: Any = open_model(tmp_path / "prompts")
    right = []
    for group, (first, _, third) in enumerate(GROUP_WORDS, start=1):
        requests = [Request(attributes={"wish": words[first]}), Request(wish=f"{first}, {third}")]
        best = opened.recommend(requests, 10).items
        np.testing.assert_array_equal(best, system.recommend(requests, 10).items)
        right.append((world.group[best] == group).mean())
    assert np.mean(right) >= 0.6, "against a base rate of one in ten"


def test_what_users_met_in_another_domain_tells_their_taste_here(tmp_path: Path) -> None:
    """The same users with the same tastes, other items: those who are new here are known there."""
    there = taste_world(items=100).data
    save_dataset(there, tmp_path / "there")
    make("sasrec", {**BODY, "width": 32, "training": {"epochs": 15, "learning_rate": 5e-3}}).fit(there, QUIET).save_pretrained(tmp_path / "model")
    here = dataclasses.replace(attribute_world().data, user_attributes=pl.DataFrame())
    split = cold_users(here, shots=0)
    settings = {"pretraining": BODY, "bases": str(tmp_path / "bases"), "training": {"epochs": 25, "learning_rate": 5e-3}}
    system = ppr(**settings, source=str(tmp_path / "model"), source_data=str(tmp_path / "there")).fit(split.train, QUIET)
    without = case_ndcg(ppr(**settings).fit(split.train, QUIET), split.test).mean()
    assert case_ndcg(system, split.test).mean() > 2 * without
    system.save_pretrained(tmp_path / "prompts")
    opened: Any = open_model(tmp_path / "prompts")
    np.testing.assert_array_equal(opened.score(split.test.requests, slice(None)), system.score(split.test.requests, slice(None)))
    assert np.isfinite(opened.score([Request(), Request(user=10**6)], slice(None))).all()


def test_prompts_may_learn_from_those_alone_of_whom_something_is_told(data: Dataset, bases: Path, tmp_path: Path) -> None:
    """With half of the users known elsewhere, the others' events make no difference; with nobody, that is said."""
    source = make("sasrec", BODY).fit(data, QUIET)
    source.save_pretrained(tmp_path / "source")
    half = data.event_user % 2 == 1
    save_dataset(data.keep_events(half), tmp_path / "half")
    elsewhere = {"source": str(tmp_path / "source"), "source_data": str(tmp_path / "half"), "attributes": []}
    settings: dict[str, Any] = {"base": str(bases / "sasrec"), **elsewhere}
    less = data.keep_events(half | (data.item > 30))
    asked = data.requests(np.arange(1, 9, dtype=np.int32))
    alone, fewer = (ppr(**settings, only_told=True, contrast={"weight": 0}).fit(log, QUIET) for log in (data, less))
    np.testing.assert_array_equal(alone.score(asked, slice(None)), fewer.score(asked, slice(None)))
    everybody, without = (ppr(**settings, contrast={"weight": 0}).fit(log, QUIET) for log in (data, less))
    assert not np.allclose(everybody.score(asked, slice(None)), without.score(asked, slice(None)), atol=1e-3)
    with pytest.raises(DataError, match="leave only_told out"):
        ppr(**settings, only_told=True).fit(data.keep_events(~half), QUIET)
    with pytest.raises(ConfigError, match="give text or source"):
        ppr(only_told=True)


def test_a_fit_goes_on_only_with_the_same_base(data: Dataset, tmp_path: Path) -> None:
    training = FEW | {"checkpoint_seconds": 0}
    settings: dict[str, Any] = {"pretraining": BODY | {"training": training}, "training": training}
    unbroken = ppr(**settings).fit(data, QUIET)
    options = FitOptions(quiet=True, checkpoint=tmp_path / "state", resume=True)
    ppr(**settings).fit(data, options)
    assert not (tmp_path / "state.pretraining").exists()
    resumed = ppr(**settings).fit(data, options)
    requests = [Request(attributes={"club": "chess"}), *data.requests(np.arange(1, 4, dtype=np.int32))]
    np.testing.assert_array_equal(resumed.score(requests, slice(None)), unbroken.score(requests, slice(None)))
    other = BODY | {"training": training | {"epochs": 2}}
    with pytest.raises(ModelError, match="the state of a run with other"):
        ppr(**settings | {"pretraining": other}).fit(data, options)
