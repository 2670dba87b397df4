"""The recommender behind a system that re-orders what another one proposes.

It proposes the few candidates that fit into a prompt, orders whatever follows them, and answers alone where a language model does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tongtu.core import PAD, Codes, FitOptions, Recommender, Request
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError
from tongtu.hub import open_model

RETRIEVER = "retriever"
"""Name of its folder within the model folder."""


@dataclass(frozen=True)
class Shortlist:
    """The candidates of one request.

    Attributes:
        shown: For the language model, best first as the retriever has them.
        order: The same, in the order in which they are to be shown.
        rest: What follows them, best first.
    """

    shown: Codes
    order: Codes
    rest: Codes


def fitted_retriever(name: str, settings: Mapping[str, Any], data: Dataset, options: FitOptions) -> Recommender:
    """A saved model, or a system of this name fitted on `data`.

    Raises:
        ConfigError: If there is no such system, or the saved model has another catalogue.
    """
    from tongtu.systems import make

    if (Path(name) / "config.json").is_file():
        model = open_model(Path(name))
        if model.items != data.items:
            raise ConfigError(f"retriever {name} has another catalogue than {data.name}: fit it on the same data")
        return model
    return make(name, settings).fit(data, dataclasses.replace(options, checkpoint=None, resume=False))


def shortlists(retriever: Recommender, requests: Sequence[Request], n: int, k: int, seed: int) -> list[Shortlist]:
    """The `n` best of each request, and what follows up to `k`.

    Candidates of a request that fit into `n` are shown in the order given; what the retriever chose is shown in an order
    drawn by `seed` and the request alone, so that its place tells nothing.
    """
    lists = retriever.recommend(requests, max(n, k)).items
    found = []
    for request, row in zip(requests, lists, strict=True):
        best = row[row != PAD]
        given = _eligible(request)
        if given is not None and len(given) <= n:
            unranked = given[~np.isin(given, best)]
            found.append(Shortlist(np.concatenate([best, unranked]), given, given[:0]))
        else:
            order = generator(request, seed).permutation(best[:n])
            found.append(Shortlist(best[:n], order, best[n:]))
    return found


def generator(request: Request, seed: int, *more: int) -> np.random.Generator:
    """Random numbers that depend on nothing but the seed, what is known of the request, and `more`."""
    known = request.history[request.history != PAD]
    return np.random.default_rng([seed, request.user or 0, len(known), int(known[-1]) if len(known) else PAD, *more])


def _eligible(request: Request) -> Codes | None:
    """The candidates of a request in their order, without `PAD`, repetitions and what it has seen; None for the whole catalogue."""
    if request.candidates is None:
        return None
    given = np.asarray(request.candidates, np.int32)
    _, first = np.unique(given, return_index=True)
    given = given[np.sort(first)]
    out = given == PAD
    if request.exclude_seen:
        out |= np.isin(given, request.history)
    eligible: Codes = given[~out]
    return eligible
