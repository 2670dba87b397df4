"""Folders of semantic ids: written and checked as model folders are, with the catalogue beside the ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

import polars as pl

from tongtu import hub
from tongtu.semantic.ids import SemanticIds
from tongtu.semantic.settings import SemanticConfig
from tongtu.vocab import Vocab


@dataclass(frozen=True, eq=False)
class NamedIds:
    """Semantic ids and the items they are of.

    Attributes:
        ids: The ids.
        items: The catalogue, in code order.
        item_text: One text an item, in code order.
        provenance: How they were made: data, encoder, seed, seconds.
    """

    ids: SemanticIds
    items: Vocab
    item_text: pl.Series
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> SemanticConfig:
        """The ids' settings."""
        return self.ids.config

    def titles(self, codes: Iterable[int], longest: int = 60) -> list[str]:
        """The beginnings of the texts of these item codes; an item without text is called by its id."""
        texts = [(self.item_text[int(code) - 1] or self.items.ids[int(code) - 1]) for code in codes]
        return [text if len(text) <= longest else text[: longest - 1].rstrip() + "…" for text in texts]

    def save(self, path: Path) -> None:
        """Write the folder, replacing one that stands there only when the new one is complete.

        Raises:
            StorageError: If something else stands there, or the disk is full or read-only.
        """
        hub.save(path, cast(Any, self), self.ids.arrays(), dict(self.ids.facts))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder.

        Raises:
            ModelError: If it is missing, damaged or no folder of ids.
        """
        folder = hub.read(path, cls)
        facts = {name: value for name, value in folder.facts.items() if name != "provenance"}
        ids = SemanticIds.of_arrays(folder.arrays, hub.restore_config(folder, SemanticConfig), facts)
        text = folder.item_text if folder.item_text is not None else pl.Series("text", [""] * len(folder.items), dtype=pl.String)
        return cls(ids, folder.items, text, dict(folder.facts["provenance"]))
