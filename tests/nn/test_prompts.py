from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tongtu.core import Request, RequestBatch
from tongtu.nn.adapters import AdaptedNet, Way
from tongtu.nn.batch import Batch, request_batch
from tongtu.nn.edits import LayerEdits
from tongtu.nn.hstu import HSTUBodyConfig, HSTUNet
from tongtu.nn.losses import LossConfig, make_loss
from tongtu.nn.profiles import FirstItems, ProfileBatch, Profiles, PromptContrast
from tongtu.nn.prompts import PromptedNet, PromptGenerator
from tongtu.nn.sequence import BodyConfig, ItemSequenceNet, Promptable
from tongtu.nn.transformer import BLOCKS

ITEMS, WIDTH = 30, 8


def networks() -> list[tuple[str, Any]]:
    torch.manual_seed(0)
    size = {"max_length": 12, "width": WIDTH, "heads": 2, "dropout": 0.1}
    made: list[tuple[str, Any]] = [(block, ItemSequenceNet(BodyConfig(block=block, **size), ITEMS)) for block in BLOCKS]
    made.append(("relative", ItemSequenceNet(BodyConfig(positions="relative", **size), ITEMS)))
    made.append(("both ways", ItemSequenceNet(BodyConfig(positions="relative", **size), ITEMS, causal=False)))
    made.append(("hstu", HSTUNet(HSTUBodyConfig(**size), ITEMS)))
    for _, net in made:
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.3)
        net.eval()
    return made


NETWORKS = networks()


CAUSAL = [(name, net) for name, net in NETWORKS if net.causal]


@pytest.fixture(params=NETWORKS, ids=[name for name, _ in NETWORKS])
def net(request: pytest.FixtureRequest) -> Any:
    return request.param[1]


@pytest.fixture(params=CAUSAL, ids=[name for name, _ in CAUSAL])
def causal_net(request: pytest.FixtureRequest) -> Any:
    return request.param[1]


def histories(*lengths: int) -> Batch:
    draw = np.random.default_rng(0)
    requests = [Request(history=draw.integers(1, ITEMS, n).astype(np.int32), times=np.sort(draw.integers(0, 10**6, n)), now=10**6) for n in lengths]
    return request_batch(RequestBatch.of(requests), 12)


