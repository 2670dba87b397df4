"""Quantisers: what each promises of its books, and that what NumPy reads is what faiss and torch fitted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from clusters import catalogue, settings

from tongtu.config import build
from tongtu.errors import ConfigError
from tongtu.semantic.codebooks import Projection, Quantiser, squared_distances
from tongtu.semantic.ids import SemanticIds
from tongtu.semantic.opq import product_books
from tongtu.semantic.quality import collision_rate, level_use, lost_share, shared_rate
from tongtu.semantic.rkmeans import k_means, residual_books
from tongtu.semantic.rqvae import even_assignment
from tongtu.semantic.settings import SemanticConfig

SMALL = {"hidden": [16], "latent": 8, "epochs": 30, "batch": 64, "checks": 3, "learning_rate": 0.01}


@pytest.mark.parametrize("kind", ["rkmeans", "opq", "rqvae"])
def test_every_kind_makes_ids_that_mean_something(kind: str) -> None:
    vectors, group = catalogue(items=300)
    config = settings(kind=kind, size=8, rqvae=SMALL)
    ids = SemanticIds.fit(vectors, config, seed=1)
    assert ids.kind == kind and ids.sizes[:3] == (8, 8, 8) and ids.sizes[3] >= 8
    assert ids.collision_rate() == 0 and ids.facts["lost"] < 0.5
    draw = np.random.default_rng(0)
    one, other = draw.integers(0, 300, (2, 4000))
    alike = (ids.codes[1:][one, :3] == ids.codes[1:][other, :3]).mean(1)
    same = group[one] == group[other]
    assert alike[same].mean() > alike[~same].mean() + 0.15, "items of one group share more codes"
    np.testing.assert_array_equal(ids.codes, SemanticIds.fit(vectors, config, seed=1).codes)
    back = SemanticIds.of_arrays(ids.arrays(), ids.config)
    np.testing.assert_array_equal(ids.encode(vectors[1:50]), back.encode(vectors[1:50]))
    moved = ids.refit(vectors, np.arange(301, dtype=np.int32))
    assert moved.facts["kept"] > 250 and moved.facts["lost"] < 1.1 * ids.facts["lost"] and moved.sizes == ids.sizes


def test_each_further_level_leaves_less() -> None:
    x = catalogue()[0][1:]
    books = residual_books(x, (6, 6, 6, 6), 20, 0)
    quantiser = Quantiser(Projection.scaling(x), books)
    codes = quantiser.codes(x)
    left = [np.square(x - quantiser.decoded(codes[:, :level])).mean() for level in range(5)]
    assert all(later < 0.95 * earlier for earlier, later in itertools.pairwise(left))
    for level in range(4):
        np.testing.assert_array_equal(quantiser.codes_at(x, codes[:, :level]), codes[:, level])


def test_growing_from_one_direction_uses_later_levels_more_evenly() -> None:
    """Vectors of many directions of falling weight: from drawn vectors, k-means leaves a centre near zero that most of what is left is nearest to."""
    x = (np.random.default_rng(0).normal(size=(1000, 64)) * np.arange(1, 65) ** -0.5).astype(np.float32)
    drawn, left = [], x.copy()
    for level in range(3):
        book = k_means(left, 32, 20, level)
        left -= book[squared_distances(left, book).argmin(axis=1)]
        drawn.append(book)
    found = {}
    for way, books in (("drawn", tuple(drawn)), ("growing", residual_books(x, (32,) * 3, 20, 0))):
        quantiser = Quantiser(Projection.scaling(x), books)
        codes = quantiser.codes(x)
        found[way] = np.mean([use.perplexity for use in level_use(codes, (32,) * 3)[1:]]), lost_share(x, quantiser.decoded(codes))
    assert found["growing"][0] > found["drawn"][0] + 2 and found["growing"][1] < found["drawn"][1]


def test_product_books_lie_apart_and_the_rotation_pays() -> None:
    draw = np.random.default_rng(0)
    x = (draw.normal(size=(400, 3)) @ draw.normal(size=(3, 11)) + 0.1 * draw.normal(size=(400, 11))).astype(np.float32)
    x -= x.mean(0)
    rotation, books = product_books(x, (8, 8, 8), 15, 0)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(11), atol=1e-4)
    used = np.array([book.any(0) for book in books])
    assert used.sum() == 11 and (used.sum(0) == 1).all(), "three, four and four directions, none twice"
    turned = Quantiser(Projection(np.zeros(11, np.float32), np.ones(1, np.float32)), books)
    z = x @ rotation.T
    plain = residual_books(x[:, :4], (8,), 15, 0), residual_books(x[:, 4:8], (8,), 15, 0), residual_books(x[:, 8:], (8,), 15, 0)
    parts = [Quantiser(turned.projection, book) for book in plain]
    unturned = sum(float(np.square(y - p.decoded(p.codes(y))).sum()) for y, p in zip((x[:, :4], x[:, 4:8], x[:, 8:]), parts, strict=True))
    assert np.square(z - turned.decoded(turned.codes(z))).sum() < 0.8 * unturned


def test_more_parts_than_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="12 numbers cannot be cut into 13 parts"):
        SemanticIds.fit(catalogue()[0], settings(kind="opq", levels=13))


def test_an_even_assignment_uses_every_code_alike() -> None:
    draw = torch.Generator().manual_seed(0)
    distance = torch.rand(256, 16, generator=draw)
    distance[:, 0] -= 0.9  # what nearly all would take
    assert (distance.argmin(1) == 0).float().mean() > 0.9
    count = torch.bincount(even_assignment(distance, 0.05), minlength=16)
    assert count.min() > 8 and count.max() < 32
    alone = torch.tensor([[0.0, 1.0, 2.0], [2.0, 0.0, 1.0], [1.0, 2.0, 0.0]])
    assert even_assignment(alone, 0.003).tolist() == [0, 1, 2]


def test_what_is_kept_has_the_fewest_collisions_of_the_second_half() -> None:
    vectors, _ = catalogue(items=300)
    ids = SemanticIds.fit(vectors, settings(kind="rqvae", size=8, repair="none", rqvae=SMALL), seed=0)
    curve = ids.facts["curve"]
    assert [look["epoch"] for look in curve] == [20, 25, 30]
    best = min(curve, key=lambda look: (look["collision rate"], look["lost"]))
    assert ids.facts["epoch kept"] == best["epoch"]
    assert ids.collision_rate() == pytest.approx(best["collision rate"]) and ids.facts["lost"] == pytest.approx(best["lost"], rel=1e-4)


def test_dead_codes_come_back() -> None:
    """Items in a tight lump and a few far away: without revival most codes of later levels die."""
    vectors, _ = catalogue(items=300)
    use = {}
    for revive in (0, 1):
        own = {**SMALL, "revive": revive, "sinkhorn": 0, "beta": 4.0, "learning_rate": 0.03}
        ids = SemanticIds.fit(vectors, settings(kind="rqvae", size=32, rqvae=own), seed=0)
        use[revive] = np.mean([level.used for level in ids.use()[:3]])
    assert use[1] > use[0] + 0.05


def test_alignment_brings_items_together_that_the_same_users_met() -> None:
    vectors, _ = catalogue(items=300)
    draw = np.random.default_rng(4)
    taste = draw.integers(0, 4, 301)
    met = np.eye(4, dtype=np.float32)[taste] + 0.05 * draw.normal(size=(301, 4)).astype(np.float32)
    met[:20] = 0  # nobody met these
    vectors[:, :4] += 3 * met
    gain = {}
    for align in (0.0, 1.0):
        own = {**SMALL, "align": align, "epochs": 60, "hidden": [32]}
        ids = SemanticIds.fit(vectors, settings(kind="rqvae", size=8, rqvae=own), seed=0, collaborative=met)
        one, other = draw.integers(20, 301, (2, 6000))
        alike = (ids.codes[one, :3] == ids.codes[other, :3]).mean(1)
        gain[align] = alike[taste[one] == taste[other]].mean() - alike[taste[one] != taste[other]].mean()
    assert gain[1.0] > gain[0.0] + 0.1
    with pytest.raises(ConfigError, match="collaborative vectors"):
        SemanticIds.fit(vectors, settings(kind="rqvae", rqvae={**SMALL, "align": 1.0}))


def test_diversity_runs_and_spreads() -> None:
    vectors, _ = catalogue(items=300)
    perplexity = {}
    for weight in (0.0, 1.0):
        own = {**SMALL, "diversity": weight, "revive": 0, "sinkhorn": 0}
        ids = SemanticIds.fit(vectors, settings(kind="rqvae", size=32, rqvae=own), seed=0)
        perplexity[weight] = np.mean([level.perplexity for level in ids.use()[:3]])
    assert perplexity[1.0] != perplexity[0.0]


def test_measures_on_codes_made_by_hand() -> None:
    codes = np.array([[0, 0], [0, 0], [0, 1], [2, 1]], np.int32)
    assert collision_rate(codes) == 0.25 and shared_rate(codes) == 0.5
    first, second = level_use(codes, (4, 2))
    assert (first.size, first.used, first.largest) == (4, 0.5, 0.75)
    assert first.perplexity == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    assert second.used == 1 and second.perplexity == pytest.approx(2)
    x = np.array([[0.0, 0], [2, 0]], np.float32)
    assert lost_share(x, x) == 0 and lost_share(x, np.array([[1.0, 0], [1, 0]], np.float32)) == 1
    assert collision_rate(codes[:0]) == 0


def test_settings_of_the_rqvae_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"rqvae\.latnet"):
        build(SemanticConfig, {"rqvae": {"latnet": 3}})
