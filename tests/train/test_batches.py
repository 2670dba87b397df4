from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_data

from tongtu.train.batches import token_batches, training_prefixes, training_sequences
from tongtu.train.loop import learning_rate_factor
from tongtu.train.settings import Training

lengths = st.lists(st.integers(2, 60), min_size=1, max_size=200).map(lambda x: np.array(x, np.int64))


@given(lengths, st.integers(1, 300), st.integers(0, 5))
def test_every_sequence_is_in_one_batch_within_the_budget(length: np.ndarray, tokens: int, epoch: int) -> None:
    batches = token_batches(length, tokens, 0, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(length)))
    assert all(len(rows) == 1 or len(rows) * length[rows].max() <= tokens for rows in batches)


def test_order_follows_from_seed_and_epoch_alone() -> None:
    length = np.random.default_rng(0).integers(2, 40, 500)
    first, again, later = (token_batches(length, 100, 0, epoch) for epoch in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not all(len(a) == len(b) and (a == b).all() for a, b in zip(first, later, strict=False))


def test_padding_stays_under_a_tenth() -> None:
    length = np.random.default_rng(0).geometric(0.1, 20_000) + 1
    padded = sum(len(rows) * length[rows].max() for rows in token_batches(length, 2048, 0, 0))
    assert padded / length.sum() < 1.1


@given(st.integers(2, 20))
def test_windows_teach_every_event_but_each_users_first_once(window: int) -> None:
    data = tiny_data(users=30)
    sequences = training_sequences(data, window, "all")
    learned = np.concatenate([np.arange(stop - length + 1, stop) for stop, length in zip(sequences.stop, sequences.length, strict=True)])
    expected = np.setdiff1d(np.arange(data.n_events), data.offset[:-1])
    assert sorted(learned.tolist()) == expected.tolist()
    assert sequences.length.max() <= window


@given(st.integers(2, 20))
def test_each_prefix_ends_with_another_event_and_reaches_back_as_far_as_it_may(window: int) -> None:
    data = tiny_data(users=30)
    prefixes = training_prefixes(data, window)
    assert prefixes.user is not None
    assert (prefixes.stop - 1).tolist() == np.setdiff1d(np.arange(data.n_events), data.offset[:-1]).tolist()
    first = data.offset[prefixes.user - 1]
    assert (prefixes.length == np.minimum(prefixes.stop - first, window)).all() and (prefixes.user == data.event_user[prefixes.stop - 1]).all()


def test_last_window_is_the_newest_events() -> None:
    data = tiny_data(users=30)
    sequences = training_sequences(data, 5)
    assert (sequences.stop == data.offset[1:]).all() and (sequences.length == np.minimum(data.lengths, 5)).all()


@pytest.mark.parametrize("windows", ["last", "all"])
def test_batches_say_whose_sequences_they_are(windows: Literal["last", "all"]) -> None:
    data = tiny_data(users=30)
    sequences = training_sequences(data, 5, windows)
    batch = sequences.batch(np.arange(len(sequences))[::-1].copy())
    assert batch.user is not None and len(batch.user) == len(batch.item)
    for user, row, length in zip(batch.user.tolist(), batch.item, batch.length, strict=True):
        assert set(row[:length].tolist()) <= set(data.history(user).tolist())
    part = batch.rows(slice(1, 4))
    assert part.user is not None and part.user.tolist() == batch.user[1:4].tolist()


def test_learning_rate_rises_then_falls_to_nothing() -> None:
    training = Training(warmup_steps=4, schedule="linear")
    factors = [learning_rate_factor(training, step, 12) for step in range(13)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0] and factors[4] == 1.0 and factors[-1] == 0.0
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert learning_rate_factor(Training(schedule="cosine"), 6, 12) == pytest.approx(0.5)
