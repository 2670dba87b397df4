"""What everything that stands on a pretrained model shares: the events it learns from, and its model folder."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import nn

from tongtu import hub
from tongtu.core import Offsets, Recommender
from tongtu.data.dataset import Dataset
from tongtu.errors import DataError, ModelError
from tongtu.nn.answer import arrays_of, load_arrays
from tongtu.systems.pretrained._base import FOLDER, Base


class Tuned(Recommender, Protocol):
    """A recommender around a network that holds a pretrained one as its part `base`."""

    item_text: Any
    base: Base
    net: Any
    provenance: dict[str, Any]


def first_events(data: Dataset, most: int, least: int) -> tuple[npt.NDArray[np.int64], Offsets, Offsets]:
    """The beginnings of histories: rows of users, and stop and length of each one's first events in the log.

    Args:
        data: The data set.
        most: Events of each user.
        least: Users with fewer are left out.

    Raises:
        DataError: If nobody has as many.
    """
    users = np.flatnonzero(data.lengths >= least)
    if not len(users):
        raise DataError(f"{data.name}: no user has {least} events, so there is nothing to learn from: collect more, or filter less")
    length = np.minimum(data.lengths[users], most)
    return users, data.offset[users] + length, length


def own_net(base: Base) -> Any:
    """A copy of the base's network that may be changed."""
    base.system.net.eval()
    net = copy.deepcopy(base.system.net)
    net.requires_grad_(True)
    return net


def tuned_facts(system: Tuned) -> dict[str, Any]:
    """What `provenance` says of the base, and how much was tuned."""
    tuned = sum(parameter.numel() for parameter in system.net.parameters() if parameter.requires_grad)
    made = {name: system.base.system.provenance[name] for name in ("seed", "epochs", "trained_on") if name in system.base.system.provenance}
    return {"tuned": tuned, "base": {"fingerprint": system.base.fingerprint, "seconds": system.base.seconds, **made}}


def save(system: Tuned, path: Path, whole: bool, facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a model folder with what was added to the base, and the base where it has changed, lies nowhere else or shall be carried.

    Args:
        system: The system.
        path: The folder.
        whole: Whether the base's own weights were tuned; the tuned base is then held, as a model folder that also opens alone.
        facts: Plain values.
        arrays: Further arrays.
    """
    held = copy.copy(system.base.system)
    held.net = system.net.base if whole else held.net
    parts = {FOLDER: held} if whole or system.config.carry or system.base.folder is None else {}
    slim = copy.copy(system)
    slim.item_text = None  # the base's folder has the texts
    added = {name: array for name, array in arrays_of(system.net).items() if not name.startswith("net.base.")}
    hub.save(path, slim, {**added, **arrays}, {**facts, "base": system.base.facts}, parts)


def load_added(net: nn.Module, folder: hub.ModelFolder) -> None:
    """Put the weights that were added to the base into a network that holds it.

    Raises:
        ModelError: If names or shapes do not fit.
    """
    if any(name.startswith("net.base.") for name in folder.arrays):
        raise ModelError(f"{folder.path} holds weights of its base: fit the model again")
    load_arrays(net, folder.arrays, folder.path, kept="base.")