def prefix(net: Any, rows: int, vectors: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.randn(net.layers, rows, vectors, WIDTH, generator=torch.Generator().manual_seed(seed))


def encode(net: Any, batch: Batch, edits: LayerEdits | None) -> torch.Tensor:
    states: torch.Tensor = net.encode(net.embed(batch), batch, edits)
    return states


def test_networks_take_prompts(net: Any) -> None:
    assert isinstance(net, Promptable)


def test_no_edits_change_nothing_at_all(net: Any) -> None:
    batch = histories(9, 3)
    assert torch.equal(encode(net, batch, None), encode(net, batch, LayerEdits()))
    assert torch.equal(encode(net, batch, None), net.hidden(batch))


def test_every_position_sees_the_prefix_of_every_layer(net: Any) -> None:
    """At the first layer through all that follow, at the last one directly: a prefix is put in anew before each."""
    batch = histories(5)
    before = encode(net, batch, LayerEdits(prefix(net, 1)))
    assert before.shape == (1, 7, WIDTH)
    for layer in range(net.layers):
        changed = prefix(net, 1)
        changed[layer] = prefix(net, 1, seed=2)[layer]
        after = encode(net, batch, LayerEdits(changed))
        assert ((after - before)[0, 2:].abs().amax(-1) > 1e-4).all()


def test_what_a_layer_makes_of_a_prefix_is_overwritten(causal_net: Any) -> None:
    """The states of the prefix itself come from the last layer's vectors, whatever stood there before."""
    net = causal_net
    changed = prefix(net, 1)
    changed[:-1] = prefix(net, 1, seed=2)[:-1]
    before, after = (encode(net, histories(5), LayerEdits(one))[0, :2] for one in (prefix(net, 1), changed))
    torch.testing.assert_close(before, after)


def test_a_prefix_neither_sees_items_nor_moves_them(causal_net: Any) -> None:
    net = causal_net
    one, other = (encode(net, histories(n), LayerEdits(prefix(net, 1))) for n in (5, 9))
    torch.testing.assert_close(one[0, :2], other[0, :2])
    positions: list[torch.Tensor] = []
    if getattr(net, "position", None) is not None:
        hook = net.position.register_forward_hook(lambda module, inputs, output: positions.append(inputs[0]))
        encode(net, histories(5), LayerEdits(prefix(net, 1)))
        hook.remove()
        assert positions[0].tolist() == [[4, 3, 2, 1, 0]]


def test_prefixes_are_each_users_own_and_padding_changes_nothing(net: Any) -> None:
    batch, both = histories(9, 3), prefix(net, 2)
    together = encode(net, batch, LayerEdits(both))
    times = {"time": batch.time[1:, :3], "next_time": batch.next_time[1:, :3]}  # type: ignore[index]
    alone = dataclasses.replace(batch.rows(slice(1, 2)), item=batch.item[1:, :3], **times)
    torch.testing.assert_close(encode(net, alone, LayerEdits(both[:, 1:]))[0], together[1, :5], atol=1e-5, rtol=1e-4)


def test_adapters_stand_at_every_place_of_every_layer(net: Any) -> None:
    batch, plain = histories(5), encode(net, histories(5), None)
    for layer in range(net.layers):
        for place in range(net.places):
            adapters = [[(lambda x, on=(layer, place) == (k, p): x * 2 if on else x) for p in range(net.places)] for k in range(net.layers)]
            assert not torch.allclose(encode(net, batch, LayerEdits(adapters=adapters)), plain, atol=1e-4)


def profiles(batch: Batch, *codes: list[int]) -> ProfileBatch:
    return ProfileBatch(batch.item, batch.length, time=batch.time, next_time=batch.next_time, profile=torch.tensor(codes))


def prompted(net: Any, frozen: bool = True) -> PromptedNet:
    torch.manual_seed(0)
    made = PromptedNet(net, PromptGenerator((3, 4), WIDTH, net.layers, prompts=2, inner=16), frozen)
    for parameter in made.generator.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


def test_a_user_without_history_is_answered_from_the_attributes() -> None:
    for _, net in CAUSAL:
        states = prompted(net).eval().hidden(profiles(histories(0, 0, 4), [1, 2], [2, 2], [1, 2]))
        assert states.shape == (3, 5, WIDTH)
        assert not torch.allclose(states[0, 0], states[1, 0], atol=1e-4)
        torch.testing.assert_close(states[0, 0], states[2, 0])


def test_the_objective_asks_for_every_event_from_those_before_it() -> None:
    profile = np.array([[1, 2], [2, 0], [0, 3]])
    examples = Profiles(np.arange(1, 11, dtype=np.int32), np.array([4, 6, 7]), np.array([4, 2, 1]), np.arange(10) * 10, profile=profile)
    objective = FirstItems(make_loss(LossConfig(), np.ones(ITEMS, np.int64)), PromptContrast(), hide=0.0, width=2 * WIDTH)
    batch = objective.mark(examples.batch(np.arange(3)), torch.Generator())
    assert batch.item.tolist() == [[1, 2, 3], [5, 0, 0], [0, 0, 0]] and batch.length.tolist() == [3, 1, 0]
    assert batch.target is not None and batch.target.tolist() == [[1, 2, 3, 4], [5, 6, 0, 0], [7, 0, 0, 0]]
    single = objective.mark(examples.batch(np.array([2])), torch.Generator())
    assert single.item.tolist() == [[0]] and single.target is not None and single.target.tolist() == [[7, 0]]
    for net in (net for name, net in NETWORKS if name in ("sasrec", "hstu")):
        for marked in (batch, single):
            loss = objective.loss(prompted(net), marked, torch.Generator().manual_seed(0))
            assert loss.isfinite() and loss > 0


def test_attributes_become_unknown_at_random() -> None:
    examples = Profiles(np.ones(2_000, np.int32), np.arange(1, 2_001), np.ones(2_000, np.int64), profile=np.ones((2_000, 2), np.int64))
    objective = FirstItems(make_loss(LossConfig(), np.ones(ITEMS, np.int64)), PromptContrast(), hide=0.3, width=2 * WIDTH)
    marked = objective.mark(examples.batch(np.arange(2_000)), torch.Generator().manual_seed(0))
    assert isinstance(marked, ProfileBatch)
    assert (marked.profile == 0).float().mean() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_parts_get_no_gradient(frozen: bool) -> None:
    examples = Profiles(np.arange(1, 9, dtype=np.int32), np.array([4, 8]), np.array([4, 4]), np.arange(8) * 10, profile=np.array([[1, 2], [2, 3]]))
    objective = FirstItems(make_loss(LossConfig(), np.ones(ITEMS, np.int64)), PromptContrast(), hide=0.0, width=2 * WIDTH)
    for name, base in CAUSAL:
        net = prompted(base, frozen).train()
        net.base.requires_grad_(not frozen)
        objective.loss(net, objective.mark(examples.batch(np.arange(2)), torch.Generator()), torch.Generator()).backward()
        assert all(parameter.grad is not None for parameter in net.generator.parameters())
        assert all((parameter.grad is None) == frozen for parameter in base.parameters()), name
        assert base.training != frozen, "dropout of a frozen base is off"
        base.zero_grad(set_to_none=True)
        base.requires_grad_(True).eval()


@pytest.mark.parametrize("way", ["adapter", "lora"])
def test_light_tuning_starts_close_to_the_base_and_leaves_it_alone(way: Way) -> None:
    for _, base in networks():
        batch = histories(5)
        before = base.hidden(batch)
        net = AdaptedNet(base, way, rank=4).train()
        torch.testing.assert_close(net.hidden(batch), before, atol=0.1, rtol=0.1)
        net.hidden(batch).sum().backward()
        own = [parameter for part in (net.adapters, net.changes) for parameter in part.parameters()]
        assert own and all(parameter.grad is not None for parameter in own)
        assert all(parameter.grad is None for parameter in base.parameters())
