"""Defences of one who has a pretrained model from somebody else, and a log of their own: each takes a model and gives a new one.

A provider may have taught target items in place of true ones (`tongtu.trust.backdoor`). Which items those are is asked of
`tongtu.trust.overexposure`; what is done about them, from the lightest to the heaviest:

- `reset_items` writes the vectors of some items anew, as the items they occur with in one's own log and their frequency there suggest;
- `prune` silences units of the feed-forward parts that one's own log hardly uses (Liu, Dolan-Gavitt & Garg, "Fine-Pruning", RAID 2018);
- `retune` trains on with one's own log and a larger step;
- `tongtu.trust.distillation` has a fresh model learn from one's own log and from the old one's lists.

None is told what the attack was, and the model given is never changed. A backdoor by replaced targets needs no trigger, so no unit is reserved
for it: pruning alone does little against it, and is here because it is the usual first step, to be measured beside the others.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from tongtu.core import Codes, FitOptions, Recommender, Scorer
from tongtu.data.cooccurrence import following
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError, ModelError
from tongtu.nn.hstu import HSTUBlock
from tongtu.nn.losses import make_loss
from tongtu.nn.objectives import NextItem
from tongtu.nn.sequence import Objective, SequenceModel
from tongtu.nn.transformer import FeedForward, SwiGLU
from tongtu.train.batches import training_sequences
from tongtu.train.loop import train
from tongtu.trust.overexposure import Groups, attribute_groups, frequencies, of_like

_PLAIN = FitOptions()
_ASKED = 1_000  # users whose activations and scores are looked at
_AT_ONCE = 256
_NEAR = 0.5  # how much less a neighbour one step further off weighs
_LEAST_SINGULAR = 0.1  # groups of users whose mean states hardly differ are not told apart


class Network(Recommender, Scorer, Protocol):
    """A recommender around one sequence network."""

    net: Any
    provenance: dict[str, Any]


Values = npt.NDArray[np.float64]
Model = TypeVar("Model", bound=Network)


def prune(model: Model, data: Dataset, share: float) -> Model:
    """Silence the units of each layer's feed-forward part that are least active on a log.

    Args:
        model: The model.
        data: The log.
        share: Of the units of each layer.

    Raises:
        ConfigError: If the share is not in [0, 1).
        ModelError: If the network has no such part, or stands on a frozen base.
    """
    if not 0 <= share < 1:
        raise ConfigError(f"a share of {share:g} of the units cannot be silenced: choose one from 0 up to, but not including, 1")
    new = _copied(model)
    outs = [_out(part) for part in new.net.modules() if isinstance(part, (FeedForward, SwiGLU, HSTUBlock))]
    if not outs:
        raise ModelError(f"the network of {type(model).__name__} has no feed-forward part to prune: use retune or distil")
    activity = [torch.zeros(out.in_features, dtype=torch.float64) for out in outs]
    hooks = [out.register_forward_pre_hook(_adding_to(total)) for out, total in zip(outs, activity, strict=True)]
    new.net.eval()
    new.score(data.requests(_users(data)), slice(0, 1))
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        for out, total in zip(outs, activity, strict=True):
            out.weight[:, torch.argsort(total, stable=True)[: int(share * len(total))]] = 0
    return _noted(new, model, {"kind": "prune", "share": share})


def reset_items(model: Model, data: Dataset, items: Codes, groups: Groups | None = None) -> Model:
    """Write the vectors of some items anew from a log.

    An item becomes the mean of those that stand near it in the log, moved by as little as it takes for its mean score, over everybody and over
    each group of users, to be what items of like frequency have.

    Args:
        model: A model whose network has a table of item vectors.
        data: The log, in the model's codes.
        items: int32[n], the item codes.
        groups: bool[users] by name; None takes `attribute_groups(data)`.

    Raises:
        ModelError: If there is no such table, the log has other items, or the network stands on a frozen base.
    """
    new = _copied(model)
    table = _table(new.net)
    if model.items != data.items:
        raise ModelError(f"the model knows other items than {data.name}: bring the log into the model's catalogue")
    if not len(items):
        return new
    cosine = body_config(model).loss.temperature is not None
    vectors = _rows(new.net, cosine)
    level, state = _levels(model, data, vectors, attribute_groups(data) if groups is None else groups)
    near = following(data, _NEAR)
    weight = (near + near.T).tocsr()[items].astype(np.float64).toarray()
    weight[:, items] = 0  # not from one suspicious item to another
    lone = weight.sum(axis=1) == 0
    weight[lone] = np.bincount(data.item, minlength=data.items.size) * ~np.isin(np.arange(data.items.size), items)
    fresh = weight @ vectors / weight.sum(axis=1, keepdims=True)
    turn = np.linalg.pinv(state, rcond=_LEAST_SINGULAR)
    for _ in range(5 if cosine else 1):  # what is added changes the length, which cosines do not see
        fresh += (level[items] - fresh @ state.T) @ turn.T
        fresh /= np.linalg.norm(fresh, axis=1, keepdims=True) if cosine else 1
    with torch.no_grad():
        width = table.weight.shape[1]
        length = table.weight.norm(dim=1)[1:].median() if cosine else 1.0
        table.weight[torch.from_numpy(items).long()] = torch.from_numpy(fresh[:, :width]).float() * length
        if fresh.shape[1] > width:
            new.net.bias[torch.from_numpy(items).long()] = torch.from_numpy(fresh[:, width]).float()
    return _noted(new, model, {"kind": "reset_items", "items": data.items.decode(items)})


def retune(model: Model, data: Dataset, factor: float = 3.0, epochs: int = 5, options: FitOptions = _PLAIN, objective: Objective | None = None) -> Model:
    """Train all weights on with a log.

    Args:
        model: The model.
        data: The log, in the model's codes.
        factor: Of the learning rate with which the model was trained.
        epochs: How many.
        options: As of a fit; with `validate`, the best epoch's weights are kept.
        objective: What is learned; None takes the next item, by the model's own loss.

    Raises:
        ModelError: If the network stands on a frozen base, or does not read from left to right and no objective is given.
    """
    new, body = _copied(model), body_config(model)
    if objective is None and not getattr(getattr(new.net, "base", new.net), "causal", True):
        raise ModelError(f"{type(model).__name__} does not learn the next item: give retune its objective")
    objective = objective or NextItem(make_loss(body_config(model).loss, data.item_counts))
    if options.objective is not None:
        objective = options.objective(objective)
    training = dataclasses.replace(model.config.training, epochs=epochs, learning_rate=model.config.training.learning_rate * factor)
    validate = options.validate
    new.net.requires_grad_(True)
    train(new.net, objective, training_sequences(data, body.max_length + 1), training, options, None if validate is None else lambda: validate(new))
    new.net.to("cpu")
    return _noted(new, model, {"kind": "retune", "factor": factor, "epochs": epochs})


def _copied(model: Model) -> Model:
    """The same model with a network of its own.

    Raises:
        ModelError: If a part of the network is frozen: a saved model only names that part, and what was changed there would be lost.
    """
    if getattr(model.net, "frozen", False):
        raise ModelError(f"{type(model).__name__} stands on a frozen base: defend the base, and tune again on what comes out")
    new = copy.copy(model)
    new.net = copy.deepcopy(model.net)
    return new


def _noted(new: Model, old: Model, what: dict[str, Any]) -> Model:
    new.net.eval()
    new.provenance = {**old.provenance, "defences": [*old.provenance.get("defences", []), what]}
    return new


def body_config(model: Any) -> Any:
    """The settings that hold the loss and the longest history: the model's own, or those of the base that was tuned."""
    return model.config if hasattr(model.config, "loss") else model.base.system.config


