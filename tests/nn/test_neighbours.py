from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from tongtu.core import FitOptions
from tongtu.data.dataset import Dataset
from tongtu.nn.neighbours import NeighbourConfig, Neighbours, cooccurrence_vectors
from tongtu.nn.softmax import full_softmax
from tongtu.systems.behaviour.sasrec import SASRec
from tongtu.vocab import Vocab


def log(*histories: list[int], items: int = 6) -> Dataset:
    offset = np.concatenate([[0], np.cumsum([len(h) for h in histories])])
    users = Vocab([f"u{i}" for i in range(len(histories))])
    return Dataset("hand", users, Vocab([f"i{i}" for i in range(items)]), np.concatenate(histories).astype(np.int32), offset)


def plain(**changes: float) -> NeighbourConfig:
    """Counts as they are: nothing decays, nothing is held down."""
    values = {"share": 0.5, "count": 3, "sources": 1, "distance_decay": 0.5, "backward": 0.0, "source_power": 0.0, "neighbour_power": 0.0}
    return NeighbourConfig(**{**values, **changes})


def table(data: Dataset, config: NeighbourConfig, item: int) -> dict[int, float]:
    found = Neighbours(data, config)
    return {int(code): float(weight) for code, weight in zip(found.item[item], found.weight[item], strict=True) if code}


def test_pairs_are_counted_forwards_and_by_distance() -> None:
    data = log([1, 2, 3], [1, 2])
    assert table(data, plain(), 1) == {2: 2.0, 3: 0.5}
    assert table(data, plain(), 3) == {}
    assert table(data, plain(backward=0.5), 3) == {2: 0.5, 1: 0.25}


def test_pairs_do_not_cross_users() -> None:
    assert table(log([1, 2], [3, 4]), plain(), 2) == {}


def test_frequent_items_are_held_down() -> None:
    data = log([1, 2], [1, 3], [3, 3], [3, 3])
    assert table(data, plain(), 1) == {2: 1.0, 3: 1.0}
    held = table(data, plain(neighbour_power=1.0), 1)
    assert held[2] == pytest.approx(1 / 2) and held[3] == pytest.approx(1 / 6)


def test_soft_targets_share_out_and_spare_what_is_known() -> None:
    data = log([1, 2], [1, 3], [1, 4], [2, 5])
    neighbours = Neighbours(data, plain(sources=2))
    item = torch.tensor([[1, 2, 6]])
    codes, weights = neighbours.soft_targets(item, torch.tensor([[True, True, True]]), torch.tensor([3, 5, 1]))
    found = [{int(c): round(float(w), 4) for c, w in zip(*row, strict=True) if w > 0} for row in zip(codes, weights, strict=True)]
    assert found[0] == {2: 0.25, 4: 0.25}, "the target 3 gets nothing of it"
    assert found[1] == {3: 0.25, 4: 0.25}, "2 is a source, 5 the target; 3 and 4 follow the event before"
    assert found[2] == {5: 0.5}, "6 has no neighbours, 2 before it has one"


def test_soft_targets_in_the_softmax_are_a_weighed_cross_entropy() -> None:
    draw = torch.Generator().manual_seed(0)
    state, table_ = torch.randn(5, 8, generator=draw, requires_grad=True), torch.randn(9, 8, generator=draw, requires_grad=True)
    target, codes = torch.randint(1, 9, (5,), generator=draw), torch.randint(1, 9, (5, 3), generator=draw)
    weights = torch.rand(5, 3, generator=draw) * 0.2
    weights[0], codes[0] = 0, 0
    ours = full_softmax(state, table_, target, torch.float32, soft=(codes, weights))
    wanted = torch.zeros(5, 9).scatter_add(1, codes, weights).scatter_add(1, target[:, None], 1 - weights.sum(1, keepdim=True))[:, 1:]
    theirs = functional.cross_entropy(state @ table_[1:].T, wanted, reduction="sum")
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(torch.autograd.grad(ours, [state, table_]), torch.autograd.grad(theirs, [state, table_]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_items_seen_together_start_close() -> None:
    vectors = cooccurrence_vectors(log(*[[1, 2, 3], [3, 1, 2], [4, 5, 6], [6, 5, 4]] * 5), width=4, std=0.1, seed=0)
    cosine = functional.normalize(vectors[1:], dim=1) @ functional.normalize(vectors[1:], dim=1).T
    assert cosine[:3, :3].min() > cosine[:3, 3:].max()
    assert (vectors[0] == 0).all() and vectors.dtype == torch.float32


def test_sasrec_learns_with_both() -> None:
    rng = np.random.default_rng(0)
    data = log(*[[int(x) for x in (np.arange(5) + rng.integers(6)) % 6 + 1] for _ in range(60)])
    config = SASRec.Config(width=8, blocks=1, start="cooccurrence", neighbours={"share": 0.3}, training={"epochs": 30, "learning_rate": 1e-2})
    model = SASRec(config).fit(data, FitOptions(quiet=True))
    losses = [row["loss"] for row in model.provenance["curves"]]
    assert losses[-1] < 0.8 * losses[0]


def test_neighbours_need_the_full_softmax() -> None:
    with pytest.raises(ValueError, match=r"neighbours\.share needs"):
        SASRec.Config(neighbours={"share": 0.3}, loss={"kind": "bce"})
