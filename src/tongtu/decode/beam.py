"""Beam search along a trie: batched, on the device, without a call of Python for a token or a beam.

The rule, the same as that of transformers but for the last sentence: a beam's score is the sum of the log-probabilities of
its tokens over the *whole* vocabulary, not over the legal ones alone. Of all legal tokens behind all open beams, the best
`beams` that end no item stay open. Those that end an item are kept aside, where they take no beam's place; the best `k` of
all steps are the answer, wherever they stood among their step's open beams.

An open beam that cannot beat the `k` best ends found so far is closed, since no sum rises any more, and the search is over
where none is open. With as many beams as legal items nothing is ever cut, and the answer is the exact ranking.

Shapes: B requests, W beams, V vocabulary, F legal tokens behind all beams, R the most of them behind one request's beams.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from tongtu.core import PAD
from tongtu.decode.trie import Trie

_CLOSED = float("-inf")


class Decoder(Protocol):
    """A network that goes on writing behind B prompts, beam by beam.

    One decoder serves one search: `start` once, then `step` after `step`.
    """

    def start(self) -> Tensor:
        """Logits [B, V] of the first token behind each prompt."""
        ...

    def step(self, token_BW: Tensor, parent_BW: Tensor) -> Tensor:
        """Logits [B, W, V] of the token behind each beam.

        W may differ from step to step. Beams that are closed are filled up with token 0 and parent 0; what comes back
        for them does not matter.

        Args:
            token_BW: int64, the token each beam takes now.
            parent_BW: int64, the beam of the step before (0 in the first step) that each beam goes on from.
        """
        ...


class Found(NamedTuple):
    """The best items of each request: `items` int32[B, k] and `scores` float32[B, k], best first, `PAD` and -inf behind."""

    items: Tensor
    scores: Tensor


@torch.no_grad()
def beam_search(decoder: Decoder, trie: Trie, beams: int, k: int, allowed: Tensor | None = None, length_penalty: float = 0.0) -> Found:
    """The items whose sequences the decoder finds likeliest, each item once.

    Args:
        decoder: Behind its prompts the items are written.
        trie: The items, on the decoder's device.
        beams: How many unfinished sequences are followed at once.
        k: How many items are asked for.
        allowed: bool[B, I + 1] by item code, or None for every item. It limits each request exactly: no beam is spent on what leads to no allowed item.
        length_penalty: Scores are divided by the number of tokens to this power; 0 leaves the sums.
    """
    assert beams > 0 and k > 0
    logits = decoder.start()
    rows, device = len(logits), logits.device
    assert allowed is None or (allowed.shape == (rows, trie.n_items + 1) and allowed.dtype == torch.bool)
    before = None if allowed is None else _allowed_before(trie, allowed)
    logits = logits[:, None]
    node_BW = torch.zeros(rows, 1, dtype=torch.int64, device=device)
    score_BW = torch.zeros(rows, 1, device=device)
    ended = (torch.zeros(rows, 0, dtype=torch.int64, device=device), torch.zeros(rows, 0, device=device))
    for depth in range(1, trie.depth + 1):
        value_BR, node_BR, beam_BR = _legal(logits, trie, node_BW, score_BW, before)
        ends = trie.first[node_BR] == trie.first[node_BR + 1]
        ended = _best(ended, node_BR, value_BR.masked_fill(~ends, _CLOSED) / depth**length_penalty, k)
        score_BW, place = value_BR.masked_fill(ends, _CLOSED).topk(min(beams, value_BR.shape[1]), 1)
        longest = trie.depth if length_penalty > 0 else depth + 1
        if ended[1].shape[1] == k:
            score_BW = score_BW.masked_fill(score_BW / longest**length_penalty < ended[1][:, -1:], _CLOSED)
        width = int((score_BW > _CLOSED).sum(1).max())
        if width == 0:
            break
        score_BW, place = score_BW[:, :width], place[:, :width]
        closed = score_BW == _CLOSED
        node_BW, beam_BW = node_BR.gather(1, place).masked_fill(closed, 0), beam_BR.gather(1, place).masked_fill(closed, 0)
        logits = decoder.step(trie.token[node_BW], beam_BW)
    return _items(trie, *ended, k, allowed)


def _allowed_before(trie: Trie, allowed: Tensor) -> Tensor:
    """int32[B, I + 1], how many allowed items stand before each place of the trie's order: a node is open where its range holds one."""
    return functional.pad(torch.cumsum(allowed[:, trie.item.long()], 1, dtype=torch.int32), (1, 0))


