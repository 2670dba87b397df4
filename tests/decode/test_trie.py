"""The trie says what a dictionary of prefixes would say."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tongtu.decode.trie import Trie
from tongtu.errors import DataError

catalogues = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=30)
END = 9


def walked(trie: Trie) -> dict[tuple[int, ...], tuple[set[int], list[int]]]:
    """Of each prefix: the tokens that may follow, and the items below it in their order."""
    found = {}
    open_nodes: list[tuple[tuple[int, ...], int]] = [((), 0)]
    while open_nodes:
        prefix, node = open_nodes.pop()
        children = range(int(trie.first[node]), int(trie.first[node + 1]))
        found[prefix] = ({int(trie.token[child]) for child in children}, trie.item[int(trie.low[node]) : int(trie.high[node])].tolist())
        assert len(found[prefix][0]) == len(children)
        open_nodes += [((*prefix, int(trie.token[child])), child) for child in children]
    return found


@given(catalogues)
def test_every_prefix_has_its_tokens_and_items(sequences: list[list[int]]) -> None:
    trie = Trie.of(sequences, END)
    whole = [(*sequence, END) for sequence in sequences]
    expected = {}
    for prefix in {sequence[:stop] for sequence in whole for stop in range(len(sequence) + 1)}:
        below = [(sequence, code) for code, sequence in enumerate(whole, 1) if sequence[: len(prefix)] == prefix]
        expected[prefix] = ({sequence[len(prefix)] for sequence, _ in below if len(sequence) > len(prefix)}, [code for _, code in below])
    found = walked(trie)
    assert {prefix: (tokens, sorted(items)) for prefix, (tokens, items) in found.items()} == expected
    assert trie.depth == max(map(len, whole)) and trie.n_items == len(sequences) and len(trie.token) == len(expected)
    for prefix, (tokens, items) in found.items():
        assert tokens or items == sorted(items), prefix  # a leaf's items by rising code


def test_a_matrix_of_ids_is_a_catalogue() -> None:
    ids = np.array([[3, 1], [0, 2], [3, 1], [3, 0]])
    assert walked(Trie.of(ids)) == walked(Trie.of(ids.tolist()))
    assert walked(Trie.of(ids, END)) == walked(Trie.of(ids.tolist(), END))


@pytest.mark.parametrize(
    ("sequences", "end", "words"),
    [
        ([], END, "without items"),
        ([[1], [], [2]], None, "item of code 2 has no tokens"),
        ([[1], [], [2]], END, "item of code 2 has no tokens"),
        ([[5, 6], [4], [5]], None, "tokens of item 3 begin those of item 1: give an end token"),
        ([[5], [5], [5, 6]], None, "tokens of item 1 begin those of item 3|tokens of item 2 begin those of item 3"),
        ([[5], [5, END, 6]], END, "tokens of item 1 begin those of item 2"),
    ],
)
def test_what_is_no_catalogue_is_refused(sequences: list[list[int]], end: int | None, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Trie.of(sequences, end)


def test_a_large_catalogue_is_built_without_a_loop_over_its_items() -> None:
    draw = np.random.default_rng(0)
    length = draw.integers(4, 13, 100_000)
    flat = np.minimum(draw.zipf(1.3, length.sum()), 30_000)
    sequences = [part.tolist() for part in np.split(flat, np.cumsum(length)[:-1])]
    started = time.process_time()
    trie = Trie.of(sequences, 0)
    assert time.process_time() - started < 5  # about one second on a free processor
    assert trie.n_items == 100_000 and torch.equal(trie.item.sort().values, torch.arange(1, 100_001, dtype=torch.int32))


def test_the_trie_and_the_search_need_no_transformers() -> None:
    check = "import tongtu.decode.trie, tongtu.decode.beam, sys; assert 'transformers' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
