"""Log-probabilities of continuations behind one prompt that is read once.

Shapes: C continuations, T tokens, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_LOGITS_AT_ONCE = 1 << 24


@torch.inference_mode()
def continuation_likelihoods(net: Any, prompt: Sequence[int], tokens: Sequence[Sequence[int]], device: torch.device) -> npt.NDArray[np.float32]:
    """Summed log-probabilities float32[C] of each continuation's tokens behind the prompt's, by a causal model of transformers."""
    length = np.array([len(one) for one in tokens], np.int64)
    read = net(input_ids=torch.tensor([list(prompt)], device=device), use_cache=True, logits_to_keep=1)
    first = torch.log_softmax(read.logits[0, -1].float(), -1)
    summed = np.zeros(len(tokens), np.float32)
    order = np.argsort(length, kind="stable")
    for rows in np.array_split(order, max(1, -(-int(length.sum()) * len(first) // _LOGITS_AT_ONCE))):
        if len(rows):
            summed[rows] = _behind(net, read.past_key_values, len(prompt), [list(tokens[row]) for row in rows], first)
    return summed


def _behind(net: Any, past: Any, before: int, tokens: list[list[int]], first_V: Tensor) -> npt.NDArray[np.float32]:
    """Summed log-probabilities of continuations behind a prompt whose keys and values are at hand."""
    width = max(len(one) for one in tokens)
    ids = torch.zeros(len(tokens), width, dtype=torch.int64)
    real = torch.zeros(len(tokens), width, dtype=torch.bool)
    for row, one in enumerate(tokens):
        ids[row, : len(one)], real[row, : len(one)] = torch.tensor(one), True
    device = first_V.device
    ids, real = ids.to(device), real.to(device)
    summed = first_V[ids[:, 0]]
    if width > 1:
        cache = _repeated(past, len(tokens))
        mask = torch.cat([torch.ones(len(tokens), before, dtype=torch.int64, device=device), real[:, :-1].long()], 1)
        position = before + torch.arange(width - 1, device=device).expand(len(tokens), -1)
        logits = net(input_ids=ids[:, :-1], attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True).logits
        likely = torch.log_softmax(logits.float(), -1).gather(2, ids[:, 1:, None])[..., 0]
        summed = summed + (likely * real[:, 1:]).sum(1)
    result: npt.NDArray[np.float32] = summed.float().cpu().numpy()
    return result


def _repeated(past: Any, times: int) -> Any:
    """The key-value cache for so many rows; the one given stays as it is."""
    copied = copy.deepcopy(past)
    copied.batch_repeat_interleave(times)
    return copied
