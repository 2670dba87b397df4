"""A trie over the items' token sequences, held in arrays.

Items stand in the lexicographic order of their sequences, so that every node is a range of them, and nodes are numbered by
depth and then by that order, so that the children of a node are neighbours. Nothing here is a dictionary: a step of a search
is a few gathers for all its beams at once, on whatever device the arrays are.

Shapes: I items, N nodes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tongtu.errors import DataError

Numbers = npt.NDArray[np.int64]

_NONE = -1  # behind the end of a sequence; before every token in the order


@dataclass(frozen=True, eq=False)
class Trie:
    """Which tokens may follow which, and which items end where. Node 0 is the root; a leaf is a node without children.

    Attributes:
        item: int32[I], the item codes in the order of their sequences; items of equal sequences by rising code.
        token: int64[N], the token that leads to each node; 0 for the root.
        first: int64[N + 1], the children of node n are the nodes `first[n]` to `first[n + 1]` (not included).
        low, high: int64[N], the items below node n are `item[low[n]:high[n]]`; those of a leaf are its own.
        depth: The tokens of the longest sequence.
    """

    item: Tensor
    token: Tensor
    first: Tensor
    low: Tensor
    high: Tensor
    depth: int

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]], end: int | None = None) -> Self:
        """The trie of a catalogue. Items of equal sequences share a leaf.

        Args:
            sequences: The tokens of each item; sequence i belongs to item code i + 1. A matrix int[I, L] will do.
            end: A token to put behind every sequence, so that one may be the beginning of another.

        Raises:
            DataError: If there is no item, an item has no tokens, or one's sequence is the beginning of another's.
        """
        table, length = _padded(sequences, end)
        order = np.lexsort(table.T[::-1])
        table, length = table[order], length[order]
        shared = _shared_with_the_one_before(table, length)
        begins = np.flatnonzero(shared < np.maximum(length, np.append(0, length[:-1])))  # the first item of each leaf
        _refuse_beginnings(length[begins], shared[begins], order[begins] + 1)
        tokens, children, leaf, behind = _nodes(table[begins], length[begins], shared[begins])
        bounds = np.append(begins, len(order))
        token, first, low, high = (torch.from_numpy(array) for array in (tokens, children, bounds[leaf], bounds[behind]))
        return cls(torch.from_numpy((order + 1).astype(np.int32)), token, first, low, high, int(length.max()))

    @property
    def n_items(self) -> int:
        """How many items there are."""
        return len(self.item)

    def to(self, device: torch.device | str) -> Self:
        """The trie on a device."""
        moved = {field.name: getattr(self, field.name).to(device) for field in dataclasses.fields(self) if field.name != "depth"}
        return dataclasses.replace(self, **moved)


def _padded(sequences: Sequence[Sequence[int]], end: int | None) -> tuple[Numbers, Numbers]:
    """The sequences as one matrix int64[I, L], `_NONE` behind their ends, and their lengths."""
    if not len(sequences):
        raise DataError("a catalogue without items has nothing to decode: give at least one item")
    length = np.fromiter(map(len, sequences), np.int64, len(sequences))
    if not length.all():
        raise DataError(f"the item of code {int(np.argmin(length)) + 1} has no tokens: give every item a title or id that its tokenizer does not drop")
    flat = sequences.ravel() if isinstance(sequences, np.ndarray) else np.fromiter(chain.from_iterable(sequences), np.int64, int(length.sum()))
    assert flat.min() >= 0, "tokens are not negative"
    table = np.full((len(length), int(length.max()) + (end is not None)), _NONE, np.int64)
    table[np.arange(table.shape[1]) < length[:, None]] = flat
    if end is not None:
        table[np.arange(len(length)), length] = end
        length = length + 1
    return table, length


def _shared_with_the_one_before(table: Numbers, length: Numbers) -> Numbers:
    """int64[I], how many tokens each sequence begins with like the one before it."""
    shared = np.zeros(len(table), np.int64)
    differ = table[1:] != table[:-1]
    shared[1:] = np.where(differ.any(1), differ.argmax(1), length[1:])
    return shared


def _refuse_beginnings(length: Numbers, shared: Numbers, code: Numbers) -> None:
    """Sequences in order, all different: what begins another one stands right before such a one."""
    inside = np.flatnonzero(shared[1:] == length[:-1])
    if len(inside):
        one, other = code[inside[0]], code[inside[0] + 1]
        raise DataError(f"the tokens of item {one} begin those of item {other}: give an end token that is in no sequence, as Trie.of(sequences, end)")


def _nodes(table: Numbers, length: Numbers, shared: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Tokens, first children, and ranges of leaves of all nodes, from the leaves in order.

    A leaf opens the nodes on its path that the leaf before it does not share.
    """
    leaves = len(table)
    tokens, low, high = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)], [np.full(1, leaves)]
    children = []
    for depth in range(1, table.shape[1] + 1):
        opens = np.flatnonzero((shared < depth) & (length >= depth))
        breaks = np.append(np.flatnonzero(shared < depth), leaves)
        children.append(np.bincount(np.searchsorted(low[-1], opens, "right") - 1, minlength=len(low[-1])))
        tokens.append(table[opens, depth - 1])
        low.append(opens)
        high.append(breaks[np.searchsorted(breaks, opens, "right")])
    children.append(np.zeros(len(low[-1]), np.int64))
    first = 1 + np.append(0, np.cumsum(np.concatenate(children)))
    return np.concatenate(tokens), first, np.concatenate(low), np.concatenate(high)
