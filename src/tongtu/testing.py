"""The public contract of a recommender, and whether it learns: for every system here and for those of other packages.

    from tongtu.testing import check_recommender
    check_recommender(lambda: MySystem(MySystem.Config(epochs=1)))

A failed check raises `AssertionError` with one sentence that says what a recommender must do and what this one did.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from tongtu import hub
from tongtu.config import plain
from tongtu.core import PAD, Codes, FitOptions, Recommender, Request, RequestBatch, Scorer, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.data.splits import Cases, leave_one_out
from tongtu.data.synthetic import World, attribute_world
from tongtu.errors import DataError, ModelError
from tongtu.files import MANIFEST
from tongtu.ranking import target_ranks
from tongtu.systems.baselines.popular import Popular

K = 10
_LONG = 1_500
_KINDS = {".json", ".safetensors", ".parquet", ".txt", ".model", ".jinja"}
_PICKLED = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04", b"\x93NUMPY")

SystemFactory = Callable[[], Recommender]


@dataclass(frozen=True)
class Case:
    """What the checks work on: how to make the system, its data, and one fitted system."""

    factory: SystemFactory
    data: Dataset
    options: FitOptions
    system: Recommender
    requests: RequestBatch

    @property
    def name(self) -> str:
        """The system's class, for messages."""
        return type(self.system).__name__


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
    _require(fitted is system, case, "fit must return the recommender itself")
    _require(dataclasses.replace(data).fingerprint == before, case, "fit must leave the data set as it was")
    for check in CHECKS:
        check(case)


def _check_facts(case: Case) -> None:
    _require(isinstance(case.system, Recommender), case, "a recommender has fit, recommend, save_pretrained, from_pretrained, config and items")
    _require(case.system.items == case.data.items, case, "after fit, `items` must be the vocabulary of the data")
    facts = getattr(case.system, "provenance", {})
    missing = {"seed", "fit_seconds", "parameters"} - set(facts)
    _require(not missing, case, f"after fit, `provenance` must hold seed, fit_seconds and parameters; {sorted(missing)} are missing")
    _require(facts["seed"] == case.options.seed, case, f"provenance must hold the seed of the fit, got {facts['seed']}")
    json.dumps(facts)


def _check_lists(case: Case) -> None:
    catalogue = len(case.data.items)
    for k in (1, K, catalogue + 5):
        answer = case.system.recommend(case.requests, k)
        _check_answer(case, answer, case.requests, k)
    answer = case.system.recommend(case.requests, catalogue + 5)
    _require(bool((answer.items[:, catalogue:] == PAD).all()), case, "a list longer than the catalogue must end in PAD")


def _check_empty_list(case: Case) -> None:
    answer = case.system.recommend([], K)
    shapes = (answer.items.shape, answer.scores.shape)
    _require(shapes == ((0, K), (0, K)), case, f"no requests must give arrays of shape (0, {K}), got {shapes}")


def _check_unusual_requests(case: Case) -> None:
    """Unseen users, empty histories, unknown items, very long histories and limits are ordinary."""
    requests = _unusual(case.data)
    answer = case.system.recommend(requests, K)
    _check_answer(case, answer, requests, K)
    full = [r.candidates is None for r in requests]
    _require(bool((answer.items[full, 0] != PAD).all()), case, "any history, also none, must get an answer")
    empty, unknown = case.system.recommend([Request(), Request(history=np.full(3, PAD, np.int32))], K).items
    _require(np.array_equal(empty, unknown), case, "a history of unknown items only must be answered like an empty one")


def _check_seen(case: Case) -> None:
    history = case.data.history(1)
    seen = np.unique(history)
    times = None if case.data.time is None else case.data.time[: len(history)]
    request = Request(history=history, times=times, candidates=seen, exclude_seen=False)
    answer = case.system.recommend([request, dataclasses.replace(request, exclude_seen=True)], len(seen))
    _require(set(answer.items[0]) == set(seen), case, "with exclude_seen=False, items of the history may be recommended")
    _require(bool((answer.items[1] == PAD).all()), case, "with exclude_seen=True, no item of the history may be recommended")


