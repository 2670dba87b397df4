"""What the sequence models share besides their networks: learning from a data set, and coming back from a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import polars as pl
import torch
from torch import nn

from tongtu import hub
from tongtu.core import FitOptions, Offsets, Recommender, Request, RequestBatch, Scores
from tongtu.data.dataset import Dataset
from tongtu.nn import answer
from tongtu.nn.answer import Undrawn, arrays_of, load_arrays, newest_states, score_requests, with_popularity
from tongtu.nn.batch import Batch, DrawnAnew, Examples
from tongtu.nn.carrying import carry_over
from tongtu.nn.sequence import Objective
from tongtu.train.loop import train
from tongtu.train.settings import Training
from tongtu.vocab import Vocab


class SequenceSystem(Recommender, Protocol):
    """A recommender around one network over item sequences."""

    items: Vocab
    item_text: pl.Series | None
    counts: Offsets
    net: Any
    provenance: dict[str, Any]


System = TypeVar("System", bound=SequenceSystem)


def learn(
    system: System,
    data: Dataset,
    options: FitOptions,
    network: Callable[[], nn.Module],
    objective: Objective,
    examples: Examples | DrawnAnew,
    training: Training,
) -> System:
    """Make the network, train it, and write down how."""
    started = time.monotonic()
    system.items, system.item_text, system.counts = data.items, data.item_text, data.item_counts
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        system.net = network()
    known = _go_on(system, options.start)
    if options.objective is not None:
        objective = options.objective(objective)
    validate = options.validate
    done = train(system.net, objective, examples, training, options, None if validate is None else lambda: validate(system))
    system.net.to("cpu")
    system.provenance = {
        "seed": options.seed,
        "fit_seconds": time.monotonic() - started,
        "parameters": sum(p.numel() for p in system.net.parameters()),
        "epochs": done.epochs,
        "curves": done.curves,
    }
    if known is not None:
        system.provenance["started_from_weights"] = known
    return system


def _go_on(system: SequenceSystem, start: Recommender | None) -> float | None:
    """Put the weights of `start` into the new network, if it is of the same kind; the share of the items that it knew."""
    if type(start) is not type(system) or start.config != system.config:
        return None
    places = start.items.translation(system.items)
    carry_over(system.net, start.net, places)
    return float((places[1:] > 0).mean())


def score(system: SequenceSystem, requests: Sequence[Request], items: slice, last: int, ask: Callable[[Batch], Batch] = lambda history: history) -> Scores:
    """Scores of a sequence model, and popularity for requests without a known item; see `score_requests`."""
    batch = RequestBatch.of(requests)
    scores = score_requests(system.net, batch, items, last, ask, system.config.loss.temperature)
    return with_popularity(scores, batch, system.counts, items)


def user_vectors(system: SequenceSystem, requests: Sequence[Request], last: int, ask: Callable[[Batch], Batch] = lambda history: history) -> Scores:
    """float32[n, width], the states from which `score` scores; zeros where no item of the history is known."""
    vectors: Scores = newest_states(system.net, RequestBatch.of(requests), last, ask).numpy()
    return vectors


def query_vectors(system: SequenceSystem, requests: Sequence[Request], last: int, ask: Callable[[Batch], Batch] = lambda history: history) -> Scores:
    """See `tongtu.core.Indexable`."""
    return answer.query_vectors(system.net, RequestBatch.of(requests), last, ask, system.config.loss.temperature)


def item_vectors(system: SequenceSystem) -> Scores:
    """See `tongtu.core.Indexable`."""
    return answer.catalogue_vectors(system.net, system.items.size, system.config.loss.temperature)


def save(system: SequenceSystem, path: Path) -> None:
    """Write the model folder of a sequence model."""
    hub.save(path, system, {**arrays_of(system.net), "counts": system.counts})


def reopen(kind: type[System], path: Path, network: Callable[[Any, int], nn.Module]) -> System:
    """Open the model folder of a sequence model.

    Args:
        kind: The system's class.
        path: The folder.
        network: Makes the network of a configuration and a number of item codes.
    """
    folder = hub.read(path, kind)
    config = hub.restore_config(folder, kind.Config)  # type: ignore[attr-defined]
    system = kind(config)  # type: ignore[call-arg]
    system.items, system.item_text, system.counts = folder.items, folder.item_text, folder.arrays["counts"]
    system.provenance = dict(folder.facts["provenance"])
    with Undrawn():
        system.net = network(config, system.items.size)
    load_arrays(system.net, folder.arrays, path)
    return system
