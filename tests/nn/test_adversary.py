from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tongtu.nn.adversary import Adversary, AdversaryConfig, Forgetting
from tongtu.nn.eliminators import FilterEliminators, ForgetBatch
from tongtu.nn.erasing import Eraser
from tongtu.nn.forgetful import ForgetfulNet, user_states
from tongtu.nn.losses import LossConfig, make_loss
from tongtu.nn.sequence import BodyConfig, ItemSequenceNet

D, N = 6, 400
SHARES = [torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.25, 0.25])]


def telling(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Vectors of which the first two numbers tell the first attribute, and the third and fourth the second; every tenth user's are unknown."""
    draw = torch.Generator().manual_seed(seed)
    secret = torch.stack([torch.randint(1, 3, (N,), generator=draw), torch.randint(1, 4, (N,), generator=draw)], 1)
    x = torch.randn(N, D, generator=draw)
    x[:, 0] += 2.0 * secret[:, 0]
    x[:, 1] -= secret[:, 0]
    x[:, 2:4] += 1.5 * functional.one_hot(secret[:, 1] - 1, 3)[:, :2]
    secret[::10] = 0
    return x, secret


def apart(x: Tensor, code: Tensor) -> float:
    """How far the mean vectors of the values lie from each other, the most."""
    means = torch.stack([x[code == value].mean(0) for value in range(1, int(code.max()) + 1)])
    return float(torch.cdist(means, means).max())


NOBODY_TELLS = torch.zeros(N, 2, dtype=torch.int64)
COUNTS = [torch.tensor([10_000, 10_000]), torch.tensor([7_000, 7_000, 6_000])]
ASKED = torch.tensor([[False, False], [True, False], [False, True], [True, True]])


def watched(x: Tensor, secret: Tensor, directions: int = 2, batches: int = 1) -> Eraser:
    eraser = Eraser(COUNTS, D, directions)
    for number in range(4):
        for part, codes in zip(x.chunk(batches), secret.chunk(batches), strict=True):
            eraser.watch(part, torch.full((len(part),), number), codes, 0.0)
    return eraser


def erased(eraser: Eraser, x: Tensor, number: int, told: Tensor) -> Tensor:
    return eraser(x[:, None], ASKED[number].expand(N, 2), told)[:, 0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("batches", [1, 8])
def test_what_is_to_be_forgotten_is_taken_out_and_the_rest_left(told: bool, batches: int) -> None:
    x, secret = telling()
    known = (secret > 0).all(1)
    eraser, profile = watched(x, secret, batches=batches), secret if told else NOBODY_TELLS
    assert torch.equal(erased(eraser, x, 0, profile), x)
    for number, gone in ((1, (True, False)), (2, (False, True)), (3, (True, True))):
        vectors = erased(eraser, x, number, profile)
        for place, forgotten in enumerate(gone):
            left = apart(vectors[known], secret[known, place])
            assert left < 0.3 if forgotten else left > 1.0, (number, place, left)
        for place in (4, 5):
            assert torch.corrcoef(torch.stack([vectors[known, place], x[known, place]]))[0, 1] > 0.97


def test_an_eraser_that_has_seen_nobody_changes_nothing() -> None:
    x, secret = telling()
    for told in (secret, NOBODY_TELLS):
        torch.testing.assert_close(erased(Eraser(COUNTS, D, 1), x, 3, told), x)


def test_who_tells_a_part_is_treated_like_who_tells_nothing() -> None:
    x, secret = telling()
    eraser, part = watched(x, secret), secret.clone()
    part[:, 1] = 0
    torch.testing.assert_close(erased(eraser, x, 3, part), erased(eraser, x, 3, NOBODY_TELLS))
    assert not torch.allclose(erased(eraser, x, 1, part)[1:9], erased(eraser, x, 1, NOBODY_TELLS)[1:9], atol=0.1)


def test_of_few_users_less_is_believed() -> None:
    x, secret = telling()
    many, few = watched(x, secret), Eraser([torch.tensor([20, 20]), torch.tensor([14, 14, 12])], D, 1)
    few.watch(x, torch.ones(N, dtype=torch.int64), secret, 0.0)
    assert 0.05 < float(few.offset[1].norm() / many.offset[1].norm()) < 0.6


def test_discriminators_learn_and_do_not_move_the_vectors_and_the_other_way_round() -> None:
    x, secret = telling()
    x.requires_grad_()
    adversary, numbers = Adversary(SHARES, D, inner=16), torch.full((N,), 3)
    optimizer = torch.optim.Adam(adversary.parameters(), 0.02)
    losses: list[float] = []
    for _ in range(80):
        loss = adversary(x, numbers, secret)[0]
        optimizer.zero_grad()
        loss.backward()
        assert x.grad is None
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    optimizer.zero_grad()
    known = adversary(x, numbers, secret)[1]
    known.backward()
    assert x.grad is not None and x.grad.abs().max() > 0 and not x.grad[secret.sum(1) == 0].any(), "unknown users are left alone"
    assert all(parameter.grad is None for parameter in adversary.parameters())


def test_classes_weigh_alike() -> None:
    adversary = Adversary([torch.tensor([0.9, 0.1])], D, inner=4)
    x, code = torch.randn(100, D), torch.ones(100, 1, dtype=torch.int64)
    code[:10] = 2
    with torch.no_grad():
        for parameter in adversary.parameters():
            parameter.zero_()
    loss, known = adversary(x, torch.ones(100, dtype=torch.int64), code)
    loss, known = loss.detach(), known.detach()
    assert float(loss) == pytest.approx(np.log(2), abs=1e-5) and float(known) == pytest.approx(0.5, abs=1e-5)


def test_the_adversary_waits_until_discriminators_are_warm() -> None:
    torch.manual_seed(0)
    base = ItemSequenceNet(BodyConfig(max_length=8, width=D, dropout=0), 20).eval()
    net = ForgetfulNet(base, FilterEliminators(2, "combinations", D, 4), Eraser(COUNTS, D, 1), Adversary(SHARES, D, 4), 5.0).train()
    secret = torch.tensor([[1, 2], [2, 1], [0, 3]])
    batch = ForgetBatch(torch.randint(1, 20, (3, 6)), torch.full((3,), 6), profile=secret, secret=secret, forget=torch.ones(3, 2, dtype=torch.bool))
    objective, draw = Forgetting(make_loss(LossConfig(), np.ones(20, np.int64)), AdversaryConfig(weight=7.0, warmup=2), hide=0.0), torch.Generator()
    marked = objective.mark(batch, draw)
    assert marked.target is not None and marked.item.shape == (3, 5)
    calm = [float(objective.loss(net, marked, draw).detach()) for _ in range(2)]
    assert isinstance(net.adversary, Adversary) and int(net.adversary.steps) == 2
    assert float(objective.loss(net, marked, draw).detach()) > max(calm) + 5
    hidden = Forgetting(make_loss(LossConfig(), np.ones(20, np.int64)), AdversaryConfig(), hide=0.99).mark(batch, draw)
    assert isinstance(hidden, ForgetBatch) and hidden.secret is not None
    assert not hidden.profile.any() and torch.equal(hidden.secret, secret), "not told is not unknown to the adversary"


def test_vectors_are_looked_at_after_several_lengths() -> None:
    states = torch.arange(10.0).view(1, 10, 1).repeat(2, 1, 1)
    x, row = user_states(states, torch.tensor([8, 1]))
    assert x[row == 0, 0].tolist() == [1, 3, 5, 7] and x[row == 1, 0].tolist() == [0, 0, 0, 0]
