"""A language model behind a disk cache and a ledger: nothing is asked twice, everything is counted.

The cache is one SQLite file; a key is a hash of the model's fingerprint, the prompt and what was asked of it, so another model, another
temperature or another wording never gets an old answer. Processes may share it. Answers are kept as they come: a run that
was cut off goes on where it stood.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tongtu.config import plain
from tongtu.data.fetch import cache_folder
from tongtu.errors import ConfigError, StorageError, writing
from tongtu.llm.ledger import Ledger
from tongtu.llm.model import CallsTools, Completion, LanguageModel, Likelihoods, Likely, PartlyAnswered, Prompt, Sampling, ToolCall, most_tokens

_AT_ONCE = 16  # prompts between two looks at the budget

Answer = TypeVar("Answer")


class CachedModel:
    """A `LanguageModel` (and `Likely`, where the model is).

    Args:
        model: Who is asked.
        ledger: Counts; a new one if None.
        file: The cache; `answers.sqlite` in Tongtu's cache folder if None.
    """

    def __init__(self, model: LanguageModel, ledger: Ledger | None = None, file: Path | None = None) -> None:
        self.model, self.name, self.fingerprint = model, model.name, model.fingerprint
        self.ledger = ledger or Ledger()
        self._file = file or cache_folder() / "answers.sqlite"
        with writing(self._file):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._opened() as opened:
                opened.execute("CREATE TABLE IF NOT EXISTS answer (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling = Sampling()) -> list[Completion]:  # noqa: B008 (frozen)
        """See `LanguageModel.complete`.

        Raises:
            LanguageModelError: If the budget could be exceeded or the model fails; what was answered until then is kept.
        """
        tools = len(json.dumps(plain(sampling)["tools"]).encode()) if sampling.tools else 0

        def ask(rows: list[int]) -> list[Completion | None]:
            with self.ledger.room(sum(most_tokens(prompts[row]) + tools for row in rows), sampling.max_tokens * len(rows)):
                started = time.perf_counter()
                try:
                    found = self.model.complete([prompts[row] for row in rows], sampling)
                except PartlyAnswered as error:
                    raise PartlyAnswered(str(error), self._counted(error.answers, time.perf_counter() - started)) from None
                return self._counted(found, time.perf_counter() - started)

        keys = [self._key("complete", _plain(prompt), _asked(sampling)) for prompt in prompts]
        return self._answered(keys, ask, dataclasses.asdict, _to_completion)

    @property
    def calls_tools(self) -> bool:
        """See `CallsTools`."""
        return isinstance(self.model, CallsTools) and self.model.calls_tools

    def log_likelihood(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Likelihoods]:
        """See `Likely.log_likelihood`.

        Raises:
            ConfigError: If the model tells no likelihoods.
        """
        model = self.model
        if not isinstance(model, Likely):
            raise ConfigError(f"{self.name} tells no likelihoods: choose a model in process (smollm2, hf:NAME), or let it write lists")

        def ask(rows: list[int]) -> list[Likelihoods]:
            read = sum(most_tokens(prompts[row]) + sum(len(text.encode()) + 1 for text in continuations[row]) for row in rows)
            with self.ledger.room(read, 0):
                started = time.perf_counter()
                found = model.log_likelihood([prompts[row] for row in rows], [continuations[row] for row in rows])
                seconds = time.perf_counter() - started
                self.ledger.add(len(rows), sum(one.prompt_tokens + int(one.tokens.sum()) for one in found), 0, seconds)
                return [dataclasses.replace(one, seconds=seconds / len(rows)) for one in found]

        keys = [self._key("likely", _plain(prompt), list(texts)) for prompt, texts in zip(prompts, continuations, strict=True)]
        return self._answered(keys, ask, _from_likelihoods, _to_likelihoods)

    def _counted(self, answers: Sequence[Completion | None], seconds: float) -> list[Completion | None]:
        """The answers with their shares of the time, after they went into the ledger."""
        got = [one for one in answers if one is not None]
        self.ledger.add(len(got), sum(one.prompt_tokens for one in got), sum(one.tokens for one in got), seconds)
        return [None if one is None else dataclasses.replace(one, seconds=seconds / len(got)) for one in answers]

    def _answered(
        self, keys: list[str], ask: Callable[[list[int]], Sequence[Answer | None]], write: Callable[[Answer], Any], read: Callable[[Any], Answer]
    ) -> list[Answer]:
        """Answers from the cache, and from the model where it has none; equal questions are asked once."""
        known = self._look_up(keys)
        self.ledger.add_cached(sum(key in known for key in keys))
        first = {key: row for row, key in reversed(list(enumerate(keys))) if key not in known}
        rows = sorted(first.values())
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            failure: PartlyAnswered | None = None
            answers: list[Any] = []
            try:
                answers += ask(part)
            except PartlyAnswered as error:
                answers, failure = list(error.answers), error
            fresh = {keys[row]: json.dumps(write(answer)) for row, answer in zip(part, answers, strict=True) if answer is not None}
            known |= fresh
            with writing(self._file), self._opened() as opened:
                opened.executemany("INSERT OR REPLACE INTO answer VALUES (?, ?)", fresh.items())
            if failure is not None:
                raise failure
        return [read(json.loads(known[key])) for key in keys]

    def _look_up(self, keys: list[str]) -> dict[str, str]:
        with self._opened() as opened:
            found: dict[str, str] = {}
            for start in range(0, len(keys), 500):
                part = keys[start : start + 500]
                marks = ",".join("?" * len(part))
                found |= dict(opened.execute(f"SELECT key, value FROM answer WHERE key IN ({marks})", part).fetchall())
        return found

    def _opened(self) -> _Connection:
        return _Connection(self._file)

    def _key(self, kind: str, *parts: Any) -> str:
        return hashlib.sha256(json.dumps([kind, self.fingerprint, *parts], sort_keys=True).encode()).hexdigest()


class _Connection:
    """A connection that is closed again, so that no process holds the file open.

    Raises:
        StorageError: If the file is damaged or cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._connection = sqlite3.connect(self._file, timeout=60)
        except sqlite3.Error as error:
            raise self._useless(error) from error
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        try:
            if kind is None:
                self._connection.commit()
        except sqlite3.Error as failed:
            error = failed
        finally:
            self._connection.close()
        if isinstance(error, sqlite3.Error):
            raise self._useless(error) from error

    def _useless(self, error: sqlite3.Error) -> StorageError:
        return StorageError(f"answers cannot be kept in {self._file} ({error}): delete it if damaged, free some disk space, or set TONGTU_CACHE elsewhere")


def _plain(prompt: Prompt) -> list[list[str]]:
    return [[message.role, message.text] for message in prompt]


def _asked(sampling: Sampling) -> dict[str, Any]:
    """What of the sampling decides the answer; without tools it is what it was before there were any, so that old answers are found."""
    values = plain(sampling)
    return values if sampling.tools else {name: value for name, value in values.items() if name != "tools"}


def _to_completion(value: dict[str, Any]) -> Completion:
    return Completion(**value | {"calls": tuple(ToolCall(**call) for call in value.get("calls", ()))})


def _from_likelihoods(one: Likelihoods) -> dict[str, Any]:
    return {"summed": one.summed.tolist(), "tokens": one.tokens.tolist(), "prompt_tokens": one.prompt_tokens, "seconds": one.seconds}


def _to_likelihoods(value: dict[str, Any]) -> Likelihoods:
    return Likelihoods(np.array(value["summed"], np.float32), np.array(value["tokens"], np.int64), value["prompt_tokens"], value.get("seconds", 0.0))
