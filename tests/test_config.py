"""Configuration: unknown keys name the nearest, values are checked, and what is built can be written down again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from tongtu.config import build, configuration, merge, nearest, parse_settings, plain, read_toml
from tongtu.errors import ConfigError
from tongtu.systems import cards, make, system_class


@configuration
class Inner:
    epochs: int = Field(5, ge=1)
    kind: Literal["full", "sampled"] = "full"


@configuration
class Outer:
    width: int = 64
    rate: float | None = None
    training: Inner = Field(default_factory=Inner)
    other: Inner | None = None


def test_plain_values_become_a_frozen_object() -> None:
    config = build(Outer, {"width": 8, "training": {"epochs": 2}})
    assert (config.width, config.training.epochs, config.training.kind) == (8, 2, "full")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.width = 9  # type: ignore[misc]
    assert build(Outer, plain(config)) == config


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"widht": 8}, "file, system x: unknown key 'widht', did you mean 'width'?"),
        ({"zzz": 8}, "unknown key 'zzz', known: other, rate, training, width"),
        ({"training": {"epoch": 2}}, "unknown key 'training.epoch', did you mean 'epochs'?"),
        ({"other": {"knd": "full"}}, "unknown key 'other.knd', did you mean 'kind'?"),
        ({"width": "wide"}, "width: Input should be a valid integer"),
        ({"training": {"epochs": 0}}, "training.epochs: Input should be greater than or equal to 1, got 0"),
        ({"training": {"kind": "ful"}}, "training.kind: Input should be 'full' or 'sampled', got 'ful'"),
        ({"training": 3}, "training: "),
        ({"width": "a", "rate": "b"}, "(and 1 more)"),
    ],
)
def test_mistakes_are_told_in_one_line(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Outer, values, "file, system x")
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_settings_of_the_command_line() -> None:
    settings = ["a=1", "b=0.5", "c=true", "d=[1, 2]", 'e="1"', "f=cosine", "g.h.i=2", "g.h.j=x=y", " k =", "l=1e-3"]
    expected = {"a": 1, "b": 0.5, "c": True, "d": [1, 2], "e": "1", "f": "cosine", "g": {"h": {"i": 2, "j": "x=y"}}, "k": "", "l": 1e-3}
    assert parse_settings(settings) == expected
    assert parse_settings([]) == {}


@pytest.mark.parametrize(
    ("settings", "told"), [(["a"], "write it as key=value"), (["=3"], "write it as key=value"), (["a=1", "a.b=2"], "a already has a value")]
)
def test_wrong_settings(settings: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_settings(settings)


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False), max_size=5)
)
def test_settings_round_trip(values: dict[str, Any]) -> None:
    assert parse_settings(f"{key}={str(value).lower()}" for key, value in values.items()) == values


def test_merge_goes_level_by_level() -> None:
    base = {"a": 1, "b": {"c": 2, "d": 3}}
    assert merge(base, {"b": {"d": 4}, "e": 5}) == {"a": 1, "b": {"c": 2, "d": 4}, "e": 5}
    assert merge(base, {"b": 7})["b"] == 7
    assert base == {"a": 1, "b": {"c": 2, "d": 3}}


def test_toml_files(tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text('name = "通途"\n[system]\nwidth = 3\n', encoding="utf-8")
    assert read_toml(file) == {"name": "通途", "system": {"width": 3}}
    file.write_text("a = 1\nb = \n")
    with pytest.raises(ConfigError, match=r"experiment.toml is not valid TOML: .*line 2"):
        read_toml(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_toml(file)
    with pytest.raises(ConfigError, match=r"no file .*: check the path"):
        read_toml(tmp_path / "none.toml")


def test_the_nearest_word() -> None:
    assert nearest("sasrek", ["sasrec", "ease"]) == "did you mean 'sasrec'?"
    assert nearest("q", ["sasrec", "ease"]) == "known: ease, sasrec"


def test_systems_are_made_from_plain_values() -> None:
    assert make("ease", {"l2": 3}).config.l2 == 3.0
    with pytest.raises(ConfigError, match=r"no system 'eas', did you mean 'ease'\?"):
        make("eas")
    with pytest.raises(ConfigError, match=r"system itemknn: unknown key 'neighbors', did you mean 'neighbours'\?"):
        make("itemknn", {"neighbors": 3})


@pytest.mark.parametrize("name", sorted(cards()))
def test_every_configuration_can_be_written_down(name: str) -> None:
    kind = system_class(name).Config
    assert build(kind, plain(kind())) == kind()
    told = " ".join(above.__doc__ or "" for above in kind.__mro__[:-1])
    assert [field.name for field in dataclasses.fields(kind) if field.name not in told] == [], "every setting is explained"
