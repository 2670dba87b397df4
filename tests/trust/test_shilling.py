from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from tongtu.core import FitOptions
from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import attribute_world
from tongtu.errors import ConfigError, DataError
from tongtu.systems.baselines.itemknn import ItemKNN
from tongtu.trust.exposure import exposure
from tongtu.trust.shilling import KINDS, Kind, fake_mask, fake_users

TARGETS = np.array([30, 47], np.int32)


def log(rated: bool = True) -> Dataset:
    data = attribute_world(users=200, items=60).data
    if not rated:
        return data
    rating = 1 + (data.item.astype(np.int64) * 7 + data.event_user) % 5
    return dataclasses.replace(data, event_fields=pl.DataFrame({"rating": rating.astype(np.float32), "place": np.arange(data.n_events)}))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def test_true_users_stay_and_fake_ones_come_behind(kind: Kind) -> None:
    data = log()
    with_fakes = fake_users(data, TARGETS, 0.1, kind)
    n, events = len(data.users), data.n_events
    assert with_fakes.users.ids[:n].to_list() == data.users.ids.to_list() and with_fakes.items == data.items
    assert (with_fakes.item[:events] == data.item).all() and (with_fakes.offset[: n + 1] == data.offset).all()
    assert data.time is not None and with_fakes.time is not None and (with_fakes.time[:events] == data.time).all()
    assert with_fakes.event_fields[:events].equals(data.event_fields) and with_fakes.user_attributes[:n].equals(data.user_attributes)
    assert with_fakes.users.ids[n:].to_list() == [f"fake-{number}" for number in range(1, 21)]
    fake = fake_mask(with_fakes)
    assert fake.tolist() == [False] * (n + 1) + [True] * 20 and not fake_mask(data).any()
    assert with_fakes.user_attributes.height == n + 20 and "club" in with_fakes.attributes(np.array([n + 1]))[0]


def test_fake_profiles_look_plausible_and_hold_every_target(kind: Kind) -> None:
    data = log()
    with_fakes = fake_users(data, TARGETS, 0.2, kind)
    assert data.time is not None and with_fakes.time is not None
    first = len(data.users)
    lengths = with_fakes.lengths[first:]
    assert abs(lengths.mean() - data.lengths.mean()) < 1.5
    for user in range(first, len(with_fakes.users)):
        place = slice(with_fakes.offset[user], with_fakes.offset[user + 1])
        items = with_fakes.item[place].tolist()
        assert len(set(items)) == len(items) and set(TARGETS.tolist()) <= set(items) and 0 not in items
        times = with_fakes.time[place]
        assert (np.diff(times) >= 0).all() and data.time.min() <= times[0] and times[-1] <= data.time.max()
    new = with_fakes.event_fields[data.n_events :]
    assert new["rating"].is_in([1.0, 2.0, 3.0, 4.0, 5.0]).all() and new["place"].null_count() == new.height
    assert (new.filter(pl.Series(np.isin(with_fakes.item[data.n_events :], TARGETS)))["rating"] == 5).all()


def test_kinds_draw_the_filler_they_say() -> None:
    data = log()
    counts, filler = data.item_counts, {}
    for name in KINDS:
        item = fake_users(data, TARGETS, 1.0, name).item[data.n_events :]
        filler[name] = item[~np.isin(item, TARGETS)]
    popularity = {name: counts[item].mean() for name, item in filler.items()}
    assert popularity["random"] < 0.9 * min(popularity["average"], popularity["bandwagon"], popularity["sequential"])
    favourites = np.argsort(-np.where(np.isin(np.arange(61), TARGETS), 0, counts))[:3]
    assert np.isin(filler["bandwagon"], favourites).mean() > 0.2 > np.isin(filler["average"], favourites).mean()
    groups = {(target - 1) % 10 for target in TARGETS.tolist()}
    near = {name: np.isin((item - 1) % 10, list(groups)).mean() for name, item in filler.items()}
    assert near["segment"] > 0.4 > 0.3 > near["random"], near


def test_ratings_of_the_kinds() -> None:
    data = log()
    rest = {}
    for name in ("random", "average", "bandwagon", "segment"):
        found = fake_users(data, TARGETS, 1.0, name)
        new = np.arange(found.n_events) >= data.n_events
        assert found.ratings is not None and data.ratings is not None
        rest[name] = found.ratings[new & ~np.isin(found.item, TARGETS)]
    assert rest["random"].mean() == pytest.approx(data.ratings.mean(), abs=0.15) and len(np.unique(rest["random"])) > 1
    assert set(np.unique(rest["segment"])) == {1.0, 5.0}
    assert rest["bandwagon"].mean() > rest["random"].mean() + 0.3


def test_sequential_fakes_are_true_sequences_with_targets_in_them() -> None:
    data = log()
    found = fake_users(data, TARGETS, 0.3, "sequential")
    whole = [data.history(user).tolist() for user in range(1, data.users.size)]
    for user in range(data.users.size, found.users.size):
        items = found.history(user).tolist()
        kept = {place: item for place, item in enumerate(items) if item not in TARGETS}
        tails = [history[-len(items) :] for history in whole if len(history) >= len(items)]
        assert any(all(tail[place] == item for place, item in kept.items()) for tail in tails)


def test_draws_follow_from_the_seed() -> None:
    data = log(rated=False)
    one, again, other = (fake_users(data, TARGETS, 0.1, "average", seed) for seed in (0, 0, 1))
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert not one.event_fields.width
    untimed = fake_users(dataclasses.replace(data, time=None), TARGETS, 0.001, "random")
    assert untimed.time is None and len(untimed.users) == len(data.users) + 1


def test_a_simple_model_is_swayed(kind: Kind) -> None:
    data = log()
    target = np.array([int(data.item_counts[1:].argmin()) + 1], np.int32)
    requests = data.requests(np.arange(1, data.users.size))
    clean = ItemKNN().fit(data, FitOptions(quiet=True))
    fooled = ItemKNN().fit(fake_users(data, target, 0.3, kind), FitOptions(quiet=True))
    assert exposure(fooled, requests, target).hit_rate(10) > exposure(clean, requests, target).hit_rate(10) + 0.1


def test_what_cannot_be_attacked_is_said() -> None:
    data = log()
    with pytest.raises(ConfigError, match="segment"):
        fake_users(data, TARGETS, 0.1, "segmnt")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="share"):
        fake_users(data, TARGETS, 0.0, "random")
    for wrong in ([], [0], [61], [5, 5]):
        with pytest.raises(ConfigError, match="target"):
            fake_users(data, np.array(wrong, np.int32), 0.1, "random")
    with pytest.raises(DataError, match="already"):
        fake_users(fake_users(data, TARGETS, 0.1, "random"), TARGETS, 0.1, "random")
