"""Model folders: what is saved comes back, and what is damaged, foreign or hostile is refused in one line."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import tongtu
from tongtu import hub
from tongtu.core import FitOptions, Request
from tongtu.data.synthetic import taste_world
from tongtu.errors import ModelError
from tongtu.files import MANIFEST, sha256
from tongtu.systems.baselines.ease import EASE
from tongtu.systems.baselines.popular import Popular


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "model"
    EASE(EASE.Config(l2=20)).fit(taste_world(users=40, items=20, length=6).data, FitOptions(quiet=True)).save_pretrained(path)
    return path


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def resign(folder: Path) -> None:
    """What an attacker does who knows about the manifest."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST]
    (folder / MANIFEST).write_text(json.dumps({file.name: sha256(file) for file in files}))


def rewrite(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    resign(folder)


def refused(folder: Path, told: str) -> None:
    with pytest.raises(ModelError, match=told) as caught:
        tongtu.open_model(folder)
    assert "\n" not in str(caught.value)


def test_what_was_saved_comes_back(folder: Path) -> None:
    model = tongtu.open_model(str(folder))
    assert isinstance(model, EASE) and model.config.l2 == 20
    assert model.items.code("item-3") == 3
    assert model.item_text is not None and model.item_text[2] == "espresso coffee grinder number 3"
    assert model.provenance["seed"] == 0
    history = np.array([1, 11], np.int32)
    twin = EASE.from_pretrained(folder)
    assert np.array_equal(model.recommend([Request(history=history)], 5).scores, twin.recommend([Request(history=history)], 5).scores)


def test_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "no model folder")
    refused(tmp_path, "has no config.json")


@pytest.mark.parametrize("name", ["config.json", "items.parquet", "model.safetensors", MANIFEST])
def test_damage_is_refused(folder: Path, name: str) -> None:
    good = (folder / name).read_bytes()
    for share in (0.0, 0.3, 0.7, 0.99):
        place = int(len(good) * share)
        (folder / name).write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        refused(folder, ".")
        (folder / name).write_bytes(good[:place])
        refused(folder, ".")
    (folder / name).unlink()
    refused(folder, ".")


def test_a_newer_format_and_a_foreign_folder(folder: Path) -> None:
    rewrite(folder, format=99)
    refused(folder, "newer Tongtu")
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    refused(folder, "not a Tongtu model folder")
    (folder / "config.json").write_text("[1, 2]")
    refused(folder, "not a Tongtu model folder")


@pytest.mark.parametrize("key", ["class", "format", "config", "facts", "provenance"])
@pytest.mark.parametrize("value", [None, [], "x", 1.5])
def test_values_of_the_wrong_kind(folder: Path, key: str, value: object) -> None:
    if key == "class" and value == "x":
        value = 7
    rewrite(folder, **{key: value})
    refused(folder, "damaged")


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "subprocess:Popen",
        "builtins:eval",
        "tongtu.cli:main",
        "tongtu.files:new_folder",
        "tongtu.systems:make",
        "tongtu.systems.baselines.ease:lapack",
        "tongtu.systems.baselines.ease:hub",
        "tongtu.systems.baselines.ease:top_k",
        "tongtu.systems.baselines.ease:EASE.Config",
        "tongtu.systems.baselines.ease:Path",
        "tongtu.systems.baselines.ease:RequestBatch",
        "tongtu.systems.baselines._factors:contextmanager",
        "tongtu.systems.behaviour.sequence:SequenceSystem",
        "tongtu.systems.nowhere:System",
        "tongtu.systems...baselines.ease:EASE",
        "tongtu.systems.:EASE",
        "tongtu.systems.baselines.ease:",
        "tongtu.systems.baselines.ease",
        "tongtu.systems.\0:EASE",
        "",
    ],
)
def test_only_recommenders_that_are_registered_open(folder: Path, name: str) -> None:
    rewrite(folder, **{"class": name})
    refused(folder, "which no installed package registers|does not have|is not a recommender")


def test_a_class_opens_only_its_own_folders(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"holds a .*EASE, not a Popular"):
        Popular.from_pretrained(folder)
    rewrite(folder, **{"class": "tongtu.systems.baselines.popular:Popular"})
    with pytest.raises(ValueError, match=r"unknown key 'l2'"):
        tongtu.open_model(folder)
    rewrite(folder, config={})
    refused(folder, "lacks 'groups'|lacks 'counts'")


def test_nothing_is_read_that_the_manifest_does_not_list(folder: Path) -> None:
    sums = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({name: total for name, total in sums.items() if name != "model.safetensors"}))
    refused(folder, "does not list the files")
    (folder / MANIFEST).write_text(json.dumps({**sums, "../../secret": "0"}))
    refused(folder, "outside its folder")


def test_a_catalogue_that_is_none(folder: Path) -> None:
    for table in (pl.DataFrame({"id": ["a", "a"]}), pl.DataFrame({"name": ["a"]}), pl.DataFrame({"id": [None, "a"]})):
        table.write_parquet(folder / "items.parquet")
        resign(folder)
        refused(folder, "cannot be read")


SAVER = """
    import sys
    from pathlib import Path
    from tongtu.core import FitOptions
    from tongtu.data.synthetic import taste_world
    from tongtu.systems.baselines.popular import Popular
    model = Popular().fit(taste_world(users=40, items=20, length=6).data, FitOptions(quiet=True))
    while True:
        model.save_pretrained(Path(sys.argv[1]))
        print("saved", flush=True)
"""


def test_a_save_killed_at_any_moment_leaves_a_model(tmp_path: Path) -> None:
    path = tmp_path / "model"
    expected = Popular().fit(taste_world(users=40, items=20, length=6).data).recommend([Request()], 5)
    for kill in range(4):
        writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SAVER), str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(kill * 0.0023)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert np.array_equal(hub.open_model(path).recommend([Request()], 5).items, expected.items)
