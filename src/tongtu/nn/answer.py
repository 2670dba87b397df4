"""From a trained sequence network to scores for requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tongtu.core import Offsets, RequestBatch, Scores
from tongtu.errors import ModelError
from tongtu.nn.batch import Batch, request_batch
from tongtu.nn.losses import scaled
from tongtu.nn.sequence import SequenceModel

_EVENTS_AT_ONCE = 2_048
_DRAWING = ("uniform_", "normal_")


def score_requests(
    net: SequenceModel,
    requests: RequestBatch,
    items: slice,
    last: int,
    ask: Callable[[Batch], Batch] = lambda batch: batch,
    temperature: float | None = None,
) -> Scores:
    """Scores float32[n, width of the slice] of a network for each request.

    Args:
        net: The network, in evaluation mode.
        requests: Any histories; those without a known item get zeros.
        items: Item codes to score.
        last: Events of history the network reads.
        ask: Turns histories into the question (BERT4Rec appends [MASK]).
        temperature: Of cosine scores, None for dot products.
    """
    with torch.inference_mode():
        states, vectors = newest_states(net, requests, last, ask), net.item_vectors(items).float().cpu()
        left, right = scaled(states, vectors, temperature)
        scores: Scores = (left @ right.T).numpy()
        return scores


def newest_states(net: SequenceModel, requests: RequestBatch, last: int, ask: Callable[[Batch], Batch] = lambda batch: batch) -> Tensor:
    """States float32[n, D] after the newest known event of each history, zeros where there is none; the arguments are those of `score_requests`."""
    with torch.inference_mode():
        batch = request_batch(requests, last)
        vector = net.item_vectors(slice(0, 1))
        if len(requests) and batch.item.numel() <= _EVENTS_AT_ONCE and int(batch.length.min()) > 0:
            return _states(net, ask(batch), vector.device)
        states = torch.zeros(len(requests), vector.shape[1])
        known = torch.argsort(batch.length, stable=True)
        known = known[batch.length[known] > 0]
        for place in blocks(batch.length[known]):
            rows = known[place]
            states[rows] = _states(net, ask(trimmed(batch, rows)), vector.device)
        return states


def _states(net: SequenceModel, batch: Batch, device: torch.device) -> Tensor:
    """States [B, D] at the end of each sequence."""
    hidden = net.hidden(batch.to(device))
    return hidden[torch.arange(len(batch.length)), batch.length - 1].float().cpu()


def query_vectors(
    net: SequenceModel, requests: RequestBatch, last: int, ask: Callable[[Batch], Batch] = lambda batch: batch, temperature: float | None = None
) -> Scores:
    """float32[n, D], whose products with `catalogue_vectors` are what `score_requests` gives; zeros for requests without a known item."""
    states = newest_states(net, requests, last, ask)
    left, _ = scaled(states, states[:0], temperature)
    vectors: Scores = left.numpy()
    return vectors


def catalogue_vectors(net: SequenceModel, size: int, temperature: float | None = None) -> Scores:
    """float32[size, D], one vector for each item code; where scores are no cosines, the network's own memory."""
    with torch.inference_mode():
        vectors = net.item_vectors(slice(0, size)).float().cpu()
        found: Scores = (vectors if temperature is None else functional.normalize(vectors, dim=-1)).numpy()
        return found


def with_popularity(scores: Scores, requests: RequestBatch, counts: Offsets, items: slice) -> Scores:
    """`scores` with popularity in the rows of requests that hold no known item: the best answer to someone unknown."""
    row, place = requests.events()
    known = np.zeros(len(requests), np.bool_)
    known[row[requests.item[place] != 0]] = True
    if not known.all():
        scores[~known] = np.log1p(counts[items]).astype(np.float32)
    return scores


def arrays_of(net: nn.Module) -> dict[str, npt.NDArray[Any]]:
    """The network's weights as arrays, for `tongtu.hub.save`."""
    return {f"net.{name}": tensor.detach().cpu().numpy() for name, tensor in net.state_dict().items()}


class Undrawn(TorchFunctionMode):
    """Inside, weights are zeros instead of drawn: a network that is made to get saved ones needs none, and a large table takes seconds."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return named.get("tensor", args[0] if args else None)
        if getattr(func, "__name__", "") in _DRAWING:
            return args[0].zero_()  # not left as it is: a draw that is repeated until it lies within bounds would never end
        return func(*args, **named)


def load_arrays(net: nn.Module, arrays: Mapping[str, npt.NDArray[Any]], where: object, kept: str | None = None) -> None:
    """Let a network have saved weights, which stay where they are; it is then in evaluation mode.

    Args:
        net: The network.
        arrays: Weights by name behind "net."; others are left alone.
        where: What to name in an error.
        kept: Weights whose names begin so are those that the network has already, and its other parts share.

    Raises:
        ModelError: If names or shapes do not fit.
    """
    try:
        weights = {name.removeprefix("net."): torch.from_numpy(array) for name, array in arrays.items() if name.startswith("net.")}
        odd = net.load_state_dict(weights, strict=kept is None, assign=True)
        names = [*odd.unexpected_keys, *(name for name in odd.missing_keys if not name.startswith(kept or ""))]
        if names:
            raise RuntimeError(f"missing or unknown: {', '.join(names[:3])}")
    except RuntimeError as error:
        raise ModelError(f"{where}: the weights do not fit the configuration ({str(error).splitlines()[-1].strip()}): fit the model again") from None
    net.eval()


def blocks(length: Tensor) -> list[Tensor]:
    """Places of rising lengths, cut so that each block, padded to its longest row, holds at most `_EVENTS_AT_ONCE` events."""
    parts, first, length = [], 0, length.clamp_min(1)
    while first < len(length):
        near = length[first : first + _EVENTS_AT_ONCE]
        count = max(1, int((near * torch.arange(1, len(near) + 1) <= _EVENTS_AT_ONCE).sum()))
        parts.append(torch.arange(first, first + count))
        first += count
    return parts


def trimmed(batch: Batch, rows: Tensor) -> Batch:
    """Some rows, as wide as their longest history."""
    length = batch.length[rows]
    width = max(int(length.max()), 1)
    cut = [None if x is None else x[rows, :width] for x in (batch.time, batch.next_time)]
    return Batch(batch.item[rows, :width], length, time=cut[0], next_time=cut[1])
