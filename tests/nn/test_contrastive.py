from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tongtu.nn.adaptor import MixtureAdaptor
from tongtu.nn.batch import Batch
from tongtu.nn.contrastive import Contrastive, ContrastiveConfig, drop_items, info_nce
from tongtu.nn.sequence import BodyConfig
from tongtu.nn.text_sequence import TextSequenceNet

BODY = BodyConfig(max_length=6, width=8, dropout=0.0)


def test_info_nce_by_hand() -> None:
    """Rows 0 and 2 stand for the same item: they are not each other's negatives, and the excluded logit adds nothing to the sum."""
    query = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    key = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 5.0]])
    # cosines: row 0: 1 0 (0); row 1: 0 1 1; row 2: (1) 0 0; in brackets what is excluded
    t = 0.5
    first = -math.log(math.exp(1 / t) / (math.exp(1 / t) + math.exp(0)))
    second = -math.log(math.exp(1 / t) / (math.exp(0) + math.exp(1 / t) + math.exp(1 / t)))
    third = -math.log(math.exp(0) / (math.exp(0) + math.exp(0)))
    found = info_nce(query, key, torch.tensor([7, 8, 7]), t)
    assert found.item() == pytest.approx(first + second + third, abs=1e-5)


def test_a_row_without_negatives_loses_nothing() -> None:
    states = torch.randn(2, 3, requires_grad=True)
    loss = info_nce(states, torch.randn(2, 3), torch.tensor([4, 4]), 0.07)
    loss.backward()
    assert loss.item() == 0 and states.grad is not None and torch.isfinite(states.grad).all()


def test_dropped_items_go_behind_the_end_and_the_first_stays() -> None:
    valid = torch.tensor([[True] * 5, [True, True, False, False, False], [True, False, False, False, False]])
    item = torch.arange(1, 16).view(3, 5) * valid
    kept, length = drop_items(valid, 0.6, torch.Generator().manual_seed(1))
    left = item.gather(1, kept)
    for row in range(3):
        stays = left[row, : length[row]].tolist()
        assert stays == sorted(stays) and stays[0] == item[row, 0] and 0 not in stays
    assert length[0] < 5 and length[2] == 1


def learned(config: ContrastiveConfig, **changes: Any) -> float:
    draw = np.random.default_rng(0)
    text, fewer = (draw.normal(size=(13, 5)).astype(np.float32) for _ in range(2))
    text[0] = fewer[0] = 0
    torch.manual_seed(0)
    net = TextSequenceNet(BODY, MixtureAdaptor(5, 8, experts=2, dropout=0.0), text).eval()
    objective = Contrastive(config, torch.from_numpy(changes.get("fewer", fewer)))
    random = torch.Generator().manual_seed(0)
    batch = objective.mark(Batch(torch.tensor([[3, 5, 9, 2], [1, 7, 4, 0], [8, 6, 0, 0]]), torch.tensor([4, 3, 2])), random)
    return objective.loss(net, batch, random).item()


def test_the_sequence_objective_counts_by_its_weight() -> None:
    without = learned(ContrastiveConfig(sequence_weight=0))
    one, two = (learned(ContrastiveConfig(sequence_weight=weight)) for weight in (1.0, 2.0))
    assert one > without and two - without == pytest.approx(2 * (one - without), rel=1e-4)


def test_word_drop_reads_the_poorer_texts() -> None:
    words = ContrastiveConfig(sequence_weight=1.0, item_drop_share=0.0, word_drop=0.5)
    items = ContrastiveConfig(sequence_weight=1.0, item_drop_share=1.0)
    other = np.ones((13, 5), np.float32)
    assert learned(words) != learned(words, fewer=other)
    assert learned(items) == learned(items, fewer=other)
