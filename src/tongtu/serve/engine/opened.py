"""An opened model in a worker: questions in the user's ids become requests in codes, and codes become ids again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from tongtu.core import PAD, Codes, Extends, Hears, Recommender, Request, TopK, Writer
from tongtu.errors import ModelError, TongtuError
from tongtu.files import MANIFEST
from tongtu.hub import is_registered, open_model, read_record
from tongtu.serve.engine.diversity import diverse, pool_size
from tongtu.serve.engine.index import VectorIndex
from tongtu.serve.engine.messages import NotPossible, Question, question_from
from tongtu.serve.engine.reasons import reasons

_SLOW_ROADS = ("tongtu.systems.prompted.", "tongtu.systems.tuned.")
_UNTOLD = ("curves",)


class Opened:
    """One version of a model, ready to answer.

    Args:
        system: The recommender.
        named: Its name, version, path and fingerprint; see `ModelFacts`.
        ann_above: Items from which on an approximate index finds the best, where the model has vectors.
    """

    def __init__(self, system: Recommender, named: Mapping[str, Any], ann_above: int) -> None:
        self.system, self.named, self.ann_above = system, dict(named), ann_above
        self.index = VectorIndex.of(system, ann_above)
        self.language_model = type(system).__module__.startswith(_SLOW_ROADS)
        self.loaded_seconds = self.memory_mb = 0.0
        self.conversation: Any = None

    def facts(self) -> dict[str, Any]:
        """`ModelFacts` as plain values."""
        provenance = getattr(self.system, "provenance", {})
        return {
            **self.named,
            "system": type(self.system).__name__,
            "items": len(self.system.items),
            "can": sorted(self._can()),
            "language_model": self.language_model,
            "fitted": {key: value for key, value in provenance.items() if key not in _UNTOLD},
            "loaded_seconds": round(self.loaded_seconds, 3),
            "memory_mb": round(self.memory_mb, 1),
        }

    def warm(self) -> None:
        """Answer once, so that the first user does not wait for tables that are made when they are first needed.

        Raises:
            ModelError: If the model cannot answer.
        """
        self.system.items.code("")  # the table of ids is made now
        if self.language_model:
            return
        try:
            self._answers([Question(k=3, history=tuple(self.system.items.ids.head(1))), Question(k=3)])
        except TongtuError as error:
            raise ModelError(f"{self.named['path']} opens but does not answer ({error}): fit the model again") from None

    def answers(self, questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """An answer, or {"error": ...}, for each question; one that fails does not hurt the others."""
        from tongtu.serve.engine.worker import told

        asked = [question_from(one) for one in questions]
        try:
            return self._answers(asked)
        except Exception as error:
            if len(asked) == 1:
                return [{"error": told(error)}]
        return [found for one in questions for found in self.answers([one])]

    def similar(self, item: str, k: int) -> dict[str, Any]:
        """The items most like one: by their vectors where the model has any, else what it recommends to one who met just this."""
        code = self.system.items.code(item)
        if code == PAD:
            raise NotPossible(f"the model {self.named['name']} does not know the item {item!r}: ask another model")
        if self.index is None:
            (found,) = self._answers([Question(k=k, history=(item,))])
            return found | {"notes": {"by": "history"}}
        items, scores = self.index.nearest(code, k)
        return {"items": self.system.items.decode(items), "scores": scores.tolist(), "unknown": [], "notes": {"by": "vectors"}, "ms": 0.0}

    def reasons(self, question: Mapping[str, Any], items: Sequence[str]) -> list[dict[str, Any]]:
        """`Reasons` of each item."""
        if self.language_model and not isinstance(self.system, Writer):
            raise NotPossible(f"the model {self.named['name']} is too slow to be asked without each event in turn: ask another model for reasons")
        asked = question_from(question)
        return reasons(self.system, self.index, self.request(asked), asked.history, items, weigh=not self.language_model)

    def request(self, question: Question) -> Request:
        """A question as the recommender is asked it."""
        (request,), _ = self._requests([question])
        return request

    def extended(self, items: Sequence[Sequence[str]]) -> tuple[Self, int]:
        """The model with further items, each an id and a text, and how many of them are new to it."""
        if not isinstance(self.system, Extends):
            raise NotPossible(f"the model {self.named['name']} takes no new items: fit it again with them, or ask a model that reads texts")
        latest = {one: text for one, text in items}  # of an id that is given twice, the later text
        table = pl.DataFrame({"id": list(latest), "text": list(latest.values())}, schema={"id": pl.String, "text": pl.String})
        added = int((self.system.items.encode(table["id"]) == PAD).sum())
        if not added:
            return self, 0
        other = type(self)(self.system.with_items(table), self.named, self.ann_above)
        other.loaded_seconds, other.memory_mb = self.loaded_seconds, self.memory_mb
        other.system.items.code("")  # the table of ids is made now
        return other, added

    def _answers(self, asked: Sequence[Question]) -> list[dict[str, Any]]:
        started = time.perf_counter()
        top, unknown = self._top(asked)
        rows = [self._chosen(top, number, question) for number, question in enumerate(asked)]
        lengths = [len(codes) for codes, _, _ in rows]
        ids = self.system.items.decode(np.concatenate([codes for codes, _, _ in rows])) if rows else []
        stop = np.cumsum(lengths).tolist()
        ms = (time.perf_counter() - started) * 1000
        return [
            {"items": ids[end - length : end], "scores": scores.tolist(), "unknown": missing, "notes": notes, "ms": ms}
            for (_, scores, notes), length, end, missing in zip(rows, lengths, stop, unknown, strict=True)
        ]

    def _top(self, asked: Sequence[Question]) -> tuple[TopK, list[list[str]]]:
        requests, unknown = self._requests(asked)
        k = max(max(one.k, pool_size(one.k) if one.diversity else 0) + len(one.exclude) for one in asked)
        k = min(k, max(len(self.system.items), 1))
        return (self.system if self.index is None else self.index).recommend(requests, k), unknown

    def _chosen(self, top: TopK, number: int, question: Question) -> tuple[Codes, Any, dict[str, Any]]:
        """Codes, scores and notes of one answer."""
        codes, scores = top.items[number], top.scores[number]
        keep = codes != PAD
        if question.exclude:
            keep &= ~np.isin(codes, self.system.items.encode(question.exclude))
        codes, scores = codes[keep], scores[keep]
        notes = dict(top.notes[number]) if top.notes else {}
        if question.diversity and self.index is None:
            notes["diversity"] = "not possible"
        elif question.diversity and self.index is not None:
            order = diverse(self.index.directions(codes), scores, question.k, question.diversity)
            return codes[order], scores[order], notes
        return codes[: question.k], scores[: question.k], notes

    def _requests(self, asked: Sequence[Question]) -> tuple[list[Request], list[list[str]]]:
        encode = self.system.items.encode
        requests, unknown = [], []
        for one in asked:
            history = encode(one.history)
            missing = [one.history[place] for place in np.flatnonzero(history == PAD)]
            candidates = None
            if one.candidates is not None:
                candidates = encode(one.candidates)
                missing += [one.candidates[place] for place in np.flatnonzero(candidates == PAD)]
                candidates = candidates[candidates != PAD]
            unknown.append(missing)
            requests.append(
                Request(
                    history=history,
                    times=None if one.times is None else np.asarray(one.times, np.int64),
                    ratings=None if one.ratings is None else np.asarray(one.ratings, np.float32),
                    now=one.now,
                    attributes=one.attributes,
                    forget=frozenset(one.forget),
                    candidates=candidates,
                    wish=one.wish,
                    exclude_seen=one.exclude_seen,
                )
            )
        return requests, unknown

    def _can(self) -> set[str]:
        able = {"similar"}
        reader = getattr(self.system, "reader", None)
        if hasattr(reader, "of_requests") or getattr(self.system.config, "attribute", None) or type(self.system).__module__.startswith(_SLOW_ROADS[0]):
            able |= {"attributes", "forget"}
        if isinstance(self.system, Hears) and self.system.hears_wishes:
            able.add("wish")
        if isinstance(self.system, Extends):
            able.add("extend")
        if not self.language_model or isinstance(self.system, Writer):
            able.add("explain")
        if getattr(self.system, "item_text", None) is not None:
            able.add("chat")
        return able


def prepare(name: str) -> None:
    """Import what a class "module:Class" needs, where Tongtu knows it; opening then takes only what the folder itself takes."""
    import importlib

    if is_registered(name):
        importlib.import_module(name.partition(":")[0])


def open_version(order: Mapping[str, Any]) -> Opened:
    """Open the folder that an order to load names.

    Raises:
        ModelError: If it is missing, damaged, foreign, unable to answer, or not the one that was first opened under this version.
    """
    started, before = time.perf_counter(), _own_memory_mb()
    path = Path(order["path"])
    read_record(path)
    manifest = path / MANIFEST
    fingerprint = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else ""
    if order.get("fingerprint") not in (None, fingerprint):
        raise ModelError(f"{path} is not what it was when {order['version']} was opened: install it as a new version")
    named = {"name": order["name"], "version": order["version"], "path": order["path"], "fingerprint": fingerprint}
    model = Opened(open_model(path), named, order["ann_above"])
    model.warm()
    model.loaded_seconds, model.memory_mb = time.perf_counter() - started, max(_own_memory_mb() - before, 0.0)
    return model


def _own_memory_mb() -> float:
    """MiB that this process shares with no other."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next((line for line in status.read_text().splitlines() if line.startswith("RssAnon")), "RssAnon: 0 kB")
    return int(line.split()[1]) / 1024
