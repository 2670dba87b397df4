from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tongtu import open_model
from tongtu.core import FitOptions
from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import markov_world
from tongtu.errors import DataError
from tongtu.serve.refit import hold_out, last_update, refit
from tongtu.systems import make

QUIET = FitOptions(seed=1, quiet=True)
SETTINGS = {"width": 16, "training": {"epochs": 12, "tokens": 512, "patience": 3, "learning_rate": 0.01}}


@pytest.fixture(scope="module")
def log() -> Dataset:
    """Every user's events are an hour apart, so that one moment cuts all histories at the same place."""
    world = markov_world(users=150, items=30, length=12, seed=3).data
    time = np.concatenate([3600 * np.arange(n) for n in world.lengths])
    return Dataset(world.name, world.users, world.items, world.item, world.offset, time, item_text=world.item_text)


SINCE = 3600 * 6


def before(log: Dataset, moment: int) -> Dataset:
    assert log.time is not None
    return log.keep_events(log.time < moment)


def saved(name: str, settings: dict[str, Any], data: Dataset, path: Path) -> Path:
    make(name, settings).fit(data, QUIET).save_pretrained(path)
    return path


def test_the_newest_events_are_held_out(log: Dataset) -> None:
    parts = hold_out(log, SINCE)
    assert log.time is not None and parts.train.time is not None
    new = int((log.time >= SINCE).sum())
    held = log.n_events - parts.train.n_events
    assert held == round(new * 0.2)
    cut = np.sort(log.time)[-held]
    assert parts.train.time.max() <= cut and parts.judge.requests.now.min() >= parts.choose.requests.now.max()
    for i in range(len(parts.judge)):
        request = parts.judge.requests[i]
        assert len(request.history) and parts.judge.target[i] not in request.history and request.times.max() <= request.now


def test_a_sequence_model_goes_on_from_its_weights_and_learns_what_is_new(log: Dataset, tmp_path: Path) -> None:
    path = saved("sasrec", SETTINGS, before(log, SINCE // 2), tmp_path / "old")
    done = refit(path, log, SINCE, QUIET)
    assert done.warm and done.judged is not None and done.judged.cases >= 20
    assert done.judged.new > done.judged.old and not done.judged.worse
    model: Any = done.model
    assert model.provenance["started_from_weights"] == 1 and model.provenance["update"]["until"] == done.until == int(log.time.max())
    model.save_pretrained(tmp_path / "new")
    assert last_update(tmp_path / "new") == done.until and last_update(path) is None
    assert open_model(tmp_path / "new").config == open_model(path).config


def test_a_neighbour_model_is_fitted_anew(log: Dataset, tmp_path: Path) -> None:
    done = refit(saved("itemknn", {}, before(log, SINCE), tmp_path / "old"), log, SINCE, QUIET)
    assert not done.warm and done.judged is not None


def test_weights_follow_their_items(log: Dataset, tmp_path: Path) -> None:
    """The new catalogue has the items in another order and some more; without a training step, known ones keep their vectors."""
    still = {**SETTINGS, "training": {"epochs": 1, "learning_rate": 1e-12}}
    items = log.items.ids.to_list()
    part = log.keep_events(np.isin(log.item, np.arange(1, 21)))
    for name in ("sasrec", "bert4rec", "hstu"):
        small = Dataset("small", part.users, type(log.items)(items[:20]), part.item, part.offset, part.time)
        old: Any = make(name, still).fit(small, QUIET)
        turned = type(log.items)(items[::-1])
        other = Dataset("other", log.users, turned, turned.translation(log.items)[log.item], log.offset, log.time)
        new: Any = make(name, still).fit(other, FitOptions(seed=9, quiet=True, start=old))
        assert new.provenance["started_from_weights"] == pytest.approx(20 / 30)
        for code, item in enumerate(items[:20], start=1):
            difference = new.net.item.weight[new.items.code(item)] - old.net.item.weight[code]
            assert float(difference.detach().abs().max()) < 1e-5, (name, item)


def test_too_little_is_told(log: Dataset, tmp_path: Path) -> None:
    path = saved("popular", {}, before(log, SINCE), tmp_path / "old")
    with pytest.raises(DataError, match="no event since"):
        refit(path, log, 10**9, QUIET)
    few = before(log, SINCE + 1)
    few = few.keep_events((few.time < SINCE) | (few.event_user < 40))
    with pytest.raises(DataError, match="--force"):
        refit(path, few, SINCE, QUIET)
    assert refit(path, few, SINCE, QUIET, blind=True).judged is None
