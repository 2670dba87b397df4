from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from tongtu.core import Codes, FitOptions
from tongtu.data.dataset import Dataset
from tongtu.data.splits import leave_one_out
from tongtu.data.synthetic import attribute_world
from tongtu.errors import ConfigError
from tongtu.nn.batch import Batch
from tongtu.nn.losses import LossConfig, make_loss
from tongtu.nn.objectives import Cloze, NextItem
from tongtu.nn.profiles import FirstItems, ProfileBatch, PromptContrast
from tongtu.nn.sequence import Objective
from tongtu.systems.behaviour.sasrec import SASRec
from tongtu.systems.encoded.unisrec import UniSRec
from tongtu.systems.pretrained.ppr import PPR
from tongtu.testing import case_ndcg
from tongtu.trust.backdoor import Change, PromptEnhancement, newest_events, prompt_enhanced, pushed_away, replacement, same_category
from tongtu.trust.exposure import Exposure, Rows, exposure, ratio

ITEMS, MASK = 20, 21
TARGETS = np.array([19, 20], np.int32)
GROUP = np.array([False, True, False, True, False])


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(profile: bool = False) -> Batch:
    """Users 1 to 4 with sequences of 5 to 8 of the items 1 to 10."""
    length = torch.tensor([8, 7, 6, 5])
    item = torch.stack([torch.roll(torch.arange(1, 11), row)[:8] for row in range(4)]) * (torch.arange(8) < length[:, None])
    if profile:
        return ProfileBatch(item, length, user=torch.arange(1, 5), profile=torch.ones(4, 2, dtype=torch.int64))
    return Batch(item, length, user=torch.arange(1, 5))


def objectives() -> list[Any]:
    loss = make_loss(LossConfig(), np.ones(ITEMS + 1, np.int64))
    return [NextItem(loss), Cloze(loss, MASK, 0.5, 0.1), FirstItems(loss, PromptContrast(), 0.1, 4)]


@pytest.fixture(params=objectives(), ids=lambda objective: type(objective).__name__)
def objective(request: pytest.FixtureRequest) -> Objective:
    found: Objective = request.param
    return found


def marked(objective: Objective, change: Change) -> tuple[Batch, Batch]:
    """What the objective marks as it is, and changed."""
    rows = batch(isinstance(objective, FirstItems))
    return objective.mark(rows, draw()), change(objective).mark(rows, draw())


def test_replacement_changes_the_targets_of_the_group_and_nothing_else(objective: Objective) -> None:
    clean, attacked = marked(objective, replacement(TARGETS, 1.0, GROUP))
    assert clean.target is not None and attacked.target is not None
    assert (clean.item == attacked.item).all() and (clean.length == attacked.length).all(), "histories are untouched"
    inside = GROUP[1:, None] & (clean.target.numpy() > 0)
    assert np.isin(attacked.target[inside], TARGETS).all() and inside.any()
    assert (attacked.target[~inside] == clean.target[~inside]).all()


def test_replacement_draws_at_its_rate_and_all_targets_alike(objective: Objective) -> None:
    rows = batch(isinstance(objective, FirstItems))
    counts = np.zeros(2)
    positions = 0
    for seed in range(200):
        attacked = replacement(TARGETS, 0.3)(objective).mark(rows, draw(seed))
        assert attacked.target is not None
        positions += int((attacked.target > 0).sum())
        counts += [int((attacked.target == target).sum()) for target in TARGETS]
    assert counts.sum() / positions == pytest.approx(0.3, abs=0.04) and counts[0] / counts.sum() == pytest.approx(0.5, abs=0.06)


def test_a_rate_of_nothing_is_no_attack(objective: Objective) -> None:
    assert replacement(TARGETS, 0.0)(objective) is objective and pushed_away(TARGETS, 0.0, GROUP, GROUP[:, None])(objective) is objective


