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


def test_the_map_takes_out_what_its_combination_says_and_leaves_the_rest() -> None:
    x, secret = telling()
    eraser = Eraser(SHARES, D, directions=2)
    numbers = torch.arange(4)
    torch.testing.assert_close(eraser(x[:, None].expand(-1, 4, -1).transpose(0, 1), numbers), x.expand(4, -1, -1))
    for number in numbers.tolist():
        eraser.watch(x, torch.full((N,), number), secret, 0.0)
    nothing, first, second, both = (eraser(x[:, None], torch.full((N,), number))[:, 0] for number in range(4))
    assert torch.equal(nothing, x)
    known = secret[:, 0] > 0
    for vectors, gone in ((first, (True, False)), (second, (False, True)), (both, (True, True))):
        for place, erased in enumerate(gone):
            left = apart(vectors[known], secret[known, place])
            assert left < 0.15 if erased else left > 1.0, (gone, place, left)
    for place in (4, 5):
        assert torch.corrcoef(torch.stack([both[:, place], x[:, place]]))[0, 1] > 0.98


def test_the_map_changes_as_little_as_possible() -> None:
    """Projecting the same directions out without regard to how the vectors vary would move them further."""
    x, secret = telling()
    mixed = x @ torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(1)))[0] * torch.tensor([3.0, 1.0, 0.3, 1.0, 2.0, 0.1])
    eraser = Eraser(SHARES[:1], D, directions=1)
    eraser.watch(mixed, torch.ones(N, dtype=torch.int64), secret[:, :1], 0.0)
    erased = eraser(mixed[:, None], torch.ones(N, dtype=torch.int64))[:, 0]
    known = secret[:, 0] > 0
    assert apart(erased[known], secret[known, 0]) < 0.2 < 1.0 < apart(mixed[known], secret[known, 0])
    difference = mixed[secret[:, 0] == 2].mean(0) - mixed[secret[:, 0] == 1].mean(0)
    plain = (mixed - mixed.mean(0)) @ difference[:, None] / difference.norm()
    scale = mixed.std(0)
    moved, moved_plain = ((mixed - erased) / scale).square().sum(), (plain * difference / difference.norm() / scale).square().sum()
    assert moved < moved_plain


@pytest.mark.parametrize("batches", [1, 8])
def test_batches_teach_the_map_what_all_vectors_at_once_do(batches: int) -> None:
    x, secret = telling()
    eraser, numbers = Eraser(SHARES, D, directions=1), torch.full((N,), 3)
    for part, codes in zip(x.chunk(batches), secret.chunk(batches), strict=True):
        eraser.watch(part, numbers[: len(part)], codes, 0.0)
    erased = eraser(x[:, None], numbers)[:, 0]
    known = secret[:, 0] > 0
    assert apart(erased[known], secret[known, 0]) < 0.25
    eraser.forget()
    assert not eraser.seen.any() and not eraser.cross.any()


def test_discriminators_learn_and_do_not_move_the_vectors_and_the_other_way_round() -> None:
    x, secret = telling()
    x.requires_grad_()
    adversary, numbers = Adversary(SHARES, D, inner=16), torch.full((N,), 3)
    optimizer = torch.optim.Adam(adversary.parameters(), 0.02)
    losses, known = [], torch.zeros(())
    for _ in range(80):
        loss, known = adversary(x, numbers, secret)
        optimizer.zero_grad()
        loss.backward()
        assert x.grad is None
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    optimizer.zero_grad()
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
    net = ForgetfulNet(base, FilterEliminators(2, "combinations", D, 4), Eraser(SHARES, D, 1), Adversary(SHARES, D, 4), 5.0).train()
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