def _legal(logits_BWV: Tensor, trie: Trie, node_BW: Tensor, score_BW: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Scores float32[B, R], nodes and beams int64[B, R] of all legal tokens behind the open beams, -inf where there is none.

    The tokens lie flat behind each other on the way: a node with thousands of children costs its siblings nothing.
    """
    rows, width, _ = logits_BWV.shape
    norm = logits_BWV.float().logsumexp(2).flatten()
    node, score = node_BW.flatten(), score_BW.flatten()
    count = torch.where(score > _CLOSED, trie.first[node + 1] - trie.first[node], 0)
    each = count.view(rows, width).sum(1)
    total, most, broken = torch.stack([each.sum(), each.max(), (norm.isnan() & (count > 0)).sum()]).tolist()
    assert not broken, "the decoder's logits are not numbers"
    beam = torch.repeat_interleave(count, output_size=total)
    row = beam // width
    place = torch.arange(total, device=node.device)
    child = (trie.first[node] - count.cumsum(0) + count)[beam] + place
    value = logits_BWV.flatten(0, 1)[beam, trie.token[child]].float() + (score - norm)[beam]
    if before is not None:
        value = value.masked_fill(before[row, trie.high[child]] == before[row, trie.low[child]], _CLOSED)
    column = place - (each.cumsum(0) - each)[row]
    shape = (rows, most)
    value_BR = torch.full(shape, _CLOSED, device=node.device)
    node_BR, beam_BR = torch.zeros(shape, dtype=torch.int64, device=node.device), torch.zeros(shape, dtype=torch.int64, device=node.device)
    value_BR[row, column], node_BR[row, column], beam_BR[row, column] = value, child, beam % width
    return value_BR, node_BR, beam_BR


def _best(ended: tuple[Tensor, Tensor], node_BR: Tensor, score_BR: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` best ends, of those kept so far and new ones, best first."""
    score, place = score_BR.topk(min(k, score_BR.shape[1]), 1)
    node, score = torch.cat([ended[0], node_BR.gather(1, place)], 1), torch.cat([ended[1], score], 1)
    score, place = score.topk(min(k, score.shape[1]), 1)
    return node.gather(1, place), score


def _items(trie: Trie, node_BE: Tensor, score_BE: Tensor, k: int, allowed: Tensor | None) -> Found:
    """The items of the ends, best first and equal ones by rising code."""
    rows, width = node_BE.shape
    device = node_BE.device
    node, score = node_BE.flatten(), score_BE.flatten()
    count = torch.where(score > _CLOSED, trie.high[node] - trie.low[node], 0)
    end = torch.repeat_interleave(count)
    item = trie.item[(trie.low[node] - count.cumsum(0) + count)[end] + torch.arange(len(end), device=device)]
    row, score = end // max(width, 1), score[end]
    if allowed is not None:
        kept = allowed[row, item.long()]
        item, row, score = item[kept], row[kept], score[kept]
    order = torch.argsort(item)
    for key in (-score, row):
        order = order[torch.argsort(key[order], stable=True)]
    item, row, score = item[order], row[order], score[order]
    each = torch.bincount(row, minlength=rows)
    column = torch.arange(len(row), device=device) - (each.cumsum(0) - each)[row]
    shown = column < k
    items = torch.full((rows, k), PAD, dtype=torch.int32, device=device)
    scores = torch.full((rows, k), _CLOSED, device=device)
    items[row[shown], column[shown]], scores[row[shown], column[shown]] = item[shown], score[shown]
    return Found(items, scores)
