"""From a name in a `Config` to a language model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tongtu.config import nearest
from tongtu.errors import ConfigError
from tongtu.llm.cached import CachedModel
from tongtu.llm.ledger import Ledger
from tongtu.llm.model import LanguageModel

if TYPE_CHECKING:
    from tongtu.llm.http import Patience

_KINDS = ("smollm2", "unigram", "hf:NAME_OR_PATH", "openai:NAME@URL")


def open_language_model(name: str, ledger: Ledger | None = None, cache: Path | None = None, patience: Patience | None = None) -> CachedModel:
    """The model of this name (see `tongtu.llm.model`), behind the cache and a ledger: there is no way around them.

    Args:
        name: Which.
        ledger: Counts and limits what is spent; a new one without limits if None.
        cache: File of the answers; see `CachedModel`.
        patience: How long to wait for a server and how often to try; None for the default.

    Raises:
        ConfigError: For an unknown kind, naming the nearest, or a model that is not there.
        MissingExtra: If SmolLM2 must be converted and the package for that is absent.
    """
    return CachedModel(_opened(name, patience), ledger, cache)


def _opened(name: str, patience: Patience | None) -> LanguageModel:
    kind, _, rest = name.partition(":")
    if name == "unigram":
        from tongtu.llm.unigram import UnigramModel

        return UnigramModel()
    if name == "smollm2":
        from tongtu.llm.smollm2 import smollm2

        return smollm2()
    if kind == "hf" and rest:
        from tongtu.llm.local import open_local

        return open_local(name, rest)
    if kind == "openai" and rest:
        from tongtu.llm.http import from_name

        return from_name(name, patience)
    raise ConfigError(f"no language model {name!r}, {nearest(name, _KINDS)}")