def _table(net: nn.Module) -> nn.Embedding:
    table = getattr(getattr(net, "base", net), "item", None)
    if not isinstance(table, nn.Embedding):
        raise ModelError("the network has no table of item vectors, they come from texts: use retune or distil")
    return table


def _rows(net: nn.Module, cosine: bool) -> Values:
    """The item vectors as scores see them, float64[V, D]."""
    vectors = cast(SequenceModel, net).item_vectors(slice(None)).detach().double().cpu()
    found: Values = (functional.normalize(vectors, dim=1) if cosine else vectors).numpy()
    return found


def _levels(model: Network, data: Dataset, vectors_VD: Values, groups: Groups) -> tuple[Values, Values]:
    """What mean score each item should have by its frequency, float64[V, G], everybody first; and each group's mean state, float64[G, D].

    States are not asked for but follow from the scores: a mean score is the mean state times an item's vector.
    """
    users = _users(data)
    masks = [np.ones(len(data.users), np.bool_), *groups.values()]
    masks = [mask for mask in masks if mask[users - 1].any()]
    member_GN = np.stack([mask[users - 1] for mask in masks]).astype(np.float64)
    mean_GV = np.zeros((len(masks), data.items.size))
    for first in range(0, len(users), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        mean_GV += member_GN[:, part] @ model.score(data.requests(users[part]), slice(0, data.items.size))
    mean_GV /= member_GN.sum(axis=1, keepdims=True)
    frequency = frequencies(data, np.arange(data.items.size, dtype=np.int32), data.items.size, masks)
    level = np.zeros_like(mean_GV)
    for g in range(len(masks)):
        level[g, 1:] = of_like(np.log(frequency[g, 1:]), mean_GV[g, 1:])[0]
    state_DG = np.linalg.lstsq(vectors_VD[1:], mean_GV[:, 1:].T, rcond=None)[0]
    return level.T, np.asarray(state_DG.T, np.float64)


def _users(data: Dataset) -> Codes:
    """Some users that have events."""
    able = np.flatnonzero(data.lengths > 0) + 1
    return np.sort(np.random.default_rng(0).permutation(able)[:_ASKED]).astype(np.int32)


def _out(part: nn.Module) -> nn.Linear:
    """The linear map out of a feed-forward part: its inputs are the units."""
    out = part[-1] if isinstance(part, FeedForward) else part.out
    assert isinstance(out, nn.Linear)
    return out


def _adding_to(total: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def add(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        total.add_(inputs[0].abs().double().flatten(0, -2).sum(0).cpu())

    return add
