from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongtu.candidates import MostPopular, Sampled, named
from tongtu.candidates.file import Share, mixture
from tongtu.core import PAD, Request, RequestBatch
from tongtu.data.splits import Cases
from tongtu.errors import ConfigError
from tongtu.vocab import Vocab


def ask(rng: np.random.Generator, n: int, size: int, longest: int) -> list[Request]:
    return [Request(history=rng.integers(1, size, rng.integers(0, longest)).astype(np.int32), user=u + 1) for u in range(n)]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.integers(3, 60), n=st.integers(1, 40), told=st.booleans())
def test_distinct_unseen_and_as_many_as_there_are(seed: int, size: int, n: int, told: bool) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 5, size).astype(np.float64) ** 4  # some impossible, some a hundred times as likely
    requests = ask(rng, 12, size, 20)
    targets = rng.integers(1, size, 12).astype(np.int32) if told else None
    for i, found in enumerate(Sampled(weights, n, seed)(requests, targets)):
        negatives = set(found.tolist()) - ({int(targets[i])} if targets is not None else set())
        able = {c for c in range(1, size) if weights[c] > 0} - set(requests[i].history.tolist()) - ({int(targets[i])} if targets is not None else set())
        assert PAD not in found and len(set(found.tolist())) == len(found)
        assert negatives <= able and len(negatives) == min(n, len(able))
        assert targets is None or targets[i] in found


def test_order_part_and_seed() -> None:
    rng = np.random.default_rng(0)
    batch = RequestBatch.of(ask(rng, 50, 200, 30))
    targets = rng.integers(1, 200, 50).astype(np.int32)
    draw = Sampled(np.ones(200), 20, seed=4)
    whole, order = draw(batch, targets), rng.permutation(50)
    for place, found in zip(order, draw(batch.take(order), targets[order]), strict=True):
        assert np.array_equal(found, whole[place])
    assert all(np.array_equal(one, other) for one, other in zip(whole[10:], draw(batch[10:], targets[10:]), strict=True))
    assert not all(np.array_equal(one, other) for one, other in zip(whole, Sampled(np.ones(200), 20, seed=5)(batch, targets), strict=True))


def test_drawn_as_often_as_the_weights_say() -> None:
    weights = np.array([9, 1, 2, 3, 4], np.float64)  # that of PAD is ignored
    requests = [Request(user=u + 1) for u in range(20_000)]
    first = np.array([found[0] for found in Sampled(weights, 1)(requests, None)])
    assert np.bincount(first, minlength=5) / 20_000 == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=0.012)
    # the second of two, drawn without replacement: sum over first draws of p1 * w / (1 - p1)
    share = weights[1:] / 10
    expected = [sum(share[j] * share[i] / (1 - share[j]) for j in range(4) if j != i) for i in range(4)]
    second = np.array([found[1] for found in Sampled(weights, 2)(requests, None)])
    assert np.bincount(second, minlength=5)[1:] / 20_000 == pytest.approx(expected, abs=0.012)


def test_exhausted_rows_draw_from_the_same_law() -> None:
    """A heavy item makes rejection hopeless; what is left is drawn exactly."""
    weights = np.array([0, 1e9, 1, 1, 2], np.float64)
    requests = [Request(history=np.zeros(0, np.int32), user=u + 1) for u in range(8000)]
    second = np.array([found[1] for found in Sampled(weights, 2)(requests, None)])
    assert np.bincount(second, minlength=5)[2:] / 8000 == pytest.approx([0.25, 0.25, 0.5], abs=0.02)


def test_the_targets_place_tells_nothing() -> None:
    requests = [Request(user=u + 1) for u in range(4000)]
    lists = Sampled(np.ones(50), 4)(requests, np.full(4000, 7, np.int32))
    place = np.array([found.tolist().index(7) for found in lists])
    assert np.bincount(place, minlength=5) / 4000 == pytest.approx(np.full(5, 0.2), abs=0.03)


def test_most_popular() -> None:
    source = MostPopular(Vocab(list("abcd")), np.array([0, 5, 9, 1, 7]), 2)
    requests = [Request(), Request(history=np.array([2], np.int32))]
    assert [found.tolist() for found in source(requests, None)] == [[2, 4], [4, 1]]
    assert [sorted(found.tolist()) for found in source(requests, np.array([3, 4], np.int32))] == [[2, 3], [1, 4]]


@pytest.mark.parametrize("name", ["uniform", "uniform-0", "best-10", ""])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="popularity-100"):
        named(name, Vocab(["a"]), np.array([0, 1]))


def fixed(*codes: int) -> Any:
    """A source that proposes the first of these, to everybody."""
    return lambda m: lambda requests, targets: [np.array(codes[:m], np.int32) for _ in requests]


def questions(*targets: int) -> Cases:
    users = np.arange(1, len(targets) + 1, dtype=np.int32)
    return Cases(RequestBatch.of([Request(user=int(user)) for user in users]), np.array(targets, np.int32), users)


def test_every_source_of_a_mixture_adds_what_is_new() -> None:
    shares = [Share("a", fixed(1, 2, 3, 4, 5, 6), 3), Share("b", fixed(3, 2, 7, 8, 9, 10, 11), 2)]
    found = mixture(shares, questions(50, 2, 8), with_target=True)
    assert [set(codes.tolist()) for codes in found.items] == [{50, 1, 2, 3, 7, 8}, {2, 1, 3, 4, 7, 8}, {8, 1, 2, 3, 7, 9}]
    told = [{int(code): found.names[place] for code, place in zip(*row, strict=True)} for row in zip(found.items, found.origin, strict=True)]
    assert told[1] == {2: "target", 1: "a", 3: "a", 4: "a", 7: "b", 8: "b"}
    without = mixture(shares, questions(50, 2, 8), with_target=False)
    assert [set(codes.tolist()) for codes in without.items] == [{1, 2, 3, 7, 8}] * 3 and "target" not in {
        without.names[p] for row in without.origin for p in row
    }


def test_the_order_of_a_mixture_tells_nothing() -> None:
    cases = questions(*[9] * 4000)
    shares = [Share("a", fixed(1, 2, 3, 4), 4)]
    found = mixture(shares, cases, seed=1)
    for code in (9, 1):
        place = np.array([codes.tolist().index(code) for codes in found.items])
        assert np.bincount(place, minlength=5) / 4000 == pytest.approx(np.full(5, 0.2), abs=0.03)
    rows = np.random.default_rng(0).permutation(4000)[:50]
    again, other = mixture(shares, cases.take(rows), seed=1), mixture(shares, cases, seed=2)
    assert all(np.array_equal(codes, found.items[row]) for row, codes in zip(rows, again.items, strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(found.items, other.items, strict=True))
