from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from tongtu.core import Request, RequestBatch
from tongtu.decode.beam import beam_search
from tongtu.decode.trie import Trie
from tongtu.nn.batch import Batch, Sequences, request_batch
from tongtu.nn.code_beams import CodeBeams
from tongtu.nn.codes import CodeBodyConfig, CodeNet
from tongtu.nn.next_codes import CodedSequences, NextCodes

ITEMS, SIZES = 40, (5, 4, 3)
EVERY_KIND = [(encoder, read, users) for encoder in ("causal", "bidirectional") for read in ("tokens", "items") for users in (0, 7)]


def codes() -> np.ndarray:
    """Different codes for every item: 60 ids are to be had."""
    chosen = np.random.default_rng(0).permutation(60)[: ITEMS + 1]
    return np.stack([chosen // 12, chosen // 3 % 4, chosen % 3], axis=1).astype(np.int32)


def network(encoder: Any = "causal", read: Any = "tokens", users: int = 0, dense: bool = False) -> CodeNet:
    config = CodeBodyConfig(max_length=8, width=16, heads=2, head_width=6, inner=24, dropout=0.0, encoder=encoder, read=read)
    torch.manual_seed(0)
    text = np.random.default_rng(1).normal(size=(ITEMS + 1, 10)).astype(np.float32)
    net = CodeNet(config, codes(), SIZES, users, text if dense else None, dense)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # large weights, so that a leak would show
    return net.eval()


def histories(*lengths: int, users: tuple[int, ...] | None = None) -> Batch:
    draw = np.random.default_rng(3)
    batch = request_batch(RequestBatch.of([Request(history=draw.integers(1, ITEMS, n).astype(np.int32)) for n in lengths]), 8)
    return batch if users is None else dataclasses.replace(batch, user=torch.tensor(users))


def likelihoods(net: CodeNet, batch: Batch) -> torch.Tensor:
    """float[B, I], the log-probability of every item behind each history, each teacher-forced in a pass of its own."""
    found = []
    for item in range(1, ITEMS + 1):
        newest = torch.arange(batch.item.shape[1]) == batch.length[:, None] - 1
        marked = dataclasses.replace(batch, target=torch.where(newest, item, 0))
        target = net.targets(marked)
        found.append(-net.surprise(net.answers(marked, target, net.read(marked))[target != 0], target[target != 0]).sum(1))
    return torch.stack(found, 1)


@pytest.mark.parametrize(("encoder", "read", "users"), EVERY_KIND)
@torch.no_grad()
def test_beams_over_all_items_are_the_exact_ranking(encoder: str, read: str, users: int) -> None:
    """The search, with its own caches, agrees with a plain pass for each item: scores are teacher-forced log-likelihoods."""
    net, batch = network(encoder, read, users), histories(1, 8, 3, users=(0, 3, 5))
    trie = Trie.of(codes()[1:])
    exact = likelihoods(net, batch)
    found = beam_search(CodeBeams(net, batch, net.read(batch)), trie, ITEMS, ITEMS)
    value, order = exact.sort(1, descending=True)
    torch.testing.assert_close(found.scores, value, atol=2e-5, rtol=1e-5)
    assert (found.items == order + 1).float().mean() > 0.95, "but for items that tie within rounding"
    assert found.scores.exp().sum(1).max() < 1, "the rest is of ids that no item has"
    few = beam_search(CodeBeams(net, batch, net.read(batch)), trie, 4, 6)
    torch.testing.assert_close(few.scores, exact.gather(1, few.items.long() - 1), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("read", "users"), [("tokens", 0), ("items", 0), ("tokens", 7), ("items", 7)])
@torch.no_grad()
def test_one_pass_from_left_to_right_serves_every_prefix_exactly(read: str, users: int) -> None:
    net, whole = network("causal", read, users), histories(8, 5, users=(3, 0))
    target = torch.randint(1, ITEMS, whole.item.shape, generator=torch.Generator().manual_seed(0))
    together = net.answers(whole, target, net.read(whole))
    for row, length in enumerate(whole.length.tolist()):
        for stop in range(1, length + 1):
            assert whole.user is not None
            alone = Batch(whole.item[row : row + 1, :stop], torch.tensor([stop]), user=whole.user[row : row + 1])
            single = net.answers(alone, target[row : row + 1, :stop], net.read(alone))
            torch.testing.assert_close(single[0, -1], together[row, stop - 1], atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_reading_both_ways_a_later_item_changes_an_earlier_state() -> None:
    for encoder, changes in (("bidirectional", True), ("causal", False)):
        net, batch = network(encoder), histories(6)
        other = batch.item.clone()
        other[0, -1] = other[0, -1] % (ITEMS - 1) + 1
        before, after = net.read(batch), net.read(dataclasses.replace(batch, item=other))
        assert torch.allclose(before[0, :15], after[0, :15], atol=1e-6) is not changes


@pytest.mark.parametrize(("encoder", "read", "users"), EVERY_KIND)
@torch.no_grad()
def test_padding_changes_nothing(encoder: str, read: str, users: int) -> None:
    net, wide = network(encoder, read, users), histories(2, 8, users=(4, 1))
    assert wide.user is not None
    narrow = Batch(wide.item[:1, :2], wide.length[:1], user=wide.user[:1])
    torch.testing.assert_close(likelihoods(net, narrow), likelihoods(net, wide)[:1], atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_users_are_told_apart_and_nobody_is_like_any_other() -> None:
    net, batch = network(users=50), histories(4)
    told = [likelihoods(net, dataclasses.replace(batch, user=torch.tensor([user]))) for user in (0, 1, 2)]
    nobody = likelihoods(net, batch)
    torch.testing.assert_close(told[0], nobody)
    assert not torch.allclose(told[1], nobody, atol=1e-3) and not torch.allclose(told[1], told[2], atol=1e-3)


@pytest.mark.parametrize("encoder", ["causal", "bidirectional"])
def test_the_loss_is_that_of_each_target_alone(encoder: Any) -> None:
    """What trains together is the sum of what would train alone, dense part included; a sequence's last event teaches where only that can be asked."""
    net = network(encoder, dense=True)
    counts = np.ones(ITEMS + 1, np.int64)
    counts[[0, 5]] = 0
    objective = NextCodes(encoder != "causal", 0.5, 0.1, counts)
    item = np.array([1, 2, 3, 4, 9, 8, 7], np.int32)
    examples = CodedSequences(item, np.array([4, 7]), np.array([4, 3]), known_by=(codes(),))
    draw = torch.Generator().manual_seed(0)
    marked = objective.mark(examples.batch(np.array([0, 1])), draw)
    assert marked.target is not None
    assert marked.target.tolist() == ([[2, 3, 4], [8, 7, 0]] if encoder == "causal" else [[0, 0, 4], [0, 7, 0]])
    pairs = [(item[first:stop], item[stop]) for first, stop in ([(0, 1), (0, 2), (0, 3), (4, 5), (4, 6)] if encoder == "causal" else [(0, 3), (4, 6)])]
    seen = np.flatnonzero(counts)
    expected = 0.0
    with torch.no_grad():
        for history, target in pairs:
            alone = Batch(torch.from_numpy(history[None].astype(np.int64)), torch.tensor([len(history)]))
            wish = net.wishes(alone.length[:, None] - 1, net.read(alone))[0, 0]
            cosine = net.likenesses(torch.from_numpy(seen)) @ wish / 0.1
            expected += float(-likelihoods(net, alone)[0, target - 1] - 0.5 * cosine.log_softmax(0)[np.searchsorted(seen, target)])
    assert float(objective.loss(net, marked, draw).detach()) == pytest.approx(expected, rel=1e-4)


def test_a_tenth_of_the_users_is_left_unknown() -> None:
    item = np.resize(np.arange(1, 9, dtype=np.int32), 4_000)
    examples = Sequences(item, np.arange(2, 4_001, 2), np.full(2_000, 2), user=np.full(2_000, 5))
    marked = NextCodes(False, 0.0, 0.1, np.ones(9, np.int64)).mark(examples.batch(np.arange(2_000)), torch.Generator().manual_seed(0))
    assert marked.user is not None and set(marked.user.tolist()) == {0, 5}
    assert 0.06 < (marked.user == 0).float().mean() < 0.14
