from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tongtu.data.folder import open_dataset, save_dataset
from tongtu.data.synthetic import text_world
from tongtu.semantic.folder import NamedIds

Run = Callable[..., Any]
SMALL = ("--encoder", "hashing:64", "--set", "size=8", "--set", "levels=2", "--set", "iterations=5")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "world"
    save_dataset(text_world(users=40).data, path)
    return path


@pytest.fixture(scope="module")
def folder(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from typer.testing import CliRunner

    from tongtu.cli import app

    path = tmp_path_factory.mktemp("ids") / "ids"
    result = CliRunner().invoke(app, ["ids", "fit", "--data", str(world), "--out", str(path), *SMALL])
    assert result.exit_code == 0, result.output
    assert "0.0000 after" in result.stdout and f"next: tongtu ids show {path}" in result.stdout
    return path


def test_a_folder_of_ids_comes_back(world: Path, folder: Path) -> None:
    named, log = NamedIds.open(folder), open_dataset(world)
    assert {file.name for file in folder.iterdir()} == {"config.json", "items.parquet", "model.safetensors", "MANIFEST.json"}
    assert named.items == log.items and named.item_text.to_list() == log.item_text.to_list()
    assert named.ids.sizes[:2] == (8, 8) and named.ids.codes.shape == (log.items.size, 3)
    assert len(np.unique(named.ids.codes[1:], axis=0)) == len(log.items)
    assert named.provenance["encoder"] == "hashing:64" and named.provenance["fingerprint"] == log.fingerprint


def test_show_tells_use_meaning_and_neighbours(tongtu: Run, folder: Path) -> None:
    named = NamedIds.open(folder)
    shown = tongtu("ids", "show", folder)
    assert shown.exit_code == 0 and "3 (repair)" in shown.stdout and "collision rate" in shown.stdout
    item = named.items.ids[4]
    own = named.ids.codes[5].tolist()
    told = tongtu("ids", "show", folder, item, "--titles", "50")
    assert told.exit_code == 0 and "-".join(map(str, own)) in told.stdout
    mates = np.flatnonzero(named.ids.codes[1:, 0] == own[0]) + 1
    assert all(title in told.stdout for title in named.titles(mates[:5]))
    under = tongtu("ids", "show", folder, "--prefix", str(own[0]))
    rows = [line for line in under.stdout.splitlines() if line.strip().startswith(f"{own[0]}-")]
    assert {int(row.split()[0].split("-")[1]) for row in rows} == set(named.ids.codes[mates, 1].tolist())


def test_the_page_loads_nothing_and_escapes_titles(tongtu: Run, folder: Path, tmp_path: Path) -> None:
    named = NamedIds.open(folder)
    texts = named.item_text.to_list()
    texts[0] = "<script>alert(1)</script> & more"
    NamedIds(named.ids, named.items, pl.Series("text", texts), named.provenance).save(tmp_path / "hostile")
    result = tongtu("ids", "show", tmp_path / "hostile", "--out", tmp_path / "ids.html")
    assert result.exit_code == 0 and f"picture: {tmp_path / 'ids.html'}" in result.stdout
    page = (tmp_path / "ids.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "default-src" in page and "script-src" not in page and " src=" not in page and "http://" not in page
    assert page.count("<rect") == len(set(named.ids.codes[1:, 0].tolist()))
    assert page.count(" items</span>") == page.count("<details class=\"code\">") > 1


def test_the_image_is_one(tongtu: Run, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert tongtu("ids", "show", folder, "--out", tmp_path / "ids.png").exit_code == 0
    assert (tmp_path / "ids.png").read_bytes().startswith(b"\x89PNG")


def test_ids_that_follow_users_are_made_of_the_training_part(tongtu: Run, world: Path, tmp_path: Path) -> None:
    wanted = ("ids", "fit", "--data", world, *SMALL, "--set", "kind=rqvae", "--set", "rqvae.epochs=3", "--set", "rqvae.align=1.0", "--out")
    assert tongtu(*wanted, tmp_path / "one").exit_code == 0 and tongtu(*wanted, tmp_path / "two").exit_code == 0
    one, two = NamedIds.open(tmp_path / "one"), NamedIds.open(tmp_path / "two")
    np.testing.assert_array_equal(one.ids.codes, two.ids.codes)
    assert one.ids.kind == "rqvae" and one.ids.facts["curve"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ids", "fit", "--data", "WORLD", "--out", "OUT", "--set", "sise=3"), "did you mean 'size'"),
        (("ids", "fit", "--data", "WORLD", "--out", "OUT", "--encoder", "hashng"), "did you mean 'hashing'"),
        (("ids", "fit", "--data", "WORLD", "--out", "OUT", "--set", "size=2", "--set", "levels=1", "--set", "repair=balanced"), "ids for them"),
        (("ids", "show", "FOLDER", "no such item"), "no item 'no such item'"),
        (("ids", "show", "FOLDER", "--prefix", "a,b"), "for example 12,5"),
        (("ids", "show", "FOLDER", "--prefix", "7,7,7"), "at most 2 codes"),
        (("ids", "show", "FOLDER", "--prefix", "99"), "no item's id begins so"),
        (("ids", "show", "FOLDER", "--out", "codes.svg"), "FILE.html"),
        (("ids", "show", "OUT"), "no model folder"),
    ],
)
def test_mistakes_of_ids_are_told_in_one_line(tongtu: Run, world: Path, folder: Path, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    places = {"WORLD": world, "FOLDER": folder, "OUT": tmp_path / "out"}
    result = tongtu(*(places.get(one, one) for one in arguments))
    assert result.exit_code == 2 and said in result.stderr and result.stderr.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()


def test_a_model_folder_is_not_one_of_ids(tongtu: Run, model: Path) -> None:
    result = tongtu("ids", "show", model)
    assert result.exit_code == 2 and "not a NamedIds" in result.stderr
