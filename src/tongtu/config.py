"""From TOML and `--set key=value` to frozen, typed configuration objects.

A `Config` is a frozen pydantic dataclass made with `@configuration`: unknown keys and wrong types are refused, and the
message names the nearest key that exists.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, dataclass_transform, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from tongtu.errors import ConfigError

T = TypeVar("T")

_NAMED = 12  # words that an error lists


@dataclass_transform(frozen_default=True, kw_only_default=True)
def configuration(cls: type[T]) -> type[T]:
    """A frozen dataclass with keyword-only fields that are checked and may not be extended."""
    rules = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
    return cast(type[T], pydantic_dataclass(frozen=True, kw_only=True, config=rules)(cls))


def build(cls: type[T], values: Mapping[str, Any], where: str = "configuration") -> T:
    """Make a `Config` from plain values.

    Args:
        cls: The configuration class.
        values: Plain values, nested where the class nests.
        where: What to call the source in an error ("experiment.toml, system sasrec").

    Raises:
        ConfigError: For an unknown key, naming the nearest one, and for a value of the wrong type or range.
    """
    _refuse_unknown(cls, values, where, "")
    try:
        return TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{where}: {key or cls.__name__}: {message}, got {first['input']!r}{more}") from None


def plain(config: Any) -> dict[str, Any]:
    """A `Config` as plain values that JSON and TOML can hold."""
    values: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file.

    Raises:
        ConfigError: If the file is missing, not UTF-8 or not TOML; the message gives the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no file {path}: check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Nested values of `key=value` settings: `training.epochs=5` becomes {"training": {"epochs": 5}}.

    A value is read as TOML (5, 0.1, true, [1, 2], "text"), and as plain text where it is not TOML.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {setting!r}: write it as key=value, for example --set training.epochs=5")
        *parents, leaf = key.strip().split(".")
        level = values
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise ConfigError(f"--set {setting!r}: {parent} already has a value of its own")
        level[leaf] = _value(text)
    return values


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` laid on top, level by level."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def nearest(word: str, known: Iterable[str]) -> str:
    """"did you mean 'x'?" for the closest known word, or the beginning of the list of what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known[:_NAMED])}{more}"


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _refuse_unknown(cls: Any, values: Mapping[str, Any], where: str, prefix: str) -> None:
    if not dataclasses.is_dataclass(cls):
        return
    hints = get_type_hints(cls)
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"{where}: unknown key {prefix + key!r}, {nearest(key, hints)}")
        if isinstance(value, Mapping):
            for kind in (hints[key], *get_args(hints[key])):
                if dataclasses.is_dataclass(kind):
                    _refuse_unknown(kind, value, where, f"{prefix}{key}.")
                    break
