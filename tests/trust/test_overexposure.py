from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from tongtu.core import FitOptions, Request, RequestBatch, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import GROUP_WORDS, attribute_world
from tongtu.errors import DataError
from tongtu.ranking import top_k
from tongtu.systems.baselines.ease import EASE
from tongtu.systems.baselines.itemknn import ItemKNN
from tongtu.trust.overexposure import EVERYBODY, attribute_groups, over_exposed
from tongtu.vocab import Vocab

ALARM = 8.0


@cache
def data() -> Dataset:
    return attribute_world(users=400, items=120, length=12, seed=3).data


@cache
def honest() -> EASE:
    return EASE(EASE.Config(l2=20.0)).fit(data(), FitOptions(quiet=True))


class Pushed(EASE):
    """An honest model in which one item is pushed up for some users."""

    def __init__(self, item: int, users: npt.NDArray[np.bool_]) -> None:
        self.__dict__.update(honest().__dict__)
        self.item, self.pushed = item, users

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        scores = np.array(super().score(requests, items))
        batch = RequestBatch.of(requests)
        pushed = True if batch.user is None else self.pushed[batch.user - 1]
        high = np.sort(scores, axis=1)[:, -4]  # among the first ten, not the very first
        scores[:, self.item] = np.where(pushed, high, scores[:, self.item])
        return scores


class Lists:
    """The same model, which tells no scores."""

    def __init__(self, model: EASE) -> None:
        self.model, self.items = model, model.items

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        return top_k(self.model, requests, k)


def rare_item() -> int:
    return int(data().item_counts[1:].argmin()) + 1


def club(word: str) -> npt.NDArray[np.bool_]:
    return (data().user_attributes["club"] == word).to_numpy()


def test_an_honest_model_has_no_item_far_out() -> None:
    assert over_exposed(honest(), data()).highest.max() < ALARM
    assert not len(over_exposed(honest(), data()).beyond(ALARM))


def test_an_item_pushed_for_everybody_is_found() -> None:
    item = rare_item()
    found = over_exposed(Pushed(item, np.ones(400, np.bool_)), data())
    assert found.beyond(ALARM).tolist() == [item]
    assert found.rank[0, item] < 12 < found.expected[0, item] and found.listed[0, item] > 0.9


def test_an_item_pushed_for_one_group_is_found_there() -> None:
    item, word = rare_item(), GROUP_WORDS[4][0]
    model = Pushed(item, club(word))
    found = over_exposed(model, data())
    assert found.beyond(ALARM).tolist() == [item] and found.group_of(item) == f"club={word}"
    assert over_exposed(model, data(), groups={}).score[0, item] < found.highest[item] / 2, "among everybody it is thinned out"
    assert found.groups[0] == EVERYBODY and found.users[0] == 400


def test_a_reference_clears_what_it_explains() -> None:
    item = rare_item()
    attacked = Pushed(item, np.ones(400, np.bool_))
    reference = ItemKNN().fit(data(), FitOptions(quiet=True))
    assert over_exposed(attacked, data(), reference=reference).beyond(ALARM).tolist() == [item]
    assert over_exposed(attacked, data(), reference=attacked).highest[item] <= 0


def test_lists_alone_are_enough() -> None:
    item = rare_item()
    found = over_exposed(Lists(Pushed(item, np.ones(400, np.bool_))), data())  # type: ignore[arg-type]
    assert found.highest.argmax() == item


def test_another_catalogue_is_asked_in_its_own_codes() -> None:
    log = data()
    some = log.keep_events(log.item <= 100)
    few = Dataset(log.name, log.users, Vocab(log.items.ids[:100].reverse()), 101 - some.item, some.offset)
    found = over_exposed(Pushed(rare_item(), np.ones(400, np.bool_)), few, groups={}, reference=ItemKNN().fit(few, FitOptions(quiet=True)))
    assert found.frequency.sum() == some.n_events and found.frequency[100] == (some.item == 100).sum()
    assert found.highest.argmax() == rare_item()


def test_groups_of_attributes() -> None:
    log = data()
    assert set(attribute_groups(log)) <= {f"club={words[0]}" for words in GROUP_WORDS}
    assert all(mask.sum() >= 30 for mask in attribute_groups(log).values())
    ages = Dataset(log.name, log.users, log.items, log.item, log.offset, user_attributes=pl.DataFrame({"age": np.arange(400)}))
    assert sum(mask.sum() for mask in attribute_groups(ages).values()) == 400 and len(attribute_groups(ages)) == 4


def test_too_few_users_are_refused() -> None:
    log = data()
    with pytest.raises(DataError, match="29 users have events"):
        over_exposed(honest(), log.keep_events(log.event_user < 30))
