"""Which items have the values that a question asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FEW = 2_000
"""As many matching items are handed to the model as candidates; of more, the model is asked for more than k and the rest is dropped."""

Filters = Mapping[str, Sequence[str]]


def passes(fields: Mapping[str, Any], filters: Filters) -> bool:
    """Whether an item has, in every field that is asked for, one of the values."""
    return all(not values_of(fields.get(field)).isdisjoint(wanted) for field, wanted in filters.items())


def values_of(value: Any) -> set[str]:
    """The values of a field as text: of a list each, of "Action|Comedy" the parts and the whole."""
    if value is None:
        return set()
    if isinstance(value, bool):
        return {"true" if value else "false"}
    if isinstance(value, list | tuple):
        return {part for entry in value for part in values_of(entry)}
    text = str(value)
    return {text, *(part.strip() for part in text.split("|"))} if "|" in text else {text}
