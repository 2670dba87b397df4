"""A decoder whose answers can be worked out by hand, and the plain search to hold ours against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class TableDecoder:
    """Logits that depend on the prompt and on every token before, in their order: a beam that is given another's past is found out."""

    def __init__(self, rows: int, vocabulary: int, seed: int = 0, spread: float = 2.0) -> None:
        self.rows, self.vocabulary, self.seed, self.spread = rows, vocabulary, seed, spread
        self.past: list[list[tuple[int, ...]]] = []
        self.widths: list[int] = []

    def logits(self, row: int, past: tuple[int, ...]) -> Tensor:
        draw = torch.Generator().manual_seed(hash((self.seed, row, past)) % (1 << 31))
        return torch.randn(self.vocabulary, generator=draw) * self.spread

    def start(self) -> Tensor:
        self.past = [[()] for _ in range(self.rows)]
        return torch.stack([self.logits(row, ()) for row in range(self.rows)])

    def step(self, token_BW: Tensor, parent_BW: Tensor) -> Tensor:
        pairs = zip(token_BW.tolist(), parent_BW.tolist(), strict=True)
        self.past = [
            [(*self.past[row][parent], token) for token, parent in zip(tokens, parents, strict=True)] for row, (tokens, parents) in enumerate(pairs)
        ]
        self.widths.append(token_BW.shape[1])
        return torch.stack([torch.stack([self.logits(row, past) for past in beams]) for row, beams in enumerate(self.past)])

    def score(self, row: int, sequence: Sequence[int]) -> float:
        """The log-probability of a whole sequence."""
        steps = (torch.log_softmax(self.logits(row, tuple(sequence[:place])), -1)[token] for place, token in enumerate(sequence))
        return float(sum(steps))


def ranked(decoder: TableDecoder, row: int, sequences: Sequence[Sequence[int]], codes: Sequence[int], penalty: float = 0.0) -> list[tuple[int, float]]:
    """Items with their scores, best first, equal ones by rising code."""
    scores = [(code, decoder.score(row, sequences[code - 1]) / len(sequences[code - 1]) ** penalty) for code in codes]
    return sorted(scores, key=lambda pair: (-pair[1], pair[0]))
