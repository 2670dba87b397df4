"""What systems give as user vectors is what they score from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_systems import SMALL

from tongtu.core import PAD, FitOptions, Represents, Request
from tongtu.data.synthetic import attribute_world
from tongtu.systems import make

SYSTEMS = ["als", "bpr", "bert4rec", "finetuning", "hstu", "pfrec", "plmnr", "ppr", "sasrec", "unisrec"]


@pytest.mark.parametrize("name", SYSTEMS)
def test_scores_follow_from_user_vectors(name: str) -> None:
    """For each item, its scores are one linear function of the vectors of 150 users, brought to length 1 where scores are cosines."""
    data = attribute_world(users=150, items=40).data
    system: Any = make(name, SMALL[name]).fit(data, FitOptions(quiet=True))
    assert isinstance(system, Represents)
    requests = data.requests(np.arange(1, data.users.size, dtype=np.int32))
    vectors, scores = system.user_vectors(requests).astype(np.float64), system.score(requests, slice(1, None))
    if getattr(getattr(system.config, "loss", None), "temperature", None):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vectors.std(axis=0).mean() > 1e-4, "users differ"
    vectors = np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1)
    rest = scores - vectors @ np.linalg.lstsq(vectors, scores, rcond=None)[0]
    assert np.abs(rest).max() < 1e-3 * scores.std()


@pytest.mark.parametrize("name", SYSTEMS)
def test_strangers_are_zeros_but_for_prompts(name: str) -> None:
    data = attribute_world(users=60, items=30).data
    system: Any = make(name, SMALL[name]).fit(data, FitOptions(quiet=True))
    vectors = system.user_vectors([Request(), Request(history=np.full(3, PAD, np.int32)), Request(user=1)])
    assert vectors.any() == (name == "ppr")


def test_prompts_tell_strangers_apart_by_their_attributes_until_they_want_them_forgotten() -> None:
    data = attribute_world(users=60, items=30).data
    system: Any = make("ppr", SMALL["ppr"]).fit(data, FitOptions(quiet=True))
    one, other = ({"club": club} for club in sorted(set(data.user_attributes["club"]))[:2])
    unknown, first, second, forgotten = system.user_vectors(
        [Request(), Request(attributes=one), Request(attributes=other), Request(attributes=one, forget=frozenset({"club"}))]
    )
    assert not np.allclose(first, second, atol=1e-5) and not np.allclose(first, unknown, atol=1e-5)
    np.testing.assert_allclose(forgotten, unknown, atol=1e-6)
