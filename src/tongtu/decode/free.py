"""Beam search without a trie: the likeliest texts behind each prompt, whatever they say.

The rule, the same as that of transformers but for the last sentence: of all tokens behind all open beams, the best `beams` count. Those among them
that end a text are kept aside, where they take no beam's place, with the sum of the log-probabilities of all its tokens and of its end; the best
`beams` that end nothing stay open. The best `k` texts of all steps are the answer. An open beam that cannot beat them is closed, since no
sum rises any more. A text has at least one token, and one that is as long as may be ends there, whatever that costs it.

Shapes: B prompts, W beams, V vocabulary, R ways to go on from all beams, E ended texts that are kept, T tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tongtu.decode.beam import Decoder

_CLOSED = float("-inf")
_NONE = -1


class Written(NamedTuple):
    """The best texts behind each prompt, best first: `tokens` int64[B, k, T] without their ends, -1 behind; `scores` float32[B, k], -inf for no text."""

    tokens: Tensor
    scores: Tensor


@torch.no_grad()
def free_search(decoder: Decoder, end: int, beams: int, k: int, most: int, length_penalty: float = 0.0) -> Written:
    """The texts that the decoder finds likeliest, all different in their tokens.

    Args:
        decoder: Behind its prompts the texts are written.
        end: The token that ends a text.
        beams: How many unfinished texts are followed at once.
        k: How many texts are asked for.
        most: Tokens of a text, its end left out.
        length_penalty: Scores are divided by the number of tokens, the end included, to this power; 0 leaves the sums.
    """
    assert beams > 0 and k > 0 and most > 0
    logits = decoder.start()[:, None]
    rows, device = len(logits), logits.device
    text_BWT = torch.zeros(rows, 1, 0, dtype=torch.int64, device=device)
    score_BW = torch.zeros(rows, 1, device=device)
    found = Written(torch.full((rows, k, most), _NONE, device=device), torch.full((rows, k), _CLOSED, device=device))
    for depth in range(most + 1):
        ended_BW, value_BR, token_BR, parent_BR = _next(logits, score_BW, end, beams)
        if depth == most:
            found = _best(found, text_BWT, ended_BW / (depth + 1) ** length_penalty)
            break
        if depth:
            found = _best(found, text_BWT, _counting(ended_BW, value_BR, beams) / (depth + 1) ** length_penalty)
        score_BW, place = value_BR.topk(min(beams, value_BR.shape[1]), 1)
        longest = most + 1 if length_penalty > 0 else depth + 2
        score_BW = score_BW.masked_fill(score_BW / longest**length_penalty < found.scores[:, -1:], _CLOSED)
        width = int((score_BW > _CLOSED).sum(1).max())
        if width == 0:
            break
        score_BW, place = score_BW[:, :width], place[:, :width]
        closed = score_BW == _CLOSED
        token_BW, parent_BW = token_BR.gather(1, place).masked_fill(closed, 0), parent_BR.gather(1, place).masked_fill(closed, 0)
        text_BWT = torch.cat([text_BWT.gather(1, parent_BW[..., None].expand(-1, -1, depth)), token_BW[..., None]], 2)
        logits = decoder.step(token_BW, parent_BW)
    return found


def _next(logits_BWV: Tensor, score_BW: Tensor, end: int, beams: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores float32[B, W] of each beam if it ends, and of the best ways to go on: float32[B, R], with tokens and parents int64[B, R]."""
    logits_BWV = logits_BWV.float()
    base_BW = score_BW - logits_BWV.logsumexp(2)
    assert not (base_BW.isnan() & (score_BW > _CLOSED)).any(), "the decoder's logits are not numbers"
    base_BW = torch.where(score_BW > _CLOSED, base_BW, _CLOSED)
    ended_BW = logits_BWV[..., end] + base_BW
    # one more than there are beams, since the end itself may be among them
    value, token = logits_BWV.topk(min(beams + 1, logits_BWV.shape[2]), 2)
    value = (value + base_BW[..., None]).masked_fill(token == end, _CLOSED)
    parent = torch.arange(score_BW.shape[1], device=token.device)[:, None].expand(token.shape)
    return ended_BW, value.flatten(1), token.flatten(1), parent.flatten(1)


def _counting(ended_BW: Tensor, value_BR: Tensor, beams: int) -> Tensor:
    """The scores of ends, -inf for those that are not among the best `beams` ways to go on."""
    both = torch.cat([value_BR, ended_BW], 1)
    least = both.topk(min(beams, both.shape[1]), 1).values[:, -1:]
    return ended_BW.masked_fill(ended_BW < least, _CLOSED)


def _best(found: Written, text_BWT: Tensor, score_BW: Tensor) -> Written:
    """The best texts of those kept so far and new ones."""
    k, most = found.tokens.shape[1:]
    padded = functional.pad(text_BWT, (0, most - text_BWT.shape[2]), value=_NONE)
    scores, place = torch.cat([found.scores, score_BW], 1).topk(k, 1)
    tokens = torch.cat([found.tokens, padded], 1).gather(1, place[..., None].expand(-1, -1, most))
    return Written(tokens.masked_fill((scores == _CLOSED)[..., None], _NONE), scores)
