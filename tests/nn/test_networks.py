from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from tongtu.core import Request, RequestBatch
from tongtu.nn.batch import Batch, Sequences, request_batch
from tongtu.nn.hstu import HSTUBodyConfig, HSTUNet, look_up, time_buckets
from tongtu.nn.objectives import Cloze, NextItem
from tongtu.nn.sequence import BodyConfig, ItemSequenceNet
from tongtu.nn.transformer import BLOCKS

ITEMS = 30


def histories(*lengths: int, seed: int = 0) -> Batch:
    draw = np.random.default_rng(seed)
    requests = [Request(history=draw.integers(1, ITEMS, n).astype(np.int32), times=np.sort(draw.integers(0, 10**6, n)), now=10**6) for n in lengths]
    return request_batch(RequestBatch.of(requests), 12)


def networks() -> list[tuple[str, torch.nn.Module]]:
    torch.manual_seed(0)
    made: list[tuple[str, torch.nn.Module]] = []
    for block in BLOCKS:
        made.append((block, ItemSequenceNet(BodyConfig(max_length=12, width=8, heads=2, block=block, dropout=0.0), ITEMS)))
    for name, causal in (("relative", True), ("relative both ways", False)):
        body = BodyConfig(max_length=12, width=8, heads=2, positions="relative", dropout=0.0)
        made.append((name, ItemSequenceNet(body, ITEMS, causal=causal)))
    made.append(("both ways", ItemSequenceNet(BodyConfig(max_length=12, width=8, block="bert", dropout=0.0), ITEMS, causal=False, extra=1, head=True)))
    made.append(("hstu", HSTUNet(HSTUBodyConfig(max_length=12, width=8, heads=2, dropout=0.0), ITEMS)))
    for _, net in made:
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.3)  # large weights, so that a leak would show
    return made


NETWORKS = networks()


@pytest.fixture(params=NETWORKS, ids=[name for name, _ in NETWORKS])
def net(request: pytest.FixtureRequest) -> Any:
    return request.param[1]


def test_padding_changes_nothing(net: Any) -> None:
    together = net.hidden(histories(9, 3, 1))
    for row, length in enumerate((9, 3, 1)):
        whole = histories(9, 3, 1)
        alone = dataclasses.replace(whole.rows(slice(row, row + 1)), item=whole.item[row : row + 1, :length])
        times = {"time": whole.time[row : row + 1, :length], "next_time": whole.next_time[row : row + 1, :length]}  # type: ignore[index]
        torch.testing.assert_close(net.hidden(dataclasses.replace(alone, **times))[0, :length], together[row, :length], atol=1e-5, rtol=1e-4)


def test_training_and_evaluation_mode_agree_without_dropout(net: Any) -> None:
    batch = histories(12, 5, 2)
    torch.testing.assert_close(net.train().hidden(batch), net.eval().hidden(batch))


def test_states_depend_on_order(net: Any) -> None:
    batch = histories(6)
    swapped = dataclasses.replace(batch, item=batch.item.flip(1))
    assert not torch.allclose(net.hidden(batch)[0, -1], net.hidden(swapped)[0, -1], atol=1e-3)


def test_causal_networks_do_not_look_ahead() -> None:
    for name, net in NETWORKS:
        if name.endswith("both ways"):
            continue
        batch = histories(8)
        changed = batch.item.clone()
        changed[0, -1] = changed[0, -1] % (ITEMS - 1) + 1
        before, after = (net.hidden(dataclasses.replace(batch, item=item))[0, :-1] for item in (batch.item, changed))  # type: ignore[operator]
        torch.testing.assert_close(before, after)


def test_the_newest_event_has_the_same_position_however_long_the_history() -> None:
    assert histories(9, 3, 1).age[:, 0].tolist() == [8, 2, 0]
    assert [row[n - 1].item() for row, n in zip(histories(9, 3, 1).age, (9, 3, 1), strict=True)] == [0, 0, 0]


def test_long_histories_keep_their_newest_known_events() -> None:
    history = np.array([5, 0, 7, 0, 9, 11], np.int32)
    batch = request_batch(RequestBatch.of([Request(history=history, times=np.arange(6)), Request()]), 3)
    assert batch.item.tolist() == [[7, 9, 11], [0, 0, 0]]
    assert batch.length.tolist() == [3, 0]
    assert batch.time is not None and batch.time[0].tolist() == [2, 4, 5]


def test_each_position_predicts_for_the_time_of_the_next_event() -> None:
    request = Request(history=np.array([1, 2], np.int32), times=np.array([100, 160]), now=500)
    asked = request_batch(RequestBatch.of([request, dataclasses.replace(request, now=None)]), 9).next_time
    assert asked is not None and asked.tolist() == [[160, 500], [160, 160]]


def test_time_buckets_of_both_anchors() -> None:
    batch = Batch(torch.ones(1, 2, dtype=torch.int64), torch.tensor([2]), time=torch.tensor([[0, 100]]), next_time=torch.tensor([[100, 10_000]]))
    request, last = time_buckets(batch, "request"), time_buckets(batch, "last_event")
    assert request is not None and request[0, 1].tolist() == [int(np.log(10_000) / 0.301), int(np.log(9_900) / 0.301)]
    assert last is not None and last[0, 1].tolist() == [int(np.log(100) / 0.301), 0]


def test_look_up_has_the_gradient_of_indexing() -> None:
    table = torch.randn(5, requires_grad=True)
    index = torch.randint(0, 5, (3, 4, 4))
    weight = torch.randn(3, 4, 4)
    (ours,) = torch.autograd.grad((look_up(table, index) * weight).sum(), table)
    (theirs,) = torch.autograd.grad((table[index] * weight).sum(), table)
    torch.testing.assert_close(ours, theirs)


def sequences() -> Sequences:
    return Sequences(np.arange(1, 11, dtype=np.int32), np.array([4, 10]), np.array([4, 6]), np.arange(10) * 10)


class NoLoss:
    def __call__(self, *_: torch.Tensor | torch.Generator) -> torch.Tensor:
        return torch.zeros(())


def test_next_item_shifts_by_one() -> None:
    marked = NextItem(NoLoss()).mark(sequences().batch(np.array([0, 1])), torch.Generator())
    assert marked.item.tolist() == [[1, 2, 3, 0, 0], [5, 6, 7, 8, 9]]
    assert marked.target is not None and marked.target.tolist() == [[2, 3, 4, 0, 0], [6, 7, 8, 9, 10]]
    assert marked.next_time is not None and marked.next_time[1].tolist() == [50, 60, 70, 80, 90]


@pytest.mark.parametrize("last_only", [0.0, 1.0])
def test_cloze_hides_what_it_asks_for(last_only: float) -> None:
    batch = sequences().batch(np.array([0, 1]))
    marked = Cloze(NoLoss(), mask=99, probability=0.5, last_only=last_only).mark(batch, torch.Generator().manual_seed(0))
    assert marked.target is not None
    hidden = marked.target != 0
    assert (marked.item[hidden] == 99).all() and (marked.target[hidden] == batch.item[hidden]).all()
    assert (marked.item[~hidden] == batch.item[~hidden]).all()
    assert hidden.any(1).all()
    if last_only:
        assert hidden.nonzero().tolist() == [[0, 3], [1, 5]]
