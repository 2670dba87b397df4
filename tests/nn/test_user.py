"""Pooling and user encoders: padding never enters, and what the names promise."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from tongtu.nn.pooling import PoolingKind, make_pooling
from tongtu.nn.user import LSTUR, UserKind, make_user_encoder


@pytest.mark.parametrize("kind", get_args(PoolingKind))
def test_what_is_masked_has_no_part(kind: PoolingKind) -> None:
    torch.manual_seed(0)
    pool = make_pooling(kind, 6, 5)
    x, valid = torch.randn(3, 4, 6), torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.bool)
    found = pool(x, valid)
    assert torch.equal(found, pool(torch.where(valid[..., None], x, 1e3), valid))
    assert torch.allclose(found[0], pool(x[:1, :2], valid[:1, :2])[0], atol=1e-6)
    assert (found[2] == 0).all()


def test_pooling_by_hand() -> None:
    x, valid = torch.tensor([[[1.0, 0.0], [3.0, 2.0], [9.0, 9.0]]]), torch.tensor([[True, True, False]])
    assert make_pooling("mean", 2, 3)(x, valid).tolist() == [[2, 1]]
    assert make_pooling("cls", 2, 3)(x, valid).tolist() == [[1, 0]]
    pool = make_pooling("attention", 2, 3)
    logits = torch.tanh(x[0, :2] @ pool.inner.weight.T + pool.inner.bias) @ pool.query.weight[0]  # type: ignore[union-attr,operator]
    assert torch.allclose(pool(x, valid)[0], logits.softmax(0) @ x[0, :2])


@pytest.mark.parametrize("kind", get_args(UserKind))
def test_a_user_does_not_depend_on_padding(kind: UserKind) -> None:
    torch.manual_seed(0)
    encoder = make_user_encoder(kind, 8, 6, 2, 0.1, users=5).eval()
    clicks, length, user = torch.randn(4, 5, 8), torch.tensor([5, 2, 1, 0]), torch.tensor([1, 2, 0, 3])
    valid = torch.arange(5) < length[:, None]
    together = encoder(clicks, valid, user)
    assert together.shape == (4, 8) and torch.isfinite(together).all()
    assert torch.equal(together, encoder(torch.where(valid[..., None], clicks, 1e3), valid, user))
    for row, count in enumerate(length.tolist()):
        width = max(count, 1)
        alone = encoder(clicks[row : row + 1, :width], valid[row : row + 1, :width], user[row : row + 1])
        assert torch.allclose(alone[0], together[row], atol=1e-6)


def test_lstur_knows_its_users_and_answers_others() -> None:
    torch.manual_seed(0)
    for beside in (False, True):
        encoder = LSTUR(8, users=5, beside=beside)
        torch.nn.init.normal_(encoder.user.weight)
        clicks, valid = torch.randn(1, 3, 8).expand(4, 3, 8), torch.ones(4, 3, dtype=torch.bool)
        known, other, unknown, foreign = encoder.eval()(clicks, valid, torch.tensor([1, 2, 0, 99]))
        assert not torch.allclose(known, other) and torch.equal(unknown, foreign) and not torch.allclose(known, unknown)


def test_lstur_masks_half_of_the_users_while_training() -> None:
    torch.manual_seed(0)
    encoder = LSTUR(4, users=2, beside=True)
    torch.nn.init.normal_(encoder.user.weight)
    clicks = torch.randn(1, 2, 4).expand(1000, 2, 4)
    own = encoder.train()(clicks, torch.ones(1000, 2, dtype=torch.bool), torch.ones(1000, dtype=torch.int64))[:, 2:]
    masked = (own == encoder.user.weight[0]).all(1)
    assert ((own == encoder.user.weight[1]).all(1) ^ masked).all() and 0.45 < masked.float().mean() < 0.55
