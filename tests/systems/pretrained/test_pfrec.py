from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tongtu.core import FitOptions, Recommender, Request, RequestBatch
from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import two_taste_world
from tongtu.errors import ConfigError, DataError, ModelError
from tongtu.hub import open_model
from tongtu.systems import make
from tongtu.systems.pretrained._base import fingerprint_of
from tongtu.systems.pretrained.pfrec import PFRec

QUIET = FitOptions(quiet=True)
BODY: dict[str, Any] = {"width": 16, "max_length": 10, "blocks": 1, "training": {"epochs": 3, "learning_rate": 5e-3}}
FEW = {"epochs": 2, "learning_rate": 5e-3}
CLUB, CITY = frozenset({"club"}), frozenset({"city"})
WAYS: list[dict[str, Any]] = [{}, {"mode": "compositional"}, {"way": "filter"}, {"way": "full"}, {"adversary": {"directions": 0}}]


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Users with a club and a city; of some, the city is not known."""
    made = two_taste_world(users=150, items=40).data
    city = pl.Series("city", [None if u % 7 == 0 else "north" if u % 3 else "south" for u in range(len(made.users))])
    return dataclasses.replace(made, user_attributes=made.user_attributes.with_columns(city))


@pytest.fixture(scope="module")
def bases(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    for name in ("sasrec", "hstu"):
        make(name, BODY).fit(data, QUIET).save_pretrained(folder / name)
    return folder


def pfrec(**settings: Any) -> PFRec:
    made = make("pfrec", {"training": FEW, "prompts": 2} | settings)
    assert isinstance(made, PFRec)
    return made


@pytest.fixture(scope="module")
def fitted(data: Dataset, bases: Path) -> PFRec:
    return pfrec(base=str(bases / "sasrec")).fit(data, QUIET)


def asking(data: Dataset, *forget: frozenset[str]) -> RequestBatch:
    """The first users, the first of them with the first of `forget`, and so on."""
    return dataclasses.replace(data.requests(np.arange(1, len(forget) + 1, dtype=np.int32)), forget=list(forget))


@pytest.mark.parametrize("base", ["sasrec", "hstu"])
def test_who_forgets_nothing_gets_the_answer_of_the_base_which_is_untouched(data: Dataset, bases: Path, base: str) -> None:
    one: Any = open_model(bases / base)
    fingerprint, files = fingerprint_of(one), {file: file.read_bytes() for file in (bases / base).iterdir()}
    plain = [Request(), Request(history=np.array([3, 0, 7], np.int32)), *data.requests(np.arange(1, 5, dtype=np.int32))]
    for settings in WAYS:
        system = pfrec(base=str(bases / base), **settings).fit(data, QUIET)
        assert system.base.fingerprint == fingerprint == fingerprint_of(system.base.system)
        np.testing.assert_array_equal(system.score(plain, slice(None)), one.score(plain, slice(None)))
        np.testing.assert_array_equal(system.user_vectors(plain), one.user_vectors(plain))
        mixed = asking(data, frozenset(), CLUB, frozenset(), CLUB | CITY)
        scores, alone = system.score(mixed, slice(None)), one.score(mixed.take(np.array([0, 2])), slice(None))
        np.testing.assert_array_equal(scores[[0, 2]], alone)
        assert np.abs(scores - one.score(mixed, slice(None)))[[1, 3]].max(axis=1).min() > 1e-3
        assert not system.net.base.training and not any(parameter.requires_grad for parameter in system.net.base.parameters())
        assert system.net.adversary is None
    assert {file: file.read_bytes() for file in files} == files


def test_each_combination_has_its_own_answer_and_its_vectors_score(data: Dataset, fitted: PFRec) -> None:
    history = data.history(1)
    wishes = [frozenset(), CLUB, CITY, CLUB | CITY]
    requests = [Request(history=history, attributes={"club": "jazz", "city": "north"}, forget=forget) for forget in wishes]
    vectors, scores = fitted.user_vectors(requests), fitted.score(requests, slice(None))
    assert all(np.abs(vectors[i] - vectors[j]).max() > 1e-3 for i in range(4) for j in range(i))
    items = fitted.base.system.net.item_vectors(slice(None)).detach().numpy()
    np.testing.assert_allclose(vectors @ items.T, scores, rtol=1e-4, atol=1e-4)
    for row, request in enumerate(requests):
        np.testing.assert_allclose(fitted.score([request], slice(3, 9))[0], scores[row, 3:9], rtol=1e-4, atol=1e-5)


def test_what_is_told_is_heeded_and_unknown_is_ordinary(data: Dataset, bases: Path) -> None:
    system = pfrec(base=str(bases / "sasrec"), adversary={"directions": 0}, training={"epochs": 4, "learning_rate": 2e-2}).fit(data, QUIET)
    history = data.history(1)
    told: list[dict[str, str]] = [{}, {"club": "golf"}, {"age": "5"}, {"club": "jazz"}]
    scores = system.score([Request(history=history, attributes=known, forget=CLUB) for known in told], slice(None))
    np.testing.assert_allclose(scores[1:3], scores[[0, 0]], rtol=1e-5, atol=1e-6)
    assert np.abs(scores[3] - scores[0]).max() > 1e-3, "the prompts of values have learned"


def test_an_attribute_that_cannot_be_forgotten_is_named(data: Dataset, bases: Path, fitted: PFRec) -> None:
    for act in (fitted.user_vectors, lambda requests: fitted.recommend(requests, 5), lambda requests: fitted.score(requests, slice(None))):
        with pytest.raises(ConfigError, match=r"not learned to forget 'age' \(it can forget: club, city\)"):
            act([Request(forget=frozenset({"age"}))])
    only = pfrec(base=str(bases / "sasrec"), attributes=["city"]).fit(data, QUIET)
    with pytest.raises(ConfigError, match=r"'club' \(it can forget: city\)"):
        only.recommend([Request(forget=CLUB | CITY)], 5)
    nobody = pfrec(base=str(bases / "sasrec")).fit(dataclasses.replace(data, user_attributes=pl.DataFrame()), QUIET)
    with pytest.raises(ConfigError, match="it can forget: nothing"):
        nobody.recommend([Request(forget=CLUB)], 5)
    with pytest.raises(DataError, match="no user attribute 'age'"):
        pfrec(base=str(bases / "sasrec"), attributes=["age"]).fit(data, QUIET)


def test_too_many_attributes_are_told(data: Dataset, bases: Path) -> None:
    table = data.user_attributes.with_columns(pl.Series(f"a{n}", [str(u // (n + 1) % 5) for u in range(len(data.users))]) for n in range(6))
    with pytest.raises(ConfigError, match="name at most 6"):
        pfrec(base=str(bases / "sasrec")).fit(dataclasses.replace(data, user_attributes=table), QUIET)


@pytest.mark.parametrize("settings", WAYS)
def test_a_folder_names_its_base_and_holds_no_adversary(data: Dataset, bases: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    shutil.copytree(bases / "sasrec", tmp_path / "base")
    system = pfrec(base=str(tmp_path / "base"), **settings).fit(data, QUIET)
    system.save_pretrained(tmp_path / "fair")
    assert not (tmp_path / "fair" / "base").exists()
    opened: Any = open_model(tmp_path / "fair")
    assert isinstance(opened, PFRec) and opened.net.base is opened.base.system.net
    requests = asking(data, CLUB, CITY, CLUB | CITY, frozenset())
    np.testing.assert_array_equal(opened.score(requests, slice(None)), system.score(requests, slice(None)))
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(ModelError, match="which is not there"):
        open_model(tmp_path / "fair")


def test_a_folder_can_carry_its_base(data: Dataset, bases: Path, tmp_path: Path) -> None:
    shutil.copytree(bases / "sasrec", tmp_path / "base")
    system = pfrec(base=str(tmp_path / "base"), carry=True).fit(data, QUIET)
    system.save_pretrained(tmp_path / "fair")
    shutil.rmtree(tmp_path / "base")
    requests = asking(data, CLUB, frozenset())
    opened: Any = open_model(tmp_path / "fair")
    np.testing.assert_array_equal(opened.score(requests, slice(None)), system.score(requests, slice(None)))
    assert isinstance(open_model(tmp_path / "fair" / "base"), Recommender)


def test_a_fit_goes_on_and_ends_the_same(data: Dataset, bases: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"base": str(bases / "sasrec"), "training": FEW | {"checkpoint_seconds": 0}}
    unbroken = pfrec(**settings).fit(data, QUIET)
    options = FitOptions(quiet=True, checkpoint=tmp_path / "state", resume=True)
    pfrec(**settings).fit(data, options)
    resumed = pfrec(**settings).fit(data, options)
    requests = asking(data, CLUB, CITY, CLUB | CITY)
    np.testing.assert_array_equal(resumed.score(requests, slice(None)), unbroken.score(requests, slice(None)))
    with pytest.raises(ModelError, match="the state of a run with other"):
        pfrec(**settings | {"prompts": 3}).fit(data, options)


def test_validation_chooses_no_epoch(data: Dataset, bases: Path) -> None:
    asked: list[Recommender] = []
    options = FitOptions(quiet=True, validate=lambda system: asked.append(system) or {"ndcg@10": -float(len(asked))})
    system = pfrec(base=str(bases / "sasrec")).fit(data, options)
    assert not asked and system.provenance["epochs"] == FEW["epochs"]
