from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tongtu.core import Request, RequestBatch
from tongtu.nn.batch import request_batch
from tongtu.nn.eliminators import Copy, FilterEliminators, ForgetBatch, Mode, PromptEliminators, chosen, combination, how_many
from tongtu.nn.forgetful import ForgetfulNet, forgetful_states
from tongtu.nn.hstu import HSTUBodyConfig, HSTUNet
from tongtu.nn.sequence import BodyConfig, ItemSequenceNet

ITEMS, WIDTH, SIZES = 30, 8, (3, 4)
MODES: tuple[Mode, ...] = ("combinations", "compositional")
NOTHING, FIRST, SECOND, BOTH = [False, False], [True, False], [False, True], [True, True]


def base(kind: str) -> Any:
    torch.manual_seed(0)
    size: dict[str, Any] = {"max_length": 12, "width": WIDTH, "heads": 2, "dropout": 0.1}
    net: Any = HSTUNet(HSTUBodyConfig(**size), ITEMS) if kind == "hstu" else ItemSequenceNet(BodyConfig(block="sasrec", **size), ITEMS)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.3)
    return net.eval()


def eliminators(kind: str, mode: Mode) -> PromptEliminators:
    made = PromptEliminators(SIZES, mode, base(kind), prompts=3, inner=4)
    with torch.no_grad():
        for parameter in (*made.adapters.parameters(), *made.personal):  # as if they had learned
            parameter.normal_(std=0.3)
    return made


def asked(forget: list[list[bool]], profile: list[list[int]], item: Tensor | None = None) -> ForgetBatch:
    rows = len(forget)
    item = torch.arange(1, 6).expand(rows, 5) if item is None else item
    return ForgetBatch(item, torch.full((rows,), 5), profile=torch.tensor(profile), forget=torch.tensor(forget))


def test_combinations_are_numbered_and_chosen() -> None:
    forget = torch.tensor([NOTHING, FIRST, SECOND, BOTH])
    assert combination(forget).tolist() == [0, 1, 2, 3]
    assert chosen(forget, "combinations").long().tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert chosen(forget, "compositional").tolist() == forget.tolist()
    assert [how_many(4, mode) for mode in MODES] == [15, 4]


@pytest.mark.parametrize("kind", ["sasrec", "hstu"])
@pytest.mark.parametrize("mode", MODES)
def test_a_row_is_answered_alike_alone_and_beside_others(kind: str, mode: Mode) -> None:
    net = ForgetfulNet(base(kind), eliminators(kind, mode), None, None, 1.0).eval()
    forget, profile = [FIRST, BOTH, SECOND, BOTH], [[1, 2], [2, 0], [0, 3], [1, 1]]
    together = net.hidden(asked(forget, profile))
    for row in range(4):
        torch.testing.assert_close(together[row : row + 1], net.hidden(asked(forget[row : row + 1], profile[row : row + 1])), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[1], together[3], atol=1e-3), "who tells something else has another prompt"


def test_eliminators_of_single_attributes_add_up() -> None:
    made = eliminators("sasrec", "compositional")
    profile = torch.tensor([[1, 2]])

    def prompts(forget: list[bool]) -> Tensor:
        return made.prompts(torch.tensor([forget]), profile) - made.start

    torch.testing.assert_close(prompts(BOTH), prompts(FIRST) + prompts(SECOND))
    adapter: Any = made.adapters[0][0]  # type: ignore[index]
    x = torch.randn(1, 5, WIDTH)

    def change(forget: list[bool]) -> Tensor:
        return adapter(torch.tensor([forget]), x) - x  # type: ignore[no-any-return]

    torch.testing.assert_close(change(BOTH), change(FIRST) + change(SECOND))
    assert not change(NOTHING).any() and change(FIRST).abs().max() > 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_what_was_told_trains_the_prompts_of_its_own_values(mode: Mode) -> None:
    net = ForgetfulNet(base("sasrec"), eliminators("sasrec", mode), None, None, 1.0).train()
    net.hidden(asked([BOTH, BOTH], [[1, 3], [2, 3]])).square().sum().backward()
    assert isinstance(net.eliminators, PromptEliminators)
    last = how_many(2, mode) - 1
    touched = [table.grad[last].flatten(1).norm(dim=1) > 0 for table in net.eliminators.personal if table.grad is not None]
    assert [rows.tolist() for rows in touched] == [[False, True, True], [False, False, False, True]]
    assert all(parameter.grad is None for parameter in net.base.parameters())
    assert not net.base.training and net.eliminators.training


def test_adapters_start_near_nothing() -> None:
    made = PromptEliminators(SIZES, "combinations", base("sasrec"), prompts=3, inner=4)
    x, taken = torch.randn(2, 5, WIDTH), torch.ones(2, 3, dtype=torch.bool)
    for layer in made.adapters:
        for part in layer:  # type: ignore[attr-defined]
            assert 0 < (part(taken, x) - x).abs().max() < 0.02


def test_a_copy_changes_and_its_base_does_not() -> None:
    net = ForgetfulNet(base("sasrec"), Copy(base("sasrec")), None, None, 1.0).train()
    batch = asked([BOTH], [[1, 2]])
    with torch.no_grad():
        net.eval()
        torch.testing.assert_close(net.hidden(batch), net.base.hidden(batch))
    (net.hidden(batch).sum() + net.item_vectors(slice(None)).sum()).backward()
    assert net.eliminators.copy.item.weight.grad.any() and net.base.item.weight.grad is None


def test_states_are_those_after_the_newest_event_and_zero_without_one() -> None:
    net = ForgetfulNet(base("sasrec"), FilterEliminators(2, "combinations", WIDTH, 4), None, None, 1.0).eval()
    requests = RequestBatch.of([Request(history=np.array(h, np.int32)) for h in ([3, 4, 5], [], [7], [0, 0])])
    profile, forget = np.ones((4, 2), np.int64), np.array([BOTH, BOTH, FIRST, BOTH])
    states = forgetful_states(net, requests, profile, forget, 12)
    assert not states[[1, 3]].any()
    for row in (0, 2):
        batch = request_batch(requests.take(np.array([row])), 12)
        alone = ForgetBatch(batch.item, batch.length, profile=torch.ones(1, 2, dtype=torch.int64), forget=torch.from_numpy(forget[[row]]))
        torch.testing.assert_close(states[row], net.hidden(alone)[0, -1].detach(), rtol=1e-4, atol=1e-5)
