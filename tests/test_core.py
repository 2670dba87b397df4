"""Requests in columns are the same requests."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tongtu.core import NO_ITEMS, Request, RequestBatch

CODES = st.lists(st.integers(0, 9), max_size=6).map(lambda codes: np.array(codes, np.int32))


@st.composite
def request(draw: st.DrawFn) -> Request:
    history = draw(CODES)
    times = np.cumsum(draw(st.lists(st.integers(0, 99), min_size=len(history), max_size=len(history)))).astype(np.int64)
    ratings = np.array(draw(st.lists(st.integers(1, 5), min_size=len(history), max_size=len(history))), np.float32)
    return Request(
        history=history,
        times=times if draw(st.booleans()) and len(history) else None,
        ratings=ratings if draw(st.booleans()) and len(history) else None,
        now=draw(st.none() | st.integers(0, 9)),
        user=draw(st.none() | st.integers(1, 9)),
        attributes=draw(st.dictionaries(st.sampled_from(["gender", "age"]), st.sampled_from(["F", "M"]))),
        forget=draw(st.frozensets(st.sampled_from(["gender", "age"]))),
        candidates=draw(st.none() | CODES),
        wish=draw(st.none() | st.text()),
        exclude_seen=draw(st.booleans()),
    )


def plain(request: Request) -> tuple[Any, ...]:
    columns = (request.history, request.times, request.ratings, request.candidates)
    # An empty history has no times to know: none and no times are the same.
    lists = tuple(None if c is None or (not len(c) and c is not request.candidates) else np.asarray(c).tolist() for c in columns)
    return (*lists, request.now, request.user, dict(request.attributes), request.forget, request.wish, request.exclude_seen)


@given(st.lists(request(), max_size=5), st.data())
def test_a_batch_is_its_requests(requests: list[Request], data: st.DataObject) -> None:
    batch = RequestBatch.of(requests)
    assert RequestBatch.of(batch) is batch
    assert len(batch) == len(requests)
    assert [plain(r) for r in batch] == [plain(r) for r in requests]
    rows = data.draw(st.lists(st.integers(0, len(requests) - 1), max_size=7)) if requests else []
    assert [plain(r) for r in batch.take(np.array(rows, np.int64))] == [plain(requests[row]) for row in rows]
    cut = slice(data.draw(st.integers(-5, 5)), data.draw(st.integers(-5, 5)), data.draw(st.sampled_from([None, 2, -1])))
    assert [plain(r) for r in batch[cut]] == [plain(r) for r in requests[cut]]
    if requests:
        assert plain(batch[-1]) == plain(requests[-1])


@given(st.lists(CODES, max_size=6), st.none() | st.integers(1, 4))
def test_events_are_the_histories_end_to_end(histories: list[Any], last: int | None) -> None:
    batch = RequestBatch.of([Request(history=h) for h in histories])
    row, place = batch.events(last)
    kept = [h if last is None else h[-last:] for h in histories]
    assert batch.item[place].tolist() == [code for h in kept for code in h.tolist()]
    assert row.tolist() == [i for i, h in enumerate(kept) for _ in h]
    assert batch.lengths.tolist() == [len(h) for h in histories]


def test_shared_events_are_not_copied() -> None:
    events = np.arange(1, 9, dtype=np.int32)
    batch = RequestBatch(item=events, start=np.array([0, 2]), stop=np.array([4, 8]), exclude_seen=np.ones(2, np.bool_))
    assert batch[1].history.base is events and batch.take(np.array([1, 0, 1])).item is events
    row, place = batch.events(last=3)
    assert row.tolist() == [0, 0, 0, 1, 1, 1] and place.tolist() == [1, 2, 3, 5, 6, 7]


def test_no_request_at_all() -> None:
    batch = RequestBatch.of([])
    assert len(batch) == 0 and batch.item.dtype == np.int32 and batch.events()[0].tolist() == [] and list(batch) == []
    assert Request().history is NO_ITEMS
