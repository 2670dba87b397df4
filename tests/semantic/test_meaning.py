"""What codes mean: telling words, items near the middle, a square of like codes, and vectors of who met what."""

from __future__ import annotations

import numpy as np
from clusters import GROUPS, catalogue, settings

from tongtu.data.splits import leave_one_out
from tongtu.data.synthetic import text_world
from tongtu.semantic.collaborative import met_vectors
from tongtu.semantic.ids import SemanticIds
from tongtu.semantic.meaning import Wording, items_under, meanings, places

KINDS = ("soap", "comb", "lamp", "rope", "kiwi", "drum")


def test_codes_are_told_by_the_words_of_their_items() -> None:
    vectors, group = catalogue(items=240)
    vectors[1:] *= 3
    ids = SemanticIds.fit(vectors, settings(), seed=2)
    texts = [f"a {KINDS[g]} of the shop, {KINDS[g]}s number {n}" for n, g in enumerate(group)]
    found = meanings(ids, Wording(texts))
    assert sum(one.items for one in found) == 240 and [one.items for one in found] == sorted((one.items for one in found), reverse=True)
    for one in found:
        most = np.bincount(group[one.nearest - 1]).argmax()
        if one.items > 10:
            assert one.words[0].startswith(KINDS[most]) and "shop" not in one.words[:1]
        assert len([word for word in one.words if word.startswith(KINDS[most])]) <= 1, "a word and its plural tell the same"
        assert (ids.codes[one.nearest, 0] == one.prefix[0]).all()
        behind = meanings(ids, Wording(texts), one.prefix)
        assert sum(two.items for two in behind) == one.items and all(two.prefix[0] == one.prefix[0] for two in behind)


def test_items_near_the_middle_come_first() -> None:
    vectors, _ = catalogue(items=240)
    ids = SemanticIds.fit(vectors, settings(), seed=2)
    code = int(np.bincount(ids.codes[1:, 0]).argmax())
    under = items_under(ids, (code,))
    assert set(under.tolist()) == set((np.flatnonzero(ids.codes[1:, 0] == code) + 1).tolist())
    z = ids.quantiser.projection(vectors[under])
    far = np.square(z - ids.quantiser.books[0][code]).sum(1)
    half = len(far) // 2
    assert far[:half].mean() < far[half:].mean()


def test_every_code_has_a_cell_of_its_own_among_its_like() -> None:
    vectors, _ = catalogue(items=240)
    ids = SemanticIds.fit(vectors, settings(size=25), seed=2)
    cells = places(ids, list(range(25)))
    assert len({*map(tuple, cells.tolist())}) == 25 and cells.min() == 0 and cells.max() == 4
    book = ids.quantiser.books[0]
    apart = np.linalg.norm(book[:, None] - book, axis=2)
    near = np.abs(cells[:, None] - cells).sum(2)
    assert apart[near == 1].mean() < 0.9 * apart[near > 1].mean()
    assert places(ids, [3]).tolist() == [[0, 0]] and GROUPS == 6


def test_items_that_the_same_users_met_have_like_vectors() -> None:
    world = text_world(users=300)
    train = leave_one_out(world.data).train
    vectors = met_vectors(train, 16, 0)
    assert vectors.shape == (train.items.size, 16) and vectors.dtype == np.float32 and not vectors[0].any()
    met = train.item_counts > 0
    assert not vectors[~met].any() and vectors[met].any(1).mean() > 0.9
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    near = (unit @ unit.T)[met][:, met]
    group = np.asarray(world.group)[met]
    same = (group[:, None] == group) & ~np.eye(len(group), dtype=bool)
    assert near[same].mean() > near[~same].mean() + 0.05
    np.testing.assert_array_equal(vectors, met_vectors(train, 16, 0))
