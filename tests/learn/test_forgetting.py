"""What a user wants left out is left out: in a world where an attribute decides half of what users like."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tongtu.core import FitOptions
from tongtu.data.splits import leave_one_out
from tongtu.data.synthetic import two_taste_world
from tongtu.systems import make
from tongtu.testing import case_ndcg
from tongtu.trust.probe import infer

QUIET = FitOptions(quiet=True)
BODY: dict[str, Any] = {"width": 32, "max_length": 12, "blocks": 1, "training": {"epochs": 15, "learning_rate": 5e-3}}
TRAINING = {"epochs": 12, "learning_rate": 5e-3}


@pytest.mark.parametrize("settings", [{}, {"mode": "compositional"}], ids=["combinations", "compositional"])
def test_the_club_is_forgotten_and_the_users_own_taste_is_not(settings: dict[str, Any], tmp_path: Path) -> None:
    world = two_taste_world()
    split = leave_one_out(world.data)
    system: Any = make("pfrec", {"pretraining": BODY, "training": TRAINING, **settings}).fit(split.train, QUIET)
    popular = case_ndcg(make("popular").fit(split.train, QUIET), split.test).mean()
    club = np.array([1 + (name == "garden") for name in world.data.user_attributes["club"]])[split.test.user - 1]
    asked = dataclasses.replace(split.test.requests, forget=[frozenset({"club"})] * len(split.test))
    vectors = [system.user_vectors(requests) for requests in (split.test.requests, asked)]
    known, forgotten = (np.mean([infer(one, club, "linear", seed, repeats=1).auc for seed in range(5)]) for one in vectors)
    before, after = case_ndcg(system, split.test).mean(), case_ndcg(system, dataclasses.replace(split.test, requests=asked)).mean()
    assert known > 0.75 and abs(forgotten - 0.5) < 0.08, (known, forgotten)
    assert before > after > 1.5 * popular, (before, after, popular)
