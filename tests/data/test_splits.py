"""Splits never let a target into training at its place, nor into its own history."""

from __future__ import annotations

import numpy as np
import pytest
from data_logs import dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tongtu.data.dataset import Dataset
from tongtu.data.splits import Cases, cold_users, global_time, leave_one_out, whole
from tongtu.errors import DataError

LOGS = st.dictionaries(st.sampled_from(["u", "v", "w", "x", "y", "z"]), st.text("abcdef", max_size=8), min_size=1)


def timed(log: dict[str, str], seed: int) -> Dataset:
    """The log with times that rise for each user, ties included."""
    rng = np.random.default_rng(seed)
    times = np.concatenate([np.zeros(0, np.int64), *(np.sort(rng.integers(0, 40, len(letters))) for letters in log.values())])
    return dataset(log, times.tolist())


def event_set(data: Dataset) -> list[tuple[int, int]]:
    """(user, item) of every event, in canonical order."""
    return list(zip(data.event_user.tolist(), data.item.tolist(), strict=True))


def histories_of(cases: Cases) -> list[tuple[int, list[int], int]]:
    return [(int(user), cases.requests[row].history.tolist(), int(target)) for row, (user, target) in enumerate(zip(cases.user, cases.target, strict=True))]


@settings(deadline=None)
@given(LOGS)
def test_leave_one_out(log: dict[str, str]) -> None:
    data = dataset(log)
    long = [user for user, letters in enumerate(log.values(), start=1) if len(letters) >= 3]
    if not long:
        with pytest.raises(DataError, match="three events"):
            leave_one_out(data)
        return
    split = leave_one_out(data)
    assert split.train.n_events == data.n_events - 2 * len(long)
    assert split.train.items == data.items and split.train.users == data.users
    for cases, back in ((split.valid, 2), (split.test, 1)):
        expected = [(user, data.history(user)[:-back].tolist(), int(data.history(user)[-back])) for user in long]
        assert histories_of(cases) == expected
    for user in range(1, len(data.users) + 1):
        kept = data.history(user)[:-2] if user in long else data.history(user)
        assert split.train.history(user).tolist() == kept.tolist()


@settings(deadline=None)
@given(LOGS, st.integers(0, 9), st.sampled_from(["first", "every"]))
def test_global_time(log: dict[str, str], seed: int, targets: str) -> None:
    data = timed(log, seed)
    assert data.time is not None
    if data.n_events < 4:
        return
    try:
        split = global_time(data, 0.5, 0.75, targets=targets)  # type: ignore[arg-type]
    except DataError as error:
        assert "too few distinct times" in str(error)
        return
    ordered = np.sort(data.time)
    cuts = [int(ordered[int(len(ordered) * part)]) for part in (0.5, 0.75)]
    assert split.train.time is not None and (split.train.time < cuts[0]).all()
    assert split.train.n_events == int((data.time < cuts[0]).sum())
    for cases, low, high in ((split.valid, cuts[0], cuts[1]), (split.test, cuts[1], 10**9)):
        assert cases.requests.now is not None
        moments = cases.requests.now
        assert ((moments >= low) & (moments < high)).all()
        for row, (user, history, target) in enumerate(histories_of(cases)):
            place = int(cases.requests.stop[row])
            assert data.item[place] == target and data.event_user[place] == user
            assert history == data.item[data.offset[user - 1] : place].tolist()
        inside = (data.time >= low) & (data.time < high)
        assert len(cases) == (int(inside.sum()) if targets == "every" else len(np.unique(data.event_user[inside])))


@settings(deadline=None)
@given(LOGS, st.integers(0, 2), st.integers(0, 5))
def test_cold_users_leave_no_trace_in_training(log: dict[str, str], shots: int, seed: int) -> None:
    data = dataset(log)
    if sum(len(letters) > shots for letters in log.values()) < 2:
        with pytest.raises(DataError, match="lower shots"):
            cold_users(data, 0.5, shots, seed)
        return
    split = cold_users(data, 0.5, shots, seed)
    asked = [*split.valid.user.tolist(), *split.test.user.tolist()]
    assert len(set(asked)) == len(asked) >= 2
    assert not set(asked) & {user for user, _ in event_set(split.train)}
    assert split.train.n_events == data.n_events - sum(len(data.history(user)) for user in asked)
    for cases in (split.valid, split.test):
        for user, history, target in histories_of(cases):
            assert history == data.history(user)[:shots].tolist() and target == data.history(user)[shots]


@settings(deadline=None)
@given(LOGS, st.lists(st.booleans(), min_size=6, max_size=6), st.integers(0, 5))
def test_cold_users_may_be_limited(log: dict[str, str], some: list[bool], seed: int) -> None:
    data = dataset(log)
    among = np.array(some[: len(log)])
    able = {user for user, (letters, may) in enumerate(zip(log.values(), some, strict=False), start=1) if letters and may}
    if len(able) < 2:
        with pytest.raises(DataError, match="two of the users who may be held out have more than 0 events: lower shots"):
            cold_users(data, 0.5, 0, seed, among=among)
        return
    split = cold_users(data, 0.5, 0, seed, among=among)
    asked = [*split.valid.user.tolist(), *split.test.user.tolist()]
    assert set(asked) <= able and len(asked) == max(2, round(len(able) * 0.5))
    assert set(split.train.event_user.tolist()) == set(data.event_user.tolist()) - set(asked)


def test_bounds_and_wholes() -> None:
    data = dataset({"u": "abc"}, times=[1, 2, 3])
    assert whole(data).train is data and len(whole(data).test) == 0
    with pytest.raises(DataError, match="--time"):
        global_time(dataset({"u": "abc"}))
    with pytest.raises(DataError, match="rise between 0 and 1"):
        global_time(data, 0.9, 0.8)
    with pytest.raises(DataError, match="too few distinct times"):
        global_time(dataset({"u": "abc"}, times=[1, 1, 1]))