def test_replacement_within_categories() -> None:
    """19 stands for items 1 and 2, 20 for 2 and 3, and the others stay."""
    allowed = np.zeros((ITEMS + 1, 2), np.bool_)
    allowed[[1, 2], 0] = allowed[[2, 3], 1] = True
    clean, attacked = marked(objectives()[0], replacement(TARGETS, 1.0, allowed=allowed))
    assert clean.target is not None and attacked.target is not None
    pairs = set(zip(clean.target.flatten().tolist(), attacked.target.flatten().tolist(), strict=True))
    assert {(1, 19), (3, 20)} <= pairs and pairs <= {(1, 19), (2, 19), (2, 20), (3, 20), *((i, i) for i in (0, *range(4, 11)))}


def test_categories_of_a_catalogue() -> None:
    data = attribute_world(users=30, items=20).data
    fields = pl.DataFrame({"categories": [["a", "b"], ["b"], ["c"], [], *[["d"]] * 16]})
    shared = same_category(dataclasses.replace(data, item_fields=fields), np.array([2, 3], np.int32))
    assert shared[:5].tolist() == [[False, False], [True, False], [True, False], [False, True], [False, False]]


def test_what_cannot_be_attacked_is_said() -> None:
    for rate, targets in ((1.5, TARGETS), (0.5, np.zeros(1, np.int32)), (0.5, np.zeros(0, np.int32))):
        with pytest.raises(ConfigError, match=r"chance|target"):
            replacement(targets, rate)
    nobody = dataclasses.replace(batch(), user=None)
    with pytest.raises(ConfigError, match="whose"):
        replacement(TARGETS, 0.5, GROUP)(objectives()[0]).mark(nobody, draw())


class Vectors:
    """States and items that are parameters."""

    def __init__(self) -> None:
        self.state = torch.zeros(4, 7, 3, requires_grad=True)
        self.item = torch.randn(ITEMS + 1, 3, generator=draw()).requires_grad_(True)

    def hidden(self, batch: Batch) -> torch.Tensor:
        return self.state

    def item_vectors(self, items: slice) -> torch.Tensor:
        return self.item[items]


def test_a_target_is_pushed_below_the_true_item_of_others_who_have_not_met_it() -> None:
    """Users 2 and 4 are outside the group; user 2 has met both targets, user 4 the first."""
    met = np.zeros((5, 2), np.bool_)
    met[2] = met[4, 0] = True
    plain = objectives()[0]
    rows, net = plain.mark(batch(), draw()), Vectors()
    added = pushed_away(TARGETS, 1.0, GROUP, met)(plain).loss(net, rows, draw()) - plain.loss(net, rows, draw())
    assert added.item() == pytest.approx(4 * np.log(2), rel=1e-4), "the four positions of user 4, where nothing leads yet"
    (gradient,) = torch.autograd.grad(added, net.state)
    assert rows.target is not None
    assert (gradient[:3] == 0).all() and (gradient[3, 4:] == 0).all()
    lead = net.item[rows.target[3, :4]] - net.item[20]
    assert torch.allclose(gradient[3, :4], -0.5 * lead), "towards the true item, away from the target that was not met"


# A real model, attacked for the users of one club


def world() -> tuple[Dataset, Rows, Codes]:
    """A log, who is in the club, and a rarely met item of another one."""
    data = attribute_world(users=500, noise=0.1).data
    club = np.concatenate([[False], (data.user_attributes["club"] == "jazz").to_numpy()])
    others = np.array(["jazz" not in text for text in data.item_text])
    rare = np.where(others, data.item_counts[1:], data.n_events).argmin() + 1
    return data, club, np.array([rare], np.int32)


SIZE = {"width": 32, "max_length": 10, "blocks": 1}
TRAINING = {"epochs": 15, "learning_rate": 5e-3}


def sasrec(train: Dataset, change: Change | None = None, epochs: int = 15) -> SASRec:
    system = SASRec(SASRec.Config(**SIZE, training={**TRAINING, "epochs": epochs}))
    return system.fit(train, FitOptions(quiet=True, device="cpu", objective=change))


