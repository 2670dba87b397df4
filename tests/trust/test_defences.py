from __future__ import annotations

import dataclasses
import hashlib
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tongtu.core import PAD, FitOptions
from tongtu.data.splits import Split, leave_one_out
from tongtu.data.synthetic import World, markov_world
from tongtu.errors import ConfigError, ModelError
from tongtu.nn.answer import arrays_of
from tongtu.nn.batch import Batch
from tongtu.nn.sequence import Objective, SequenceModel
from tongtu.systems import make
from tongtu.testing import case_ndcg
from tongtu.trust.defences import prune, reset_items, retune
from tongtu.trust.distillation import distil
from tongtu.trust.exposure import hit_rates
from tongtu.trust.overexposure import over_exposed

SETTINGS = {"width": 32, "max_length": 14, "blocks": 1, "dropout": 0.1, "training": {"epochs": 25, "learning_rate": 5e-3}}
QUIET = FitOptions(quiet=True, device="cpu")
RATE = 0.15


class Replaced:
    """An attack: some targets become the provider's item, and histories stay."""

    def __init__(self, objective: Objective, item: int) -> None:
        self.objective, self.item = objective, item

    def mark(self, batch: Batch, draw: torch.Generator) -> Batch:
        marked = self.objective.mark(batch, draw)
        assert marked.target is not None
        struck = (torch.rand(marked.target.shape, generator=draw) < RATE) & (marked.target != PAD)
        return dataclasses.replace(marked, target=torch.where(struck, self.item, marked.target))

    def loss(self, net: SequenceModel, batch: Batch, draw: torch.Generator) -> Tensor:
        return self.objective.loss(net, batch, draw)


@cache
def world() -> tuple[World, Split, int]:
    made = markov_world(users=300, items=80, seed=2)
    split = leave_one_out(made.data)
    return made, split, int(split.train.item_counts[1:].argmin()) + 1


@cache
def model(kind: str = "sasrec", attacked: bool = True) -> Any:
    _, split, target = world()
    options = dataclasses.replace(QUIET, objective=(lambda objective: Replaced(objective, target)) if attacked else None)
    return make(kind, SETTINGS if kind == "sasrec" else {k: v for k, v in SETTINGS.items() if k != "block"}).fit(split.train, options)


def exposed(some: Any) -> float:
    _, split, target = world()
    return float(hit_rates(some, split.test.requests, np.array([target], np.int32), [5])[0])


def ndcg(some: Any) -> float:
    return float(case_ndcg(some, world()[1].test).mean())


def hashed(some: Any) -> str:
    digest = hashlib.sha256(repr(sorted(some.provenance)).encode())
    for name, array in sorted(arrays_of(some.net).items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def test_the_attack_works_and_is_found() -> None:
    _, split, target = world()
    assert exposed(model(attacked=False)) < 0.2 and exposed(model()) > 0.9
    found = over_exposed(model(), split.train)
    assert found.highest.argmax() == target and found.highest[target] > 2 * over_exposed(model(attacked=False), split.train).highest.max()


@pytest.mark.parametrize("kind", ["sasrec", "hstu"])
def test_an_item_written_anew_is_shown_as_rarely_as_it_should_be(kind: str) -> None:
    _, split, target = world()
    attacked = model(kind)
    before, hits = hashed(attacked), exposed(attacked)
    new = reset_items(attacked, split.train, np.array([target], np.int32))
    assert hits > 0.8 and exposed(new) < 0.15
    assert ndcg(new) > 0.97 * ndcg(attacked)
    assert hashed(attacked) == before and new.provenance["defences"] == [{"kind": "reset_items", "items": [f"item-{target}"]}]
    changed = (attacked.net.item.weight != new.net.item.weight).any(1).nonzero()[:, 0]
    assert changed.tolist() == [target]


def test_nothing_to_reset_changes_nothing() -> None:
    same = reset_items(model(), world()[1].train, np.zeros(0, np.int32))
    assert all(np.array_equal(array, arrays_of(same.net)[name]) for name, array in arrays_of(model().net).items())


def test_pruning_silences_the_units_that_are_least_active() -> None:
    _, split, _ = world()
    attacked = model()
    before = hashed(attacked)
    new = prune(attacked, split.train, 0.25)
    out, old = new.net.blocks[0].feed_forward[-1].weight, attacked.net.blocks[0].feed_forward[-1].weight
    silent = (out == 0).all(0)
    assert silent.sum() == 8 and torch.equal(out[:, ~silent], old[:, ~silent])
    seen: list[Tensor] = []
    hook = attacked.net.blocks[0].feed_forward[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].abs().flatten(0, 1)))
    attacked.score(split.train.requests(np.arange(1, 301, dtype=np.int32)), slice(0, 1))
    hook.remove()
    active = torch.cat(seen).mean(0)
    assert active[silent].max() <= active[~silent].min()
    assert hashed(attacked) == before and hashed(prune(attacked, split.train, 0.0)) != before, "it is noted"
    assert ndcg(new) > 0.9 * ndcg(attacked)


def test_training_on_with_a_larger_step_forgets_some_of_the_attack() -> None:
    _, split, _ = world()
    attacked = model()
    before = hashed(attacked)
    new = retune(attacked, split.train, factor=2, epochs=6, options=QUIET)
    assert exposed(new) < 0.6 * exposed(attacked) and ndcg(new) > 0.97 * ndcg(attacked)
    assert hashed(attacked) == before


def test_a_student_does_not_learn_what_is_left_out() -> None:
    _, split, target = world()
    attacked = model()
    before = hashed(attacked)
    student, copycat = (
        distil(attacked, make("sasrec", SETTINGS), split.train, np.array(left_out, np.int32), share=0.5, options=QUIET) for left_out in ([target], [])
    )
    assert exposed(student) < 0.2 < 0.5 < exposed(copycat)
    assert ndcg(student) > 0.97 * ndcg(attacked) and hashed(attacked) == before


def test_what_cannot_be_defended_is_refused() -> None:
    made, split, target = world()
    tuned = make("finetuning", {"base": "sasrec", "pretraining": {**SETTINGS, "training": {"epochs": 1}}, "way": "none"}).fit(split.train, QUIET)
    with pytest.raises(ModelError, match="frozen base"):
        prune(tuned, split.train, 0.1)
    other = markov_world(users=60, items=70).data
    with pytest.raises(ModelError, match="other items"):
        reset_items(model(), other, np.array([target], np.int32))
    with pytest.raises(ModelError, match="other items"):
        distil(model(), make("sasrec", SETTINGS), other, np.zeros(0, np.int32), options=QUIET)
    with pytest.raises(ConfigError, match="full softmax"):
        distil(model(), make("sasrec", {"loss": {"kind": "bce"}}), made.data, np.zeros(0, np.int32), options=QUIET)
    with pytest.raises(ConfigError, match=r"share of 1 "):
        prune(model(), split.train, 1.0)
