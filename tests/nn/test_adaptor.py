from __future__ import annotations

import numpy as np
import torch

from tongtu.nn.adaptor import MixtureAdaptor
from tongtu.nn.batch import Batch
from tongtu.nn.losses import LossConfig, make_loss
from tongtu.nn.objectives import NextItem
from tongtu.nn.sequence import BodyConfig
from tongtu.nn.text_sequence import NextText, TextSequenceNet, Vectors, seen_codes

BODY = BodyConfig(max_length=6, width=8, dropout=0.0)


def vectors(items: int = 12, width: int = 5) -> Vectors:
    table = np.random.default_rng(0).normal(size=(items + 1, width)).astype(np.float32)
    table[0] = 0
    return table


def net(ids: bool = False, table: Vectors | None = None) -> TextSequenceNet:
    torch.manual_seed(0)
    table = vectors() if table is None else table
    return TextSequenceNet(BODY, MixtureAdaptor(table.shape[1], BODY.width, experts=3, dropout=0.0), table, ids)


def test_the_adaptor_is_a_gated_sum_of_whitenings() -> None:
    torch.manual_seed(0)
    adaptor = MixtureAdaptor(5, 4, experts=3, dropout=0.0).eval()
    for parameter in adaptor.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(7, 5)
    gate = torch.softmax(x @ adaptor.gate.T, -1)
    parts = [gate[:, k, None] * ((x - adaptor.mean[k]) @ adaptor.whitening[4 * k : 4 * k + 4].T) for k in range(3)]
    torch.testing.assert_close(adaptor(x), torch.stack(parts).sum(0))


def test_gates_are_even_at_the_start_and_noisy_only_in_training() -> None:
    adaptor, x = MixtureAdaptor(5, 4, experts=8), torch.randn(6, 5)
    noisy = adaptor.gates(x)
    assert not torch.allclose(noisy, torch.full((6, 8), 1 / 8)) and torch.allclose(noisy.sum(1), torch.ones(6))
    assert torch.equal(adaptor.eval().gates(x), torch.full((6, 8), 1 / 8))


def test_an_item_without_text_has_only_its_id_vector() -> None:
    table = vectors()
    table[3] = 0
    assert (net(table=table).item_vectors(slice(3, 4)) == 0).all()
    with_ids = net(True, table)
    assert with_ids.id is not None
    torch.testing.assert_close(with_ids.item_vectors(slice(3, 4)), with_ids.id.weight[3:4])


def test_item_vectors_follow_the_weights_in_training_and_are_kept_afterwards() -> None:
    model = net().eval()
    before = model.item_vectors(slice(None))
    assert model.item_vectors(slice(0, 1)).data_ptr() == before.data_ptr()
    with torch.no_grad():
        model.adaptor.whitening.mul_(2)
    assert not torch.allclose(model.train().item_vectors(slice(1, 2)), before[1:2])
    assert torch.allclose(model.eval().item_vectors(slice(None)), 2 * before)


def test_text_vectors_are_no_weights() -> None:
    assert not [name for name in net().state_dict() if name.startswith("text")]


def test_the_loss_is_that_of_the_next_item_where_all_items_occur() -> None:
    model, draw = net(True).eval(), torch.Generator()
    loss = make_loss(LossConfig(temperature=0.1), np.ones(13, np.int64))
    batch = NextItem(loss).mark(Batch(torch.tensor([[3, 5, 9, 2], [1, 7, 0, 0]]), torch.tensor([4, 2])), draw)
    counts = np.ones(13, np.int64)
    counts[0] = 0
    torch.testing.assert_close(NextText(loss, counts).loss(model, batch, draw), NextItem(loss).loss(model, batch, draw))
    (one, items), (other, _) = (objective.surprise(model, batch) for objective in (NextText(loss, counts), NextItem(loss)))
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one.sum(), NextItem(loss).loss(model, batch, draw).detach(), rtol=1e-2, atol=0)
    assert items == 12 and one.shape == (4,)


def test_items_that_never_occur_are_no_negatives() -> None:
    counts = np.zeros(13, np.int64)
    counts[[2, 4, 6]] = 1
    assert seen_codes(counts).tolist() == [0, 2, 4, 6]
    model, draw = net(True), torch.Generator()
    objective = NextText(make_loss(LossConfig(), counts[seen_codes(counts)]), counts)
    objective.loss(model, objective.mark(Batch(torch.tensor([[2, 4, 6]]), torch.tensor([3])), draw), draw).backward()
    assert model.id is not None and model.id.weight.grad is not None
    assert model.id.weight.grad.abs().sum(1).nonzero().flatten().tolist() == [2, 4, 6]
