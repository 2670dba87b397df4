"""Beams that wander about: parents are shared, swapped and forgotten, and the number of beams changes."""

from __future__ import annotations

import torch
from torch import Tensor

from tongtu.decode.beam import Decoder

WIDTHS = (5, 7, 3, 6)


def wander(decoder: Decoder, rows: int, vocabulary: int) -> list[tuple[list[list[list[int]]], Tensor]]:
    """Of each step: what every beam of every request has written, and the logits [B, W, V] behind it."""
    draw = torch.Generator().manual_seed(7)
    texts: list[list[list[int]]] = [[[]] for _ in range(rows)]
    found = [(texts, decoder.start()[:, None])]
    for width in WIDTHS:
        token = torch.randint(3, vocabulary, (rows, width), generator=draw)
        parent = torch.randint(0, len(texts[0]), (rows, width), generator=draw)
        texts = [[[*texts[row][int(parent[row, beam])], int(token[row, beam])] for beam in range(width)] for row in range(rows)]
        found.append((texts, decoder.step(token, parent)))
    return found
