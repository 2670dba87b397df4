"""Every promise of a recommender, one check each; see `tongtu.testing`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tongtu.core import PAD, Codes, FitOptions, Recommender, Request, RequestBatch, Scorer, TopK
from tongtu.data.dataset import Dataset
from tongtu.data.synthetic import attribute_world
from tongtu.errors import DataError, ModelError, TongtuError
from tongtu.testing.case import Case, K, SystemFactory, close, refuses, require, same_answers, unusual
from tongtu.testing.folders import check_folder
from tongtu.testing.vectors import check_products, check_vectors


def check_recommender(system_factory: SystemFactory, data: Dataset | None = None, *, seed: int = 0) -> None:
    """Check everything that evaluation, serving and reports rely on.

    Args:
        system_factory: Makes an unfitted system with small settings; it is fitted twice.
        data: A small log with times and at least ten users and ten items; a synthetic one if None.
        seed: Of the fits.

    Raises:
        AssertionError: For the first broken promise, in words.
    """
    data = _read_only(attribute_world(users=60, items=30, length=9, seed=1).data if data is None else data)
    options = FitOptions(seed=seed, quiet=True)
    before = dataclasses.replace(data).fingerprint
    system = system_factory()
    fitted = system.fit(data, options)
    case = Case(system_factory, data, options, system, data.requests(np.arange(1, 9, dtype=np.int32)))
    require(fitted is system, case, "fit must return the recommender itself")
    require(dataclasses.replace(data).fingerprint == before, case, "fit must leave the data set as it was")
    for check in CHECKS:
        check(case)


def _check_facts(case: Case) -> None:
    require(isinstance(case.system, Recommender), case, "a recommender has fit, recommend, save_pretrained, from_pretrained, config and items")
    require(case.system.items == case.data.items, case, "after fit, `items` must be the vocabulary of the data")
    facts = getattr(case.system, "provenance", {})
    missing = {"seed", "fit_seconds", "parameters"} - set(facts)
    require(not missing, case, f"after fit, `provenance` must hold seed, fit_seconds and parameters; {sorted(missing)} are missing")
    require(facts["seed"] == case.options.seed, case, f"provenance must hold the seed of the fit, got {facts['seed']}")
    json.dumps(facts)


def _check_lists(case: Case) -> None:
    catalogue = len(case.data.items)
    for k in (1, K, catalogue + 5):
        answer = case.system.recommend(case.requests, k)
        _check_answer(case, answer, case.requests, k)
    answer = case.system.recommend(case.requests, catalogue + 5)
    require(bool((answer.items[:, catalogue:] == PAD).all()), case, "a list longer than the catalogue must end in PAD")


def _check_empty_list(case: Case) -> None:
    answer = case.system.recommend([], K)
    shapes = (answer.items.shape, answer.scores.shape)
    require(shapes == ((0, K), (0, K)), case, f"no requests must give arrays of shape (0, {K}), got {shapes}")


def _check_unusual_requests(case: Case) -> None:
    """Unseen users, empty histories, unknown items, very long histories and limits are ordinary."""
    requests = unusual(case.data)
    answer = case.system.recommend(requests, K)
    _check_answer(case, answer, requests, K)
    full = [r.candidates is None for r in requests]
    require(bool((answer.items[full, 0] != PAD).all()), case, "any history, also none, must get an answer")
    empty, unknown = case.system.recommend([Request(), Request(history=np.full(3, PAD, np.int32))], K).items
    require(np.array_equal(empty, unknown), case, "a history of unknown items only must be answered like an empty one")


def _check_seen(case: Case) -> None:
    history = case.data.history(1)
    seen = np.unique(history)
    times = None if case.data.time is None else case.data.time[: len(history)]
    request = Request(history=history, times=times, candidates=seen, exclude_seen=False)
    answer = case.system.recommend([request, dataclasses.replace(request, exclude_seen=True)], len(seen))
    require(set(answer.items[0]) == set(seen), case, "with exclude_seen=False, items of the history may be recommended")
    require(bool((answer.items[1] == PAD).all()), case, "with exclude_seen=True, no item of the history may be recommended")


def _check_candidates(case: Case) -> None:
    catalogue = np.arange(1, case.data.items.size, dtype=np.int32)
    few, none = catalogue[::3], np.zeros(0, np.int32)
    requests = [Request(candidates=few), Request(candidates=none), Request(candidates=np.array([PAD, few[0], few[0]], np.int32)), Request()]
    answer = case.system.recommend(requests, len(catalogue))
    got = [set(row[row != PAD].tolist()) for row in answer.items]
    require(got[0] == set(few.tolist()), case, f"of {len(few)} candidates, all and nothing else must be listed, got {sorted(got[0])}")
    require(not got[1], case, "an empty list of candidates must be answered by an empty list")
    require(got[2] == {int(few[0])}, case, "PAD and repeated candidates must not appear in the answer")


def _check_forgetting(case: Case) -> None:
    """Who cannot leave an attribute out may say so, since a promise that is not kept is worse than none."""
    requests = [Request(history=case.data.history(1), forget=frozenset({"no such attribute"}))]
    try:
        answer = case.system.recommend(requests, K)
    except TongtuError as refusal:
        require(len(str(refusal).splitlines()) == 1, case, f"an attribute that cannot be left out must be refused in one line, got {str(refusal)!r}")
        return
    _check_answer(case, answer, requests, K)


def _check_batches(case: Case) -> None:
    """An answer depends on its own request alone."""
    requests = [*case.requests, *unusual(case.data)]
    together = case.system.recommend(requests, K)
    single = [case.system.recommend([request], K) for request in requests]
    alone = TopK(np.concatenate([a.items for a in single]), np.concatenate([a.scores for a in single]))
    same_answers(case, together, alone, "a request must be answered alike alone and in a batch")
    same_answers(case, together, case.system.recommend(RequestBatch.of(requests), K), "a RequestBatch must be answered like the list of its requests")
    back = case.system.recommend(requests[::-1], K)
    same_answers(case, together, TopK(back.items[::-1], back.scores[::-1]), "answers must not depend on the order of the requests")


def _check_scores(case: Case) -> None:
    if not isinstance(case.system, Scorer):
        return
    size = case.data.items.size
    whole = case.system.score(case.requests, slice(0, size))
    require(
        whole.dtype == np.float32 and whole.shape == (len(case.requests), size), case, f"score must give float32[n, width], got {whole.dtype} {whole.shape}"
    )
    middle = size // 3
    for part in (slice(1, middle), slice(middle, size), slice(middle, middle + 1), slice(0, 1)):
        close(
            case,
            case.system.score(case.requests, part)[:, part.start == 0 :],
            whole[:, part][:, part.start == 0 :],
            f"score of the slice {part} must agree with the whole",
        )
    answer = case.system.recommend(case.requests, K)
    expected = np.take_along_axis(whole, answer.items.astype(np.int64), 1)
    real = answer.items != PAD
    close(case, answer.scores[real], expected[real], "recommend must report the scores that `score` gives")
    row, place = case.requests.events()
    whole[:, PAD] = whole[row, case.requests.item[place]] = -np.inf
    best = -np.sort(-whole, axis=1)[:, :K]
    close(case, answer.scores[real], best[real], "recommend must list the items with the highest scores")


def _check_repeatable(case: Case) -> None:
    first, again = (case.system.recommend(case.requests, K) for _ in range(2))
    require(np.array_equal(first.scores, again.scores) and np.array_equal(first.items, again.items), case, "the same question must get the same answer twice")
    twin = case.factory().fit(case.data, case.options).recommend(case.requests, K)
    require(np.array_equal(first.scores, twin.scores), case, "two fits with the same seed must give the same scores")


def _check_mistakes(case: Case) -> None:
    nothing = case.data.keep_events(np.zeros(case.data.n_events, np.bool_))
    refuses(case, DataError, lambda: case.factory().fit(nothing, case.options), "a data set without events")
    refuses(case, ModelError, lambda: type(case.system).from_pretrained(Path("no/such/folder")), "a folder that is not there")


CHECKS: tuple[Callable[[Case], None], ...] = (
    _check_facts,
    _check_lists,
    _check_empty_list,
    _check_candidates,
    _check_seen,
    _check_unusual_requests,
    _check_forgetting,
    _check_batches,
    _check_scores,
    check_vectors,
    check_products,
    _check_repeatable,
    check_folder,
    _check_mistakes,
)


def _check_answer(case: Case, answer: TopK, requests: Sequence[Request], k: int) -> None:
    items, scores = answer.items, answer.scores
    shape = (len(requests), k)
    require(items.shape == shape and scores.shape == shape, case, f"recommend must give arrays of shape {shape}, got {items.shape} and {scores.shape}")
    require(items.dtype == np.int32 and scores.dtype == np.float32, case, f"items must be int32 and scores float32, got {items.dtype} and {scores.dtype}")
    real = items != PAD
    require(bool((real[:, :-1] >= real[:, 1:]).all()), case, "PAD may stand only at the end of a list")
    require(bool((scores[~real] == -np.inf).all()), case, "a place with PAD must have the score -inf")
    require(bool(np.isfinite(scores[real]).all()), case, "listed items must have finite scores")
    require(bool((scores[:, :-1] >= scores[:, 1:]).all()), case, "lists must be sorted, best first")
    require(bool(((items >= 0) & (items < case.data.items.size)).all()), case, "listed codes must be in the catalogue")
    for row, request in zip(items, requests, strict=True):
        listed = row[row != PAD]
        require(len(np.unique(listed)) == len(listed), case, "an item must not stand twice in a list")
        if request.exclude_seen:
            require(not np.isin(listed, request.history).any(), case, "with exclude_seen, no item of the history may be listed")
        if request.candidates is not None:
            require(bool(np.isin(listed, request.candidates).all()), case, "only candidates may be listed")


def _read_only(data: Dataset) -> Dataset:
    """The data set with arrays that cannot be written, as those mapped from disk are."""

    def locked(column: Any) -> Any:
        if column is None:
            return None
        copy: Codes = column.copy()
        copy.flags.writeable = False
        return copy

    return dataclasses.replace(data, item=locked(data.item), offset=locked(data.offset), time=locked(data.time))
