"""Resumable training state: one folder, written whole, without pickle."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tongtu.errors import ModelError
from tongtu.files import check_manifest, new_folder


@dataclass
class Position:
    """Where a training run stands.

    Attributes:
        signature: Of data, network and settings; a run resumes only its own state.
        epoch, batch: What comes next; epochs count from 0.
        step: Optimiser steps taken.
        loss, targets: Sums over the current epoch so far.
        best, best_epoch: Best validation value and its epoch (from 1); stale: validations since.
        seconds: Spent so far.
        curves: One row for each epoch that ended.
    """

    signature: str
    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss: float = 0.0
    targets: int = 0
    best: float = float("-inf")
    best_epoch: int = 0
    stale: int = 0
    seconds: float = 0.0
    curves: list[dict[str, float]] = field(default_factory=list)


Weights = dict[str, Tensor]


def save(path: Path, position: Position, groups: Mapping[str, Weights], optimizer: torch.optim.Optimizer) -> None:
    """Write the state in place of the one before it.

    Args:
        path: The folder.
        position: Where the run stands.
        groups: Named sets of tensors: the weights, their average, the best so far.
        optimizer: Its moments are kept beside them.
    """
    tensors = {f"{group}/{name}": tensor.detach().cpu().contiguous().clone() for group, weights in groups.items() for name, tensor in weights.items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer/{index}/{name}"] = torch.as_tensor(value).detach().cpu().clone()
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    with new_folder(path) as folder:
        save_file(tensors, folder / "state.safetensors")
        (folder / "position.json").write_text(json.dumps(asdict(position)), encoding="utf-8")


def load(path: Path, signature: str, optimizer: torch.optim.Optimizer) -> tuple[Position, dict[str, Weights]]:
    """Read a state, and put the optimiser and the random generators where they were.

    Raises:
        ModelError: If the folder is damaged, or belongs to a run with other data, settings or seed.
    """
    check_manifest(path, ModelError, "remove it and train from the start")
    position = Position(**json.loads((path / "position.json").read_text(encoding="utf-8")))
    if position.signature != signature:
        raise ModelError(f"{path} is the state of a run with other data, settings or seed: remove it, or start without --resume")
    groups: dict[str, Weights] = {}
    moments: dict[int, dict[str, Any]] = {}
    for key, tensor in load_file(path / "state.safetensors").items():
        group, _, name = key.partition("/")
        if group == "optimizer":
            index, _, moment = name.partition("/")
            moments.setdefault(int(index), {})[moment] = tensor
        else:
            groups.setdefault(group, {})[name] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    random = groups.pop("random")
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["cuda"])
    return position, groups


def weights_of(net: nn.Module) -> Weights:
    """What training changes, by name: the parameters that learn, each once, and the buffers that the state names; not copies."""
    learning = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    everything = {name for name, _ in net.named_parameters(remove_duplicate=False)}
    return learning | {name: tensor for name, tensor in net.state_dict().items() if name not in everything}


def load_weights(net: nn.Module, weights: Weights) -> None:
    """Put back what `weights_of` gave; what does not learn stays as it is."""
    missing = weights_of(net).keys() ^ weights.keys()
    assert not missing, f"weights of another network: {sorted(missing)[:3]}"
    net.load_state_dict(weights, strict=False)


def frozen_weights(net: nn.Module) -> Iterator[Tensor]:
    """The parameters that do not learn."""
    return (parameter for parameter in net.parameters() if not parameter.requires_grad)
