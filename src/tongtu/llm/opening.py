"""From a name in a `Config` to a language model."""

from __future__ import annotations

from tongtu.config import nearest
from tongtu.errors import ConfigError
from tongtu.llm.model import LanguageModel

_KINDS = ("smollm2", "hf:NAME_OR_PATH", "openai:NAME@URL")


def open_language_model(name: str) -> LanguageModel:
    """The model of this name; see `tongtu.llm.model`.

    Raises:
        ConfigError: For an unknown kind, naming the nearest, or a model that is not there.
        MissingExtra: If SmolLM2 must be converted and the package for that is absent.
    """
    kind, _, rest = name.partition(":")
    if name == "smollm2":
        from tongtu.llm.smollm2 import smollm2

        return smollm2()
    if kind == "hf" and rest:
        from tongtu.llm.local import open_local

        return open_local(name, rest)
    if kind == "openai" and rest:
        from tongtu.llm.http import from_name

        return from_name(name)
    raise ConfigError(f"no language model {name!r}, {nearest(name, _KINDS)}")
