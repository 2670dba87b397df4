"""Popular: the items met most often, for everybody alike.

Idea: no personalisation at all. It is the floor that every other system must clear, and what the personalised baselines
answer when nothing is known of a user.

Ours differs in two options: only a recent window may count (what is popular now), and users may be grouped by one attribute
of the request (what is popular with people like you).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import FitOptions, Request, RequestBatch, Scores, TopK
from tongtu.errors import DataError
from tongtu.ranking import top_k
from tongtu.systems.baselines._histories import popularity_share, require_events

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from tongtu.data.dataset import Dataset
    from tongtu.vocab import Vocab

_SECONDS_A_DAY = 86_400


class Popular:
    """Counts of events, overall and by group of users."""

    @configuration
    class Config:
        """Settings of Popular.

        Attributes:
            days: Only events of the last so many days of the log count; None counts all.
            attribute: The user attribute that makes groups, or None for one group. Who has no known value gets the overall order.
        """

        days: float | None = Field(None, gt=0)
        attribute: str | None = None

    items: Vocab
    item_text: pl.Series | None

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or self.Config()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions | None = None) -> Self:
        """Count.

        Raises:
            DataError: If the data set lacks the times or the attribute that the configuration asks for.
        """
        started = time.perf_counter()
        require_events(data)
        self.items, self.item_text = data.items, data.item_text
        event = self._recent(data)
        overall = np.bincount(data.item[event], minlength=data.items.size)
        group, self._groups = self._grouping(data)
        place = group[data.event_user[event]] * np.int64(data.items.size) + data.item[event]
        counts = np.bincount(place, minlength=(len(self._groups) + 1) * data.items.size).reshape(-1, data.items.size)
        counts[0] = overall
        # Row 0 is everybody. In a group, the overall share (below 1) decides between items the group met equally often.
        self._counts = counts.astype(np.float32)
        self._counts[1:] += popularity_share(overall)
        seed = options.seed if options else 0
        self.provenance = {"seed": seed, "fit_seconds": time.perf_counter() - started, "parameters": int(self._counts[:, 1:].size)}
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Counts float32[n, width] of the items with codes in `items`."""
        return self._counts[self._rows(RequestBatch.of(requests)), items]

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder."""
        hub.save(path, self, {"counts": self._counts}, {"groups": self._groups})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.item_text = folder.items, folder.item_text
        system._counts, system._groups = folder.arrays["counts"], list(folder.facts["groups"])
        system.item_text, system.provenance = folder.item_text, dict(folder.facts["provenance"])
        return system

    def _recent(self, data: Dataset) -> npt.NDArray[np.int64] | slice:
        """Which events count."""
        if self.config.days is None:
            return slice(None)
        if data.time is None:
            raise DataError(f"{data.name} has no times, so no recent window can be cut: import it with --time, or leave popular's days unset")
        return np.flatnonzero(data.time > data.time.max() - self.config.days * _SECONDS_A_DAY)

    def _grouping(self, data: Dataset) -> tuple[npt.NDArray[np.int64], list[str]]:
        """The group of each user code, int64[users.size] with 0 for none, and the groups' names, group 1 first."""
        nobody = np.zeros(data.users.size, np.int64)
        if self.config.attribute is None:
            return nobody, []
        if self.config.attribute not in data.user_attributes.columns:
            known = ", ".join(data.user_attributes.columns) or "none"
            raise DataError(f"{data.name} has no user attribute {self.config.attribute!r} (known: {known}): choose one of them or leave attribute unset")
        value = data.user_attributes[self.config.attribute].cast(str)
        names = value.drop_nulls().unique().sort().to_list()
        nobody[1:] = value.replace_strict(names, range(1, len(names) + 1), default=0).fill_null(0).to_numpy()
        return nobody, names

    def _rows(self, requests: RequestBatch) -> npt.NDArray[np.int64]:
        """The row of counts for each request; a forgotten attribute counts as unknown."""
        attribute = self.config.attribute
        if attribute is None or requests.attributes is None:
            return np.zeros(len(requests), np.int64)
        row = {name: place for place, name in enumerate(self._groups, start=1)}
        found = np.fromiter((row.get(known.get(attribute, ""), 0) for known in requests.attributes), np.int64, len(requests))
        if requests.forget is not None:
            found[np.fromiter((attribute in forgotten for forgotten in requests.forget), np.bool_, len(requests))] = 0
        return found