def _check_candidates(case: Case) -> None:
    catalogue = np.arange(1, case.data.items.size, dtype=np.int32)
    few, none = catalogue[::3], np.zeros(0, np.int32)
    requests = [Request(candidates=few), Request(candidates=none), Request(candidates=np.array([PAD, few[0], few[0]], np.int32)), Request()]
    answer = case.system.recommend(requests, len(catalogue))
    got = [set(row[row != PAD].tolist()) for row in answer.items]
    _require(got[0] == set(few.tolist()), case, f"of {len(few)} candidates, all and nothing else must be listed, got {sorted(got[0])}")
    _require(not got[1], case, "an empty list of candidates must be answered by an empty list")
    _require(got[2] == {int(few[0])}, case, "PAD and repeated candidates must not appear in the answer")


def _check_batches(case: Case) -> None:
    """An answer depends on its own request alone."""
    requests = [*case.requests, *_unusual(case.data)]
    together = case.system.recommend(requests, K)
    single = [case.system.recommend([request], K) for request in requests]
    alone = TopK(np.concatenate([a.items for a in single]), np.concatenate([a.scores for a in single]))
    _same_answers(case, together, alone, "a request must be answered alike alone and in a batch")
    _same_answers(case, together, case.system.recommend(RequestBatch.of(requests), K), "a RequestBatch must be answered like the list of its requests")
    back = case.system.recommend(requests[::-1], K)
    _same_answers(case, together, TopK(back.items[::-1], back.scores[::-1]), "answers must not depend on the order of the requests")


def _check_scores(case: Case) -> None:
    if not isinstance(case.system, Scorer):
        return
    size = case.data.items.size
    whole = case.system.score(case.requests, slice(0, size))
    _require(
        whole.dtype == np.float32 and whole.shape == (len(case.requests), size), case, f"score must give float32[n, width], got {whole.dtype} {whole.shape}"
    )
    middle = size // 3
    for part in (slice(1, middle), slice(middle, size), slice(middle, middle + 1), slice(0, 1)):
        _close(
            case,
            case.system.score(case.requests, part)[:, part.start == 0 :],
            whole[:, part][:, part.start == 0 :],
            f"score of the slice {part} must agree with the whole",
        )
    answer = case.system.recommend(case.requests, K)
    expected = np.take_along_axis(whole, answer.items.astype(np.int64), 1)
    real = answer.items != PAD
    _close(case, answer.scores[real], expected[real], "recommend must report the scores that `score` gives")
    row, place = case.requests.events()
    whole[:, PAD] = whole[row, case.requests.item[place]] = -np.inf
    best = -np.sort(-whole, axis=1)[:, :K]
    _close(case, answer.scores[real], best[real], "recommend must list the items with the highest scores")


def _check_repeatable(case: Case) -> None:
    first, again = (case.system.recommend(case.requests, K) for _ in range(2))
    _require(np.array_equal(first.scores, again.scores) and np.array_equal(first.items, again.items), case, "the same question must get the same answer twice")
    twin = case.factory().fit(case.data, case.options).recommend(case.requests, K)
    _require(np.array_equal(first.scores, twin.scores), case, "two fits with the same seed must give the same scores")


def _check_folder(case: Case) -> None:
    """A model folder brings back the same model, holds no code, and is refused when damaged."""
    with tempfile.TemporaryDirectory() as root:
        path = Path(root) / "new" / "model"
        for _ in range(2):  # the second time over the first
            case.system.save_pretrained(path)
        _check_files(case, path)
        expected = case.system.recommend(case.requests, K)
        for opened in (opening(path) for opening in _openers(case)):
            _require(type(opened) is type(case.system), case, "a folder must open as the class that wrote it")
            _require(opened.config == case.system.config and opened.items == case.system.items, case, "config and items must come back from the folder")
            answer = opened.recommend(case.requests, K)
            same = np.array_equal(answer.items, expected.items) and np.array_equal(answer.scores, expected.scores)
            _require(same, case, "a model that was saved and opened must give identical scores")
        for file in sorted(path.rglob("*")):
            if file.is_file():
                _check_damage(case, path, file)


def _openers(case: Case) -> list[Callable[[Path], Recommender]]:
    """The ways to open a folder: by its class, and by the name in it where the class is registered."""
    kind = type(case.system)
    return [kind.from_pretrained, *([hub.open_model] if hub.is_registered(f"{kind.__module__}:{kind.__qualname__}") else [])]


