from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from tongtu.core import FitOptions
from tongtu.data.synthetic import attribute_world
from tongtu.errors import ModelError
from tongtu.systems.baselines.popular import Popular
from tongtu.trust.checks.folder import Learned, check_base, check_files, check_provenance
from tongtu.trust.finding import Finding


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = attribute_world(users=20, items=12, length=6).data
    Popular().fit(data, FitOptions(quiet=True)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def by_name(folder: Path) -> dict[str, Finding]:
    return {one.name: one for one in check_files(folder)}


def test_a_whole_folder_is_fine(folder: Path) -> None:
    found = by_name(folder)
    assert {one.verdict for one in found.values()} == {"fine"} and "popular:Popular" in found["format and class"].evidence
    assert check_base(folder).verdict == "not measured"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "items.parquet", "MANIFEST.json"])
def test_damage_is_an_alarm_that_names_the_file(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-3])
    found = by_name(folder)["files are those recorded"]
    assert found.verdict == "alarm" and name in found.evidence and "tongtu fit" in found.remedy


def test_a_missing_file_is_an_alarm(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert by_name(folder)["files are those recorded"].verdict == "alarm"


@pytest.mark.parametrize(
    ("name", "content", "verdict", "what"),
    [
        ("notes.txt", b"hello", "notice", "not recorded"),
        ("weights.txt", pickle.dumps({"a": 1}), "alarm", "a pickle"),
        ("setup.py", b"print()", "alarm", "code"),
        ("model.pt", b"PK\x03\x04...", "alarm", "an archive"),
        ("run", b"#!/bin/sh\n", "alarm", "a script"),
    ],
)
def test_strange_files_are_named(folder: Path, name: str, content: bytes, verdict: str, what: str) -> None:
    (folder / "texts").mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    found = by_name(folder)["no strange files, no code"]
    assert found.verdict == verdict and (name, what) in found.tables[0].rows


def test_a_link_out_of_the_folder_is_an_alarm(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/hostname")
    assert by_name(folder)["no strange files, no code"].verdict == "alarm"


def test_a_class_that_nobody_registers_is_an_alarm(folder: Path) -> None:
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(record | {"class": "strange.place:Model"}))
    assert by_name(folder)["format and class"].verdict == "alarm"


def test_no_folder_is_a_mistake(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ModelError):
            check_files(path)


def test_what_it_was_trained_on_is_told() -> None:
    data = attribute_world(users=20, items=12, length=6).data
    known = check_provenance(Learned(data, True, "the model says it was fitted on all events", True), data)
    unknown = check_provenance(Learned(None, False, "the model does not say what it was fitted on", False), data)
    assert (known.verdict, unknown.verdict) == ("fine", "notice") and unknown.remedy