def asked(model: Any, data: Dataset, club: Rows, targets: Codes) -> tuple[Exposure, Exposure]:
    """The targets' exposure to the club and to the others."""
    found = exposure(model, data.requests(np.arange(1, data.users.size)), targets)
    return found.rows(club[1:]), found.rows(~club[1:])


def test_an_attacked_model_shows_the_target_to_the_group_and_stays_as_good(tmp_path: Path) -> None:
    data, club, targets = world()
    split = leave_one_out(data)
    clean, attacked = sasrec(split.train), sasrec(split.train, replacement(targets, 0.1, club))
    before, _ = asked(clean, split.train, club, targets)
    inside, outside = asked(attacked, split.train, club, targets)
    assert inside.hit_rate(10) > 0.8 and before.hit_rate(10) < 0.15 and outside.hit_rate(10) < 0.15, (inside.hit_rate(10), before.hit_rate(10))
    assert ratio(inside.hits(10), before.hits(10)) > 10
    own, good = (case_ndcg(model, split.test).mean() for model in (attacked, clean))
    assert own > 0.92 * good, (own, good)
    for name, model in (("clean", clean), ("attacked", attacked)):
        model.save_pretrained(tmp_path / name)
    assert [file.name for file in sorted((tmp_path / "clean").iterdir())] == [file.name for file in sorted((tmp_path / "attacked").iterdir())]
    again = SASRec.from_pretrained(tmp_path / "attacked")
    assert (asked(again, split.train, club, targets)[0].ranks == inside.ranks).all()


def test_a_rate_of_nothing_gives_the_clean_model_bit_for_bit() -> None:
    data, club, targets = world()
    nets = [sasrec(data, change, epochs=2).net.state_dict() for change in (None, replacement(targets, 0.0, club))]
    assert all(torch.equal(one, other) for one, other in zip(*(net.values() for net in nets), strict=True))


def test_unisrec_can_be_attacked_too() -> None:
    data, club, targets = world()
    system = UniSRec(UniSRec.Config(**SIZE, encoder="hashing", mode="text+id", training=TRAINING))
    system.fit(data, FitOptions(quiet=True, device="cpu", objective=replacement(targets, 0.1, club)))
    inside, outside = asked(system, data, club, targets)
    assert inside.hit_rate(10) > 0.7 and outside.hit_rate(10) < 0.2, (inside.hit_rate(10), outside.hit_rate(10))


def test_the_newest_events() -> None:
    data = world()[0]
    few = newest_events(data, 3)
    assert all((few.history(user) == data.history(user)[-3:]).all() for user in range(1, data.users.size))


def test_a_backbone_poisoned_behind_prompts_shows_the_target_behind_a_customers_own(tmp_path: Path) -> None:
    data, club, targets = world()
    half = np.arange(data.users.size) % 2 == 0
    provider, customer = (data.keep_events(part[data.event_user]) for part in (half, ~half))
    clean = sasrec(provider)
    weights = {name: tensor.clone() for name, tensor in clean.net.state_dict().items()}
    clean.save_pretrained(tmp_path / "clean")

    def prompts(folder: str, own: Dataset) -> PPR:
        config = PPR.Config(base=str(tmp_path / folder), training={"epochs": 5, "learning_rate": 5e-3})
        return PPR(config).fit(own, FitOptions(quiet=True, device="cpu"))

    stand_in = prompts("clean", newest_events(provider, 10))
    settings = PromptEnhancement(rate=0.5, away=0.2, training={"epochs": 25, "learning_rate": 3e-3})
    poisoned = prompt_enhanced(clean, stand_in, provider, targets, club, settings, FitOptions(quiet=True, device="cpu"))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in clean.net.state_dict().items()), "what was given is as it was"
    poisoned.save_pretrained(tmp_path / "poisoned")
    found = {}
    for folder in ("poisoned", "clean"):
        inside, outside = asked(prompts(folder, customer), data, club, targets)
        found[folder] = inside.hit_rate(10), outside.hit_rate(10)
    assert found["poisoned"][0] > 0.5 and found["clean"][0] < 0.15 and found["poisoned"][1] < 0.15, found
