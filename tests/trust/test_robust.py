from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tongtu.core import PAD, FitOptions
from tongtu.data.synthetic import markov_world
from tongtu.errors import ConfigError
from tongtu.nn.answer import arrays_of
from tongtu.nn.batch import Batch
from tongtu.nn.losses import LossConfig, make_loss
from tongtu.nn.objectives import Cloze, NextItem, Surprised
from tongtu.nn.sequence import BodyConfig, ItemSequenceNet, SequenceModel
from tongtu.systems import make
from tongtu.trust.robust import Change, robust, trimmed

ITEMS = 12


class Written:
    """An objective whose surprises are written down, and which remembers what it was to learn."""

    def __init__(self, surprise: list[float]) -> None:
        self.told, self.learned = torch.tensor(surprise), torch.zeros(0)

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        return batch

    def surprise(self, net: SequenceModel, batch: Batch) -> tuple[Tensor, int]:
        return self.told, ITEMS

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
        assert batch.target is not None
        self.learned = batch.target
        return batch.target.float().sum()


def batch() -> Batch:
    target = torch.tensor([[3, 5, PAD], [7, 2, 9]])
    return Batch(target.clone(), torch.tensor([2, 3]), target)


def learned(change: Change, surprise: list[float]) -> list[list[int]]:
    written = Written(surprise)
    change(written).loss(None, batch(), torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    found: list[list[int]] = written.learned.tolist()
    return found


def test_the_least_likely_targets_are_left_out() -> None:
    assert learned(trimmed(0.4), [1.0, 2.9, 0.5, 3.0, 0.1]) == [[3, 0, 0], [7, 0, 9]]
    assert learned(trimmed(0.19), [1.0, 2.9, 0.5, 3.0, 0.1]) == [[3, 5, 0], [7, 2, 9]], "less than one of five"


def test_the_least_likely_sequences_are_left_out() -> None:
    assert learned(trimmed(0.5, by="sequence"), [1.9, 2.0, 0.5, 3.0, 0.1]) == [[0, 0, 0], [7, 2, 9]]


def test_nothing_is_left_out_before_anything_is_known() -> None:
    uniform = float(np.log(ITEMS))
    for change in (trimmed(0.4), robust(1.0)):
        assert learned(change, [uniform] * 4 + [uniform - 0.1]) == [[3, 5, 0], [7, 2, 9]]


def test_targets_count_by_their_probability() -> None:
    written, draw = Written([0.0, 1.0, 2.0, 3.0, 4.0]), torch.Generator().manual_seed(0)
    change, times = robust(0.5)(written), torch.zeros(2, 3)
    for _ in range(400):
        change.loss(None, batch(), draw)  # type: ignore[arg-type]
        times += written.learned != PAD
    share = (times / 400).flatten()[[0, 1, 3, 4, 5]]
    torch.testing.assert_close(share, torch.exp(-0.5 * written.told), atol=0.1, rtol=0)


def test_a_share_of_nothing_is_the_plain_objective() -> None:
    data = markov_world(users=40, items=20).data
    settings = {"width": 8, "blocks": 1, "max_length": 10, "training": {"epochs": 2}}
    changes = (None, trimmed(0.0), robust(0.0), trimmed(0.3))
    fits = [make("sasrec", settings).fit(data, FitOptions(quiet=True, device="cpu", objective=change)) for change in changes]
    plain, *others = [arrays_of(fit.net) for fit in fits]  # type: ignore[attr-defined]
    same = [all(np.array_equal(array, other[name]) for name, array in plain.items()) for other in others]
    assert same == [True, True, False]


@pytest.mark.parametrize("loss", [LossConfig(), LossConfig(kind="bce", negatives=1), LossConfig(temperature=0.1)])
def test_surprise_is_the_cross_entropy_of_each_target(loss: LossConfig) -> None:
    torch.manual_seed(0)
    net = ItemSequenceNet(BodyConfig(width=8, blocks=1, dropout=0.0), ITEMS + 1).eval()
    objective = NextItem(make_loss(loss, np.ones(ITEMS + 1, np.int64)))
    assert isinstance(objective, Surprised) and isinstance(Cloze(make_loss(loss, np.ones(ITEMS + 1, np.int64)), 13, 0.2, 0.1), Surprised)
    found, items = objective.surprise(net, batch())
    assert items == ITEMS and found.shape == (5,) and not found.requires_grad
    full = NextItem(make_loss(LossConfig(temperature=loss.temperature, precision="fp32"), np.ones(ITEMS + 1, np.int64)))
    torch.testing.assert_close(found.sum(), full.loss(net, batch(), torch.Generator()).detach())


def test_what_cannot_be_sifted_is_refused() -> None:
    class Mute:
        def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
            return batch

        def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
            return torch.zeros(())

    with pytest.raises(ConfigError, match="Mute cannot say"):
        trimmed(0.1)(Mute())
    with pytest.raises(ConfigError, match=r"share of 1 "):
        trimmed(1.0)
    with pytest.raises(ConfigError, match="power 2"):
        robust(2.0)
