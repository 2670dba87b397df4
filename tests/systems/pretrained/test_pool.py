from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from tongtu.core import FitOptions, Request
from tongtu.data.dataset import Dataset
from tongtu.data.folder import save_dataset
from tongtu.data.synthetic import attribute_world, taste_world
from tongtu.errors import ConfigError, ModelError
from tongtu.hub import open_model
from tongtu.nn.prompts import MixedPrompts, PromptGenerator
from tongtu.systems import make
from tongtu.systems.pretrained.pool import PromptPool

QUIET = FitOptions(quiet=True)
BODY: dict[str, Any] = {"width": 16, "max_length": 10, "blocks": 2, "training": {"epochs": 2, "learning_rate": 5e-3}}
FEW: dict[str, Any] = {"epochs": 2, "learning_rate": 5e-3}


@pytest.fixture(scope="module")
def data() -> Dataset:
    data = attribute_world(users=120, items=50).data
    draw = np.random.default_rng(0)
    table = data.user_attributes.with_columns(age=pl.Series(draw.integers(10, 90, len(data.users))))
    return dataclasses.replace(data, user_attributes=table)


@pytest.fixture(scope="module")
def folders(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders that read different attributes, of different sizes, learned from different users, one of them with vectors from elsewhere."""
    folder = tmp_path_factory.mktemp("pool")
    make("sasrec", BODY).fit(data, QUIET).save_pretrained(folder / "base")
    there = taste_world(users=120, items=30).data
    save_dataset(there, folder / "there")
    make("sasrec", BODY).fit(there, QUIET).save_pretrained(folder / "source")
    settings: dict[str, dict[str, Any]] = {
        "club": {"attributes": ["club"]},
        "young": {"attributes": ["club"]},
        "age": {"attributes": ["age"], "buckets": 4},
        "both": {"attributes": ["club", "age"]},
        "narrow": {"attributes": ["club"], "inner": 8},
        "none": {"attributes": []},
        "elsewhere": {"attributes": ["club"], "source": str(folder / "source"), "source_data": str(folder / "there")},
        "again": {"attributes": ["club"], "source": str(folder / "source"), "source_data": str(folder / "there")},
    }
    for number, (name, values) in enumerate(settings.items()):
        some = data.keep_events(data.event_user % 5 != number % 5)
        make("ppr", {"base": str(folder / "base"), "training": FEW} | values).fit(some, QUIET).save_pretrained(folder / "prompts" / name)
    return folder


def asked(data: Dataset) -> tuple[list[Request], list[str]]:
    """Requests of every kind, in an order that mixes owners; one owner asks often."""
    kinds = [Request(), Request(attributes={"club": "chess"}), Request(attributes={"club": "golf", "age": "20"}, forget=frozenset({"club"}))]
    requests = [*kinds, *data.requests(np.arange(1, 20, dtype=np.int32))]
    names = ["club", "age", "elsewhere", "both", "none", "young", "narrow", "again"]
    pairs = [(request, names[(row + turn) % len(names)]) for turn in range(3) for row, request in enumerate(requests)]
    pairs += [(request, "club") for request in requests]
    return [request for request, _ in pairs], [name for _, name in pairs]


def test_a_mixed_batch_is_answered_as_each_folder_answers(data: Dataset, folders: Path) -> None:
    pool = PromptPool.within(folders / "prompts")
    requests, owners = asked(data)
    scores, best = pool.score(requests, owners, slice(None)), pool.recommend(requests, owners, 5)
    for name in pool.folders:
        alone: Any = open_model(folders / "prompts" / name)
        rows = [row for row, owner in enumerate(owners) if owner == name]
        own = [requests[row] for row in rows]
        np.testing.assert_allclose(scores[rows], alone.score(own, slice(None)), rtol=0, atol=1e-5)
        np.testing.assert_allclose(best.scores[rows], alone.recommend(own, 5).scores, rtol=0, atol=1e-5)
    others = pool.score(requests, owners[::-1], slice(None))
    assert not np.allclose(scores, others, atol=1e-2), "another owner, another answer"


def test_the_base_is_passed_once_for_all_owners(data: Dataset, folders: Path) -> None:
    pool = PromptPool.within(folders / "prompts")
    requests, owners = asked(data)
    first = pool.score(requests, owners, slice(None))
    passes: list[int] = []
    hook = pool.base.system.net.blocks[0].register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    again = pool.score(requests, owners, slice(None))
    hook.remove()
    assert passes == [len(requests)]
    np.testing.assert_array_equal(again, first)


def test_blocks_of_a_large_catalogue_keep_their_owners(data: Dataset, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = PromptPool.within(folders / "prompts")
    requests, owners = asked(data)
    whole = pool.recommend(requests, owners, 5)
    monkeypatch.setattr("tongtu.systems.pretrained.pool.BLOCK_BYTES", 4 * data.items.size * 7)
    cut = pool.recommend(requests, owners, 5)
    np.testing.assert_allclose(cut.scores, whole.scores, atol=1e-5)
    assert pool.recommend([], [], 5).items.shape == (0, 5)


def test_folders_are_read_when_asked_for_and_few_are_kept(data: Dataset, folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "prompts", tmp_path / "prompts")
    pool = PromptPool.within(tmp_path / "prompts", kept=2)
    assert pool.memory() == {"base": 0, "generators": 0, "told": 0}
    pool.score([Request()], ["club"], slice(None))
    shutil.rmtree(tmp_path / "prompts" / "club")
    pool.score([Request()], ["club"], slice(None))
    pool.score([Request()] * 3, ["none", "age", "club"], slice(None))
    pool.score([Request()] * 2, ["both", "young"], slice(None))
    with pytest.raises(ModelError, match="no model folder"):
        pool.score([Request()], ["club"], slice(None))


def test_memory_counts_what_is_shared_once(folders: Path) -> None:
    pool = PromptPool.within(folders / "prompts")
    one, other = pool.opened("elsewhere"), pool.opened("again")
    assert one.reader is other.reader and one.teller.source is other.teller.source and one.teller.source is not None
    pool.opened("club")
    memory = pool.memory()
    assert memory["told"] == one.teller.source.nbytes
    weights = sum(parameter.numel() for name in ("elsewhere", "again", "club") for parameter in pool.opened(name).generator.parameters())
    assert memory["generators"] == 4 * weights and memory["base"] == 4 * sum(p.numel() for p in pool.base.system.net.parameters())
    few = PromptPool.within(folders / "prompts", kept=1)
    few.score([Request()], ["elsewhere"], slice(None))
    assert few.memory()["told"] == memory["told"]
    few.score([Request()], ["none"], slice(None))
    assert few.memory()["told"] == 0


def test_folders_that_do_not_belong_are_refused(data: Dataset, folders: Path, tmp_path: Path) -> None:
    settings = {"base": str(folders / "base"), "training": FEW | {"epochs": 1}}
    shutil.copytree(folders / "prompts" / "club", tmp_path / "club")
    make("ppr", settings | {"mode": "full"}).fit(data, QUIET).save_pretrained(tmp_path / "full")
    make("ppr", settings | {"prompts": 2}).fit(data, QUIET).save_pretrained(tmp_path / "two")
    make("sasrec", BODY | {"blocks": 1}).fit(data, QUIET).save_pretrained(tmp_path / "other-base")
    make("ppr", settings | {"base": str(tmp_path / "other-base")}).fit(data, QUIET).save_pretrained(tmp_path / "other")
    pool = PromptPool.within(tmp_path)
    pool.opened("club")
    for name, error, said in (
        ("clubs", ConfigError, "did you mean 'club'"),
        ("full", ConfigError, "tuned its base"),
        ("two", ConfigError, "has 2 prompts a layer"),
        ("other", ModelError, "another base"),
        ("other-base", ModelError, "not a PPR"),
    ):
        with pytest.raises(error, match=said):
            pool.opened(name)
    with pytest.raises(ModelError, match="no model folder lies in"):
        PromptPool.within(tmp_path / "nowhere")


def test_generators_of_all_sizes_in_one_batch() -> None:
    torch.manual_seed(0)
    sizes: list[tuple[tuple[int, ...], int, int]] = [((3, 5), 6, 0), ((3,), 6, 2), ((9,), 7, 5)]
    generators = [PromptGenerator(size, 4, layers=2, prompts=3, inner=inner, told=told) for size, inner, told in sizes]
    for generator in generators:
        for parameter in generator.parameters():
            torch.nn.init.normal_(parameter)
    place = torch.tensor([2, 0, 1, 0, *[1] * 9, 2])
    profile = torch.stack([place, torch.arange(14) % 3, torch.arange(14) % 5], 1)
    told = torch.randn(14, 5)
    mixed = MixedPrompts(generators)(profile, told)
    for row, one in enumerate(place.tolist()):
        generator = generators[one]
        read = 0 if generator.read is None else generator.read.in_features
        alone = generator(profile[row, None, 1 : 1 + len(generator.fields)], told[row, None, :read] if read else None)
        torch.testing.assert_close(mixed[:, row], alone[:, 0], rtol=1e-5, atol=1e-5)
