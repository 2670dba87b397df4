"""Semantic ids: like items get like codes, no two items the same ones, and what was given stays given."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from clusters import GROUPS, WIDTH, catalogue, settings

from tongtu.decode.trie import Trie
from tongtu.errors import ConfigError, DataError
from tongtu.semantic.ids import SemanticIds
from tongtu.semantic.quality import collision_rate


@pytest.mark.parametrize("repair", ["extra", "balanced"])
def test_ids_differ_and_like_items_begin_alike(repair: str) -> None:
    vectors, group = catalogue(items=200)
    vectors[50:60] = vectors[50]  # items told apart by nothing
    ids = SemanticIds.fit(vectors, settings(repair=repair), seed=3)
    assert ids.codes.shape == (201, 3 + (repair == "extra")) and ids.codes.dtype == np.int32 and not ids.codes[0].any()
    assert len(np.unique(ids.codes[1:], axis=0)) == 200 and ids.collision_rate() == 0
    assert ids.facts["collision rate before repair"] > 0
    assert (ids.codes.min(0) >= 0).all() and (ids.codes[1:].max(0) < ids.sizes).all()
    pure = [np.bincount(group[ids.codes[1:, 0] == code]).max(initial=0) for code in range(GROUPS)]
    assert sum(pure) > 0.8 * 200 if repair == "extra" else sum(pure) > 0.7 * 200
    again = SemanticIds.fit(vectors, settings(repair=repair), seed=3)
    np.testing.assert_array_equal(ids.codes, again.codes)


def test_without_repair_items_share() -> None:
    vectors, _ = catalogue()
    vectors[50:60] = vectors[50]
    ids = SemanticIds.fit(vectors, settings(repair="none"), seed=3)
    assert ids.sizes == (GROUPS,) * 3 and ids.collision_rate() == ids.facts["collision rate before repair"] >= 9 / 240
    assert len(np.unique(ids.codes[50:60], axis=0)) == 1


def test_tokens_are_one_vocabulary_and_make_a_trie() -> None:
    vectors, _ = catalogue()
    ids = SemanticIds.fit(vectors, settings(), seed=0)
    tokens = ids.tokens(first=2)
    assert tokens.dtype == np.int64 and tokens.min() >= 2 and tokens.max() < 2 + ids.vocabulary
    for level, (low, size) in enumerate(zip(ids.offsets(2).tolist(), ids.sizes, strict=True)):
        assert ((tokens[:, level] >= low) & (tokens[:, level] < low + size)).all()
        np.testing.assert_array_equal(tokens[:, level] - low, ids.codes[1:, level])
    trie = Trie.of(tokens)
    assert trie.n_items == len(tokens) and int((trie.high - trie.low)[-1]) == 1, "every leaf is one item's"


@pytest.mark.parametrize("repair", ["extra", "balanced"])
def test_new_items_get_ids_that_nobody_has(repair: str) -> None:
    vectors, _ = catalogue(items=120)
    ids = SemanticIds.fit(vectors, settings(repair=repair), seed=0)
    new = np.concatenate([vectors[1:31], catalogue(1, 20)[0][1:]])  # thirty of them lie right on known ones
    found = ids.encode(new)
    assert found.dtype == np.int32 and found.shape == (50, ids.codes.shape[1]) and (found < ids.sizes).all()
    assert collision_rate(np.concatenate([ids.codes[1:], found])) == 0
    if repair == "extra":
        np.testing.assert_array_equal(found[:30, :3], ids.codes[1:31, :3])


def test_another_catalogue_keeps_known_ids() -> None:
    vectors, _ = catalogue(items=100)
    ids = SemanticIds.fit(vectors, settings(), seed=0)
    old = np.array([0, 7, 0, 100, 0], np.int32)
    other = ids.with_items(vectors[[0, 7, 9, 100, 9]], old)
    np.testing.assert_array_equal(other.codes[[1, 3]], ids.codes[[7, 100]])
    np.testing.assert_array_equal(other.codes[[2, 4], :3], ids.codes[[9, 9], :3])
    assert len({*map(tuple, ids.codes[1:].tolist()), *map(tuple, other.codes[[2, 4]].tolist())}) == 102
    assert other.sizes == ids.sizes


def test_a_full_group_sends_newcomers_to_the_next_code() -> None:
    vectors, _ = catalogue(items=60)
    ids = SemanticIds.fit(vectors, settings(size=8), seed=0)
    twins = np.repeat(vectors[5:6], 20, axis=0)
    found = ids.encode(twins)
    assert collision_rate(np.concatenate([ids.codes[1:], found])) == 0
    assert (found[:, :2] == ids.codes[5, :2]).all() and len(np.unique(found[:, 2])) > 1
    with pytest.raises(DataError, match="raise levels or size"):
        ids.encode(np.repeat(vectors[5:6], 65, axis=0))


def test_more_items_than_ids_are_refused() -> None:
    vectors, _ = catalogue(items=100)
    with pytest.raises(DataError, match="100 items and only 64 ids"):
        SemanticIds.fit(vectors, settings(size=4, repair="balanced"))
    full = SemanticIds.fit(vectors[:65], settings(size=4, repair="balanced"))
    assert len(np.unique(full.codes[1:], axis=0)) == 64, "every id there is"


def test_balance_moves_few_and_near() -> None:
    """Repair costs little of the vectors, and most items stay at their nearest codes."""
    vectors, _ = catalogue(items=500)
    plain = SemanticIds.fit(vectors, settings(size=16, repair="none"))
    even = SemanticIds.fit(vectors, settings(size=16, repair="balanced"))
    assert plain.facts["collision rate before repair"] > 0.02
    assert plain.facts["lost"] <= even.facts["lost"] < 1.3 * plain.facts["lost"]
    assert 0 < even.facts["moved by repair"] < 0.5
    np.testing.assert_array_equal(plain.codes[:, 0], even.codes[:, 0])


def test_saved_arrays_bring_all_of_it_back() -> None:
    vectors, _ = catalogue()
    ids = SemanticIds.fit(vectors, settings(), seed=0)
    arrays = {"weight": np.zeros(3), **ids.arrays()}
    back = SemanticIds.of_arrays(arrays, ids.config, ids.facts)
    np.testing.assert_array_equal(ids.codes, back.codes)
    assert back.sizes == ids.sizes and back.facts == ids.facts and back.vocabulary == ids.vocabulary
    new = catalogue(5, 30)[0][1:]
    np.testing.assert_array_equal(ids.encode(new), back.encode(new))


def test_a_refit_keeps_ids_that_still_fit() -> None:
    vectors, _ = catalogue(items=200)
    ids = SemanticIds.fit(vectors, settings(), seed=0)
    grown = np.concatenate([vectors, catalogue(2, 40)[0][1:]])
    grown[1:21] = catalogue(3, 20)[0][1:]  # other texts than before
    old = np.concatenate([np.arange(201), np.zeros(40)]).astype(np.int32)
    again = ids.refit(grown, old)
    same = (again.codes[1:201] == ids.codes[1:]).all(1)
    assert again.facts["new"] == 40 and again.facts["kept"] + again.facts["moved"] == 200
    assert same[20:].mean() > 0.8 and same[:20].mean() < 0.5, "who changed moves, who did not stays"
    assert again.collision_rate() == 0 and again.sizes == ids.sizes
    fresh = SemanticIds.fit(grown, settings(), seed=1)
    assert (fresh.codes[1:201] == ids.codes[1:]).all(1).mean() < 0.2, "without this nearly all ids change"
    assert again.facts["lost"] < 1.2 * fresh.facts["lost"]
    assert ids.refit(vectors, old[:201], tolerance=1e9).facts["moved"] == 0


def test_items_without_text_are_numbered_and_not_learned_from() -> None:
    vectors, _ = catalogue()
    ids = SemanticIds.fit(vectors, settings(), seed=0)
    bare = np.concatenate([vectors, np.zeros((30, WIDTH), np.float32)])
    other = SemanticIds.fit(bare, settings(), seed=0)
    np.testing.assert_array_equal(ids.codes, other.codes[: len(ids.codes)])
    assert other.facts["without vector"] == 30 and other.collision_rate() == 0


def test_mistakes_name_the_remedy() -> None:
    vectors, _ = catalogue()
    with pytest.raises(DataError, match="text columns"):
        SemanticIds.fit(np.zeros((5, 4), np.float32), settings())
    broken = vectors.copy()
    broken[3, 1] = np.nan
    with pytest.raises(DataError, match="not finite"):
        SemanticIds.fit(broken, settings())
    with pytest.raises(DataError, match="the encoder"):
        SemanticIds.fit(vectors, settings()).encode(vectors[1:, :5])
    with pytest.raises(ConfigError, match="rqvae"):
        settings(rqvae={"align": 1.0})
    with pytest.raises(ConfigError, match="'repair'"):
        settings(repiar="none")


def test_the_settings_seed_goes_before_the_fits() -> None:
    vectors, _ = catalogue()
    one, two = (SemanticIds.fit(vectors, settings(seed=7), seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(one.codes, two.codes)
    assert (SemanticIds.fit(vectors, settings(), seed=0).codes != one.codes).any()
    assert dataclasses.replace(one.config, seed=None) == settings()
