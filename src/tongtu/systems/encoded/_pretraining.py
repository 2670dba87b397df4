"""Pre-training of UniSRec: several data sets in mixed batches."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from tongtu.config import configuration
from tongtu.core import FitOptions
from tongtu.data.dataset import Dataset
from tongtu.data.public import load
from tongtu.nn.contrastive import Contrastive, ContrastiveConfig
from tongtu.nn.text_sequence import TextSequenceNet, TextSequences, Vectors
from tongtu.systems.encoded._catalogue import catalogue_vectors, fewer_words
from tongtu.text.encoder import ItemEncoder
from tongtu.train.batches import training_sequences
from tongtu.train.loop import train
from tongtu.train.settings import Training

_MISSING_WORDS = 0.15


@configuration
class Pretraining(Training):
    """How to pre-train: the settings of the training loop, and those of the objectives; there is nothing to validate on, so all epochs are trained."""

    epochs: Annotated[int, Field(ge=1)] = 10
    tokens: Annotated[int, Field(ge=1)] = 4096
    objective: ContrastiveConfig = Field(default_factory=ContrastiveConfig)


@dataclass(frozen=True)
class Pretrained:
    """What came of pre-training: weights by name, and how it went."""

    weights: dict[str, torch.Tensor]
    facts: dict[str, Any]


def sources(names: Sequence[str], data: Dataset) -> list[Dataset]:
    """The data sets of these names or folders; the one that is fitted on is taken as it is given, without what is held out."""
    found = [load(name) for name in names]
    return [data if (one.items, one.users) == (data.items, data.users) else one for one in found]


def pretrained(
    logs: Sequence[Dataset],
    encoder: ItemEncoder,
    network: Callable[[Vectors], TextSequenceNet],
    settings: Pretraining,
    window: int,
    options: FitOptions,
    windows: Literal["last", "all"] = "last",
) -> Pretrained:
    """The network's weights after contrastive learning on all logs at once.

    Args:
        logs: Data sets with item texts.
        encoder: Of the texts.
        network: Makes the network for a table of text vectors.
        settings: How.
        window: Most events in a sequence.
        options: Seed, checkpoint and device of the fit this is a part of.
        windows: Which events, see `training_sequences`.
    """
    started = time.monotonic()
    vectors = _stacked([catalogue_vectors(encoder, log.item_text, options.quiet) for log in logs])
    fewer = [fewer_words(log.item_text, _MISSING_WORDS) for log in logs] if settings.objective.sequence_weight else []
    poorer = _stacked([catalogue_vectors(encoder, texts, options.quiet) for texts in fewer]) if fewer else vectors
    examples = _joined(logs, vectors, window, windows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        net = network(vectors)
    objective = Contrastive(settings.objective, torch.from_numpy(poorer))
    options = dataclasses.replace(options, validate=None, checkpoint=_state(options), tracker=None)
    done = train(net, objective, examples, settings, options)
    net.to("cpu")
    facts = {
        "data": [{"name": log.name, "fingerprint": log.fingerprint, "events": log.n_events} for log in logs],
        "epochs": done.epochs,
        "curves": done.curves,
        "seconds": time.monotonic() - started,
    }
    return Pretrained({name: tensor.detach().clone() for name, tensor in net.state_dict().items()}, facts)


def _stacked(tables: Sequence[Vectors]) -> Vectors:
    """One table for all catalogues, each behind the one before, under a single row for `PAD`."""
    return np.concatenate([tables[0][:1], *(table[1:] for table in tables)])


def _joined(logs: Sequence[Dataset], vectors: Vectors, window: int, windows: Literal["last", "all"]) -> TextSequences:
    """The sequences of all logs, with codes of the joint table."""
    parts = [training_sequences(log, window, windows) for log in logs]
    first_item = np.cumsum([0, *(len(log.items) for log in logs[:-1])])
    first_event = np.cumsum([0, *(log.n_events for log in logs[:-1])])
    return TextSequences(
        item=np.concatenate([log.item + first for log, first in zip(logs, first_item, strict=True)]).astype(np.int32),
        stop=np.concatenate([part.stop + first for part, first in zip(parts, first_event, strict=True)]),
        length=np.concatenate([part.length for part in parts]),
        vectors=vectors,
    )


def forget(options: FitOptions) -> None:
    """Remove the state of pre-training, which nothing needs once what follows it is done."""
    folder = _state(options)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _state(options: FitOptions) -> Path | None:
    """The folder for the state of pre-training, beside that of the fit it is a part of."""
    folder = options.checkpoint
    return None if folder is None else folder.with_name(f"{folder.name}.pretraining")
