"""What is told of users in vectors: a text of theirs through an encoder, and their vector in a model of another domain."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.config import configuration
from tongtu.core import RequestBatch
from tongtu.data.attributes import told_values
from tongtu.data.dataset import Dataset
from tongtu.data.shared import shared_users
from tongtu.errors import DataError, ModelError
from tongtu.nn.answer import newest_states
from tongtu.systems.encoded._catalogue import catalogue_vectors, reader_of, same_encoder
from tongtu.systems.pretrained._base import opened
from tongtu.text.encoder import ItemEncoder, open_encoder

Told = npt.NDArray[np.float32]


@configuration
class TellingConfig:
    """What is told of users besides their attributes' values.

    Attributes:
        text: A user attribute that is a text (a bio), read by `encoder`. Named "wish", it is also what a request asks for in words.
        encoder: Who reads the text, see `tongtu.text.encoder.open_encoder`.
        source: A model folder of another domain: the vector of a user there helps to make their prompts here.
        source_data: The data set of that domain, a folder or a public name. Users are the same where their ids are.
        only_told: Learn prompts only from users of whom something is told in this way; else also from all others, of whom nothing is known then.
    """

    text: str | None = None
    encoder: str = "minilm"
    source: str | None = None
    source_data: str | None = None
    only_told: bool = False

    def __post_init__(self) -> None:
        if (self.source is None) != (self.source_data is None):
            raise ValueError("source and source_data belong together: give both, or neither")
        if self.only_told and self.source is None and self.text is None:
            raise ValueError("only_told needs something that is told: give text or source, or leave only_told out")


@dataclass(frozen=True)
class Teller:
    """Makes the vectors; all of length 1, zeros where nothing is known.

    Attributes:
        config: What is told.
        encoder: Of the text, or None.
        source: float32[users.size, W], the other domain's vectors by user code, or None.
    """

    config: TellingConfig
    encoder: ItemEncoder | None = None
    source: Told | None = None

    @classmethod
    def learn(cls, config: TellingConfig, data: Dataset) -> Self:
        """What is told of the users of a data set.

        Raises:
            DataError: If there is no such attribute, or no user of the data set in the other domain.
        """
        if config.text not in (None, "wish", *data.user_attributes.columns):
            known = ", ".join(data.user_attributes.columns) or "none"
            raise DataError(f"{data.name} has no user attribute {config.text!r} (known: {known}): choose one of them, or leave text unset")
        encoder = None if config.text is None else open_encoder(config.encoder)
        return cls(config, encoder, None if config.source is None else vectors_elsewhere(data, config.source, str(config.source_data)))

    @classmethod
    def restore(cls, config: TellingConfig, facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The teller of a model folder."""
        encoder = None if config.text is None else same_encoder(config.encoder, facts)
        return cls(config, encoder, None if config.source is None else arrays["source"])

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return (0 if self.encoder is None else self.encoder.width) + (0 if self.source is None else self.source.shape[1])

    def facts(self) -> dict[str, Any]:
        """What a model folder records."""
        return {} if self.encoder is None else reader_of(self.encoder)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What a model folder holds."""
        return {} if self.source is None else {"source": self.source}

    def of_users(self, data: Dataset) -> Told | None:
        """float32[users, W] of a data set's users, or None where nothing is told."""
        return self.of_requests(data.requests(np.arange(1, data.users.size, dtype=np.int32)))

    def of_requests(self, requests: RequestBatch) -> Told | None:
        """float32[n, W] of the users of requests, or None where nothing is told."""
        parts = []
        if self.encoder is not None:
            parts.append(catalogue_vectors(self.encoder, pl.Series(self._texts(requests), dtype=pl.String), quiet=True)[1:])
        if self.source is not None:
            user = np.zeros(len(requests), np.int64) if requests.user is None else requests.user
            parts.append(self.source[np.where(user < len(self.source), user, 0)])
        return np.concatenate(parts, 1) if parts else None

    def _texts(self, requests: RequestBatch) -> list[str]:
        name = str(self.config.text)
        texts: Sequence[Any] = told_values(requests, name)
        if name == "wish" and requests.wish is not None:
            texts = [wish or text for wish, text in zip(requests.wish, texts, strict=True)]
        if requests.forget is not None:
            texts = ["" if name in forgotten else text for forgotten, text in zip(requests.forget, texts, strict=True)]
        return [text or "" for text in texts]


def without_text(data: Dataset, config: TellingConfig) -> Dataset:
    """The data set without the attribute that is read as a text."""
    return dataclasses.replace(data, user_attributes=data.user_attributes.drop(config.text, strict=False)) if config.text else data


def told_of(data: Dataset, told: Told | None) -> Dataset:
    """The data set with the events of those alone of whom something is told.

    Raises:
        DataError: If there are none.
    """
    assert told is not None
    keep = (np.count_nonzero(told, axis=1) > 0)[data.event_user - 1]
    if not keep.any():
        raise DataError(f"{data.name} has no event of a user of whom something is told: leave only_told out")
    return data.keep_events(keep)


def vectors_elsewhere(data: Dataset, source: str, source_data: str) -> Told:
    """float32[users.size, W], the last states of the users of `data` in another domain's model, of length 1; zeros for those who are not there.

    Raises:
        ConfigError: If `source` is not a model that reads from left to right.
        DataError: If no user of `data` is there.
        ModelError: If `source` was not fitted on `source_data`.
    """
    (other, codes), (model, _) = shared_users(data, source_data, "source_data"), opened(Path(source))
    if model.items != other.items:
        raise ModelError(f"source {source} knows other items than {other.name}: give the data set it was fitted on as source_data")
    here = np.flatnonzero(codes)
    states = newest_states(model.net, other.requests(codes[here]), model.config.max_length).numpy()
    table = np.zeros((data.users.size, states.shape[1]), np.float32)
    table[here + 1] = states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return table
