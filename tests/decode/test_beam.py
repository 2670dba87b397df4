"""Beam search along the trie against the plain ranking of all items."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import TableDecoder, ranked

from tongtu.core import PAD
from tongtu.decode.beam import Found, beam_search
from tongtu.decode.trie import Trie

END = 5
catalogues = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), min_size=1, max_size=14)


def agrees(found: Found, row: int, expected: list[tuple[int, float]]) -> None:
    items, scores = found.items[row].tolist(), found.scores[row].tolist()
    k = len(items)
    filled = expected[:k]
    assert items == [code for code, _ in filled] + [PAD] * (k - len(filled))
    assert scores == pytest.approx([score for _, score in filled] + [float("-inf")] * (k - len(filled)), abs=1e-4)


@settings(max_examples=150, deadline=None)
@given(catalogues, st.data(), st.sampled_from([0.0, 0.0, 0.7, 1.0, -0.5]), st.integers(0, 1000))
def test_with_enough_beams_the_ranking_is_exact(sequences: list[list[int]], data: st.DataObject, penalty: float, seed: int) -> None:
    rows = data.draw(st.integers(1, 3))
    k = data.draw(st.integers(1, len(sequences) + 2))
    limited = data.draw(st.booleans())
    allowed = torch.tensor(data.draw(st.lists(st.lists(st.booleans(), min_size=len(sequences), max_size=len(sequences)), min_size=rows, max_size=rows)))
    decoder = TableDecoder(rows, END + 1, seed)
    legal = [[code for code in range(1, len(sequences) + 1) if not limited or allowed[row, code - 1]] for row in range(rows)]
    beams = max(1, *map(len, legal))
    given_limits = torch.cat([torch.ones(rows, 1, dtype=torch.bool), allowed], 1) if limited else None
    found = beam_search(decoder, Trie.of(sequences, END), beams, k, given_limits, penalty)
    assert found.items.dtype == torch.int32 and found.scores.dtype == torch.float32
    whole = [[*sequence, END] for sequence in sequences]
    for row in range(rows):
        agrees(found, row, ranked(decoder, row, whole, legal[row], penalty))


def test_a_request_is_answered_alone_as_in_a_batch() -> None:
    draw = torch.Generator().manual_seed(3)
    sequences = torch.randint(0, 8, (300, 4), generator=draw).tolist()
    trie = Trie.of(sequences)
    decoder = TableDecoder(5, 8)
    allowed = torch.rand(5, 301, generator=draw) < 0.2
    together = beam_search(decoder, trie, 7, 9, allowed)

    class OneRow(TableDecoder):
        def logits(self, row: int, past: tuple[int, ...]) -> torch.Tensor:
            return super().logits(self.which, past)

    for row in range(5):
        alone = OneRow(1, 8)
        alone.which = row  # type: ignore[attr-defined]
        found = beam_search(alone, trie, 7, 9, allowed[row : row + 1])
        assert torch.equal(found.items[0], together.items[row])
        torch.testing.assert_close(found.scores[0], together.scores[row])
        assert all(allowed[row, code] for code in found.items[0].tolist() if code)


def test_few_beams_follow_the_best_prefixes() -> None:
    """The plain search with the same rule, one list at a time."""
    draw = torch.Generator().manual_seed(4)
    sequences = torch.randint(0, 9, (400, 4), generator=draw).tolist()
    decoder = TableDecoder(2, 9, spread=1.0)
    found = beam_search(decoder, Trie.of(sequences), 6, 6)
    for row in range(2):
        beams: list[tuple[int, ...]] = [()]
        for length in range(1, 5):
            longer = {tuple(sequence[:length]) for sequence in sequences if tuple(sequence[: length - 1]) in beams}
            beams = sorted(longer, key=lambda one: -decoder.score(row, one))[:6]
        codes = [code for code, sequence in enumerate(sequences, 1) if tuple(sequence) in beams]
        agrees(found, row, ranked(decoder, row, sequences, codes))


def test_an_ended_item_takes_no_beams_place() -> None:
    """One beam: the short item is likelier at its end than every open beam, and the search goes on to the better long ones."""

    class Fixed(TableDecoder):
        def logits(self, row: int, past: tuple[int, ...]) -> torch.Tensor:
            shares = {(): {0: 0.4, 1: 0.35, 2: 0.25}, (1,): {3: 0.99, 2: 0.01}}
            return torch.tensor([shares[past].get(token, 1e-9) for token in range(4)]).log()

    found = beam_search(Fixed(1, 4), Trie.of([[0], [1, 2], [1, 3], [2]]), beams=1, k=3)
    assert found.items.tolist() == [[1, 3, 4]]
    assert found.scores.exp()[0].tolist() == pytest.approx([0.4, 0.3465, 0.25], abs=1e-4)


def test_the_search_ends_when_no_open_beam_can_win() -> None:
    class Steep(TableDecoder):
        def logits(self, row: int, past: tuple[int, ...]) -> torch.Tensor:
            return torch.tensor([5.0, 4.0, 0.0, -1.0])

    sequences = [[0], [1], [2, 0, 0, 0, 0, 0], [3, 1, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0]]
    decoder = Steep(1, 4)
    assert beam_search(decoder, Trie.of(sequences), 5, 2).items.tolist() == [[1, 2]]
    assert decoder.widths == []  # two ends beat whatever goes on
    assert beam_search(decoder, Trie.of(sequences), 5, 3).items.tolist() == [[1, 2, 3]]
    assert len(decoder.widths) == 5 and max(decoder.widths) == 3


def test_items_of_one_sequence_are_all_named() -> None:
    sequences = [[1, 2], [3, 3], [1, 2], [0, 1], [1, 2]]
    decoder = TableDecoder(1, 4)
    trie = Trie.of(sequences)
    agrees(beam_search(decoder, trie, 1, 10, torch.tensor([[False, True, False, False, False, True]])), 0, ranked(decoder, 0, sequences, [1, 5]))
    agrees(beam_search(decoder, trie, 5, 10), 0, ranked(decoder, 0, sequences, [1, 2, 3, 4, 5]))


def test_no_allowed_item_is_an_empty_list() -> None:
    found = beam_search(TableDecoder(2, 4), Trie.of([[1, 2], [3, 3]]), 3, 2, torch.tensor([[True, False, False], [False, False, True]]))
    assert found.items.tolist() == [[PAD, PAD], [2, PAD]]
    assert found.scores[0].tolist() == [float("-inf")] * 2


def test_logits_that_are_no_numbers_are_an_error() -> None:
    class Broken(TableDecoder):
        def logits(self, row: int, past: tuple[int, ...]) -> torch.Tensor:
            return super().logits(row, past) * (float("nan") if past else 1)

    with pytest.raises(AssertionError, match="not numbers"):
        beam_search(Broken(1, 4), Trie.of([[1, 2], [3, 3]]), 2, 2)