def _check_files(case: Case, path: Path) -> None:
    files = [f for f in sorted(path.rglob("*")) if f.is_file()]
    _require((path / MANIFEST).is_file(), case, f"a model folder must hold {MANIFEST}: write it with tongtu.hub.save")
    record = json.loads((path / "config.json").read_text(encoding="utf-8"))
    _require(record["config"] == plain(case.system.config), case, "config.json must hold the configuration")
    sums = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    for file in files:
        name = str(file.relative_to(path))
        _require(name in sums or name == MANIFEST, case, f"{MANIFEST} must list {name}")
        pickled = file.suffix not in _KINDS or file.read_bytes()[:6].startswith(_PICKLED)
        _require(not pickled, case, f"a model folder must hold nothing that could be a pickle or code, but it holds {name}")


def _check_damage(case: Case, path: Path, file: Path) -> None:
    good = file.read_bytes()
    broken = bytearray(good)
    broken[len(good) // 2] ^= 0x10
    for damaged in (bytes(broken), good[: len(good) // 2]):
        file.write_bytes(damaged)
        for opening in _openers(case):
            _refuses(case, ModelError, partial(opening, path), f"a folder with a damaged {file.name}")
    file.write_bytes(good)


def _check_mistakes(case: Case) -> None:
    nothing = case.data.keep_events(np.zeros(case.data.n_events, np.bool_))
    _refuses(case, DataError, lambda: case.factory().fit(nothing, case.options), "a data set without events")
    _refuses(case, ModelError, lambda: type(case.system).from_pretrained(Path("no/such/folder")), "a folder that is not there")


CHECKS: tuple[Callable[[Case], None], ...] = (
    _check_facts,
    _check_lists,
    _check_empty_list,
    _check_candidates,
    _check_seen,
    _check_unusual_requests,
    _check_batches,
    _check_scores,
    _check_repeatable,
    _check_folder,
    _check_mistakes,
)


def check_learns(
    system_factory: SystemFactory,
    data_factory: Callable[[int], World],
    seeds: Sequence[int] = (0, 1, 2),
    factor: float = 1.5,
) -> tuple[float, float]:
    """Check that a system beats Popular on worlds with a known answer, by last-event NDCG@10.

    Args:
        system_factory: Makes an unfitted system.
        data_factory: Makes the world of a seed.
        seeds: At least three; the system is fitted once with each, on that seed's world.
        factor: How many times Popular's NDCG@10 the system's mean must reach; besides, the 95 % t-intervals over the seeds must not meet.

    Returns:
        The mean NDCG@10 of the system and of Popular.
    """
    scores = np.zeros((2, len(seeds)))
    for place, seed in enumerate(seeds):
        split = leave_one_out(data_factory(seed).data)
        for row, system in enumerate((system_factory(), Popular())):
            system.fit(split.train, FitOptions(seed=seed, quiet=True))
            scores[row, place] = case_ndcg(system, split.test).mean()
    ours, popular = scores.mean(axis=1)
    margin = stats.t.ppf(0.975, len(seeds) - 1) * scores.std(axis=1, ddof=1) / np.sqrt(len(seeds))
    name = type(system_factory()).__name__
    told = f"{name} reaches NDCG@10 {ours:.3f} (+-{margin[0]:.3f}), Popular {popular:.3f} (+-{margin[1]:.3f})"
    if ours < factor * popular:
        raise AssertionError(f"{told}: it must reach {factor:g} times Popular's")
    if ours - margin[0] <= popular + margin[1]:
        raise AssertionError(f"{told}: the intervals must not meet")
    return float(ours), float(popular)


def case_ndcg(system: Recommender, cases: Cases, k: int = K) -> npt.NDArray[np.float64]:
    """float64[n], the NDCG@k of each case, ties against the system."""
    if isinstance(system, Scorer):
        rank = target_ranks(system, cases.requests, cases.target)
    else:
        hit = system.recommend(cases.requests, k).items == cases.target[:, None]
        rank = np.where(hit.any(axis=1), 1 + hit.argmax(axis=1), k + 1)
    gain: npt.NDArray[np.float64] = np.where(rank <= k, 1 / np.log2(rank + 1.0), 0.0)
    return gain


def _unusual(data: Dataset) -> list[Request]:
    some, times = data.history(1), None if data.time is None else data.time[data.offset[0] : data.offset[1]]
    long = np.resize(data.item, _LONG)
    with_pad = np.concatenate([[PAD], some[:2], [PAD], some[2:], [PAD]]).astype(np.int32)
    return [
        Request(),
        Request(history=some[:1]),
        Request(history=some, times=times, now=None if times is None else int(times[-1]) + 3600),
        Request(history=some, user=1, attributes={"no such attribute": "x"}, forget=frozenset({"no such attribute"})),
        Request(history=with_pad),
        Request(history=np.full(3, PAD, np.int32)),
        Request(history=long, exclude_seen=False),
        Request(history=some, candidates=np.arange(1, 6, dtype=np.int32), exclude_seen=False),
        Request(history=some, candidates=np.zeros(0, np.int32)),
    ]


def _check_answer(case: Case, answer: TopK, requests: Sequence[Request], k: int) -> None:
    items, scores = answer.items, answer.scores
    shape = (len(requests), k)
    _require(items.shape == shape and scores.shape == shape, case, f"recommend must give arrays of shape {shape}, got {items.shape} and {scores.shape}")
    _require(items.dtype == np.int32 and scores.dtype == np.float32, case, f"items must be int32 and scores float32, got {items.dtype} and {scores.dtype}")
    real = items != PAD
    _require(bool((real[:, :-1] >= real[:, 1:]).all()), case, "PAD may stand only at the end of a list")
    _require(bool((scores[~real] == -np.inf).all()), case, "a place with PAD must have the score -inf")
    _require(bool(np.isfinite(scores[real]).all()), case, "listed items must have finite scores")
    _require(bool((scores[:, :-1] >= scores[:, 1:]).all()), case, "lists must be sorted, best first")
    _require(bool(((items >= 0) & (items < case.data.items.size)).all()), case, "listed codes must be in the catalogue")
    for row, request in zip(items, requests, strict=True):
        listed = row[row != PAD]
        _require(len(np.unique(listed)) == len(listed), case, "an item must not stand twice in a list")
        if request.exclude_seen:
            _require(not np.isin(listed, request.history).any(), case, "with exclude_seen, no item of the history may be listed")
        if request.candidates is not None:
            _require(bool(np.isin(listed, request.candidates).all()), case, "only candidates may be listed")


def _same_answers(case: Case, one: TopK, other: TopK, promise: str) -> None:
    """Scores agree; where listed items differ, their scores are so close that rounding decides the order."""
    _close(case, one.scores, other.scores, promise)
    scores = np.where(one.items == PAD, np.float32(0), one.scores)
    near = np.isclose(scores[:, :-1], scores[:, 1:], rtol=1e-3, atol=1e-4)
    edge = np.ones((len(scores), 1), np.bool_)
    tied = np.concatenate([np.zeros_like(edge), near], axis=1) | np.concatenate([near, edge], axis=1)
    _require(bool(((one.items == other.items) | tied).all()), case, promise)


def _close(case: Case, one: Scores, other: Scores, promise: str) -> None:
    finite = np.abs(other[np.isfinite(other)])
    _require(np.allclose(one, other, rtol=1e-4, atol=1e-5 * max(1.0, float(finite.max(initial=0)))), case, promise)


def _refuses(case: Case, error: type[Exception], act: Callable[[], Any], what: str) -> None:
    try:
        act()
    except error as refusal:
        _require(len(str(refusal).splitlines()) == 1, case, f"{what} must be refused in one line, got {str(refusal)!r}")
        return
    except Exception as other:
        raise AssertionError(f"{case.name}: {what} must be refused with {error.__name__}, got {type(other).__name__}: {other}") from other
    raise AssertionError(f"{case.name}: {what} must be refused with {error.__name__}, but it was accepted")


def _require(holds: bool, case: Case, promise: str) -> None:
    if not holds:
        raise AssertionError(f"{case.name}: {promise}")


def _read_only(data: Dataset) -> Dataset:
    """The data set with arrays that cannot be written, as those mapped from disk are."""

    def locked(column: Any) -> Any:
        if column is None:
            return None
        copy: Codes = column.copy()
        copy.flags.writeable = False
        return copy

    return dataclasses.replace(data, item=locked(data.item), offset=locked(data.offset), time=locked(data.time))
