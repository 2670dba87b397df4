"""The cache and the ledger of language models."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

from tongtu.errors import ConfigError, LanguageModelError, StorageError
from tongtu.llm.cached import CachedModel
from tongtu.llm.ledger import Budget, Ledger, Price
from tongtu.llm.model import Completion, Prompt, Sampling, ask
from tongtu.llm.scripted import ScriptedModel
from tongtu.llm.unigram import UnigramModel


def echo(name: str = "scripted") -> ScriptedModel:
    return ScriptedModel(lambda prompt: f"{prompt[-1].text} indeed", lambda prompt, text: -float(len(text)), name)


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    model, file = echo(), tmp_path / "answers.sqlite"
    first = CachedModel(model, file=file)
    assert [one.text for one in first.complete([ask("a"), ask("b"), ask("a")])] == ["a indeed", "b indeed", "a indeed"]
    assert model.asked == [ask("a"), ask("b")]
    again = CachedModel(model, file=file)
    assert [one.text for one in again.complete([ask("b"), ask("c")])] == ["b indeed", "c indeed"]
    assert model.asked[2:] == [ask("c")]
    assert (again.ledger.calls, again.ledger.cached, again.ledger.read, again.ledger.written) == (1, 1, 1, 2)


def test_what_changes_the_answer_changes_the_key(tmp_path: Path) -> None:
    model, file = echo(), tmp_path / "answers.sqlite"
    asked = CachedModel(model, file=file)
    for sampling in (Sampling(), Sampling(temperature=1), Sampling(max_tokens=1), Sampling(seed=1)):
        asked.complete([ask("a")], sampling)
    asked.complete([ask("a", system="b")])
    assert len(model.asked) == 5
    other = echo("another")
    CachedModel(other, file=file).complete([ask("a")])
    assert len(other.asked) == 1


def test_likelihoods_are_kept_too(tmp_path: Path) -> None:
    model = echo()
    asked = CachedModel(model, file=tmp_path / "answers.sqlite")
    first, second = (asked.log_likelihood([ask("a")], [["x", "long one"]])[0] for _ in range(2))
    np.testing.assert_array_equal(first.summed, [-1, -8])
    np.testing.assert_array_equal(first.summed, second.summed)
    assert second.tokens.tolist() == [1, 2] and second.summed.dtype == np.float32 and len(model.asked) == 1
    asked.log_likelihood([ask("a")], [["x", "other"]])
    assert len(model.asked) == 2 and asked.ledger.facts()["prompt_tokens"] == 4 + 3


def test_a_model_without_likelihoods_says_so(tmp_path: Path) -> None:
    class Writes:
        name = fingerprint = "writes"

        def complete(self, prompts: list[Prompt], sampling: Sampling = Sampling()) -> list[Completion]:  # noqa: B008
            return [Completion("", 0, 0) for _ in prompts]

    with pytest.raises(ConfigError, match="tells no likelihoods"):
        CachedModel(Writes(), file=tmp_path / "answers.sqlite").log_likelihood([ask("a")], [["b"]])


@pytest.mark.parametrize("budget", [Budget(tokens=3_200), Budget(price=0.005)])
def test_a_budget_stops_before_it_is_exceeded_and_loses_nothing(tmp_path: Path, budget: Budget) -> None:
    model, file = echo(), tmp_path / "answers.sqlite"
    ledger = Ledger(Price(read=1.0, written=2.0), budget)
    prompts = [ask(f"question {i}") for i in range(200)]
    with pytest.raises(LanguageModelError, match="would be exceeded"):
        CachedModel(model, ledger, file).complete(prompts, Sampling(max_tokens=100))
    assert 0 < len(model.asked) < 200
    assert ledger.tokens <= (budget.tokens or 1e9) and ledger.price <= (budget.price or 1e9)
    answered = len(model.asked)
    CachedModel(model, file=file).complete(prompts, Sampling(max_tokens=100))
    assert len(model.asked) == 200, f"the {answered} answers from before were kept"


def opened_at(file: Path, moment: float) -> str:
    time.sleep(max(0.0, moment - time.time()))
    return CachedModel(UnigramModel(), file=file).complete([ask("[A] jazz")])[0].text


def test_processes_may_open_a_new_cache_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        for turn in range(25):
            moment = time.time() + 0.03
            assert pool.starmap(opened_at, [(tmp_path / f"{turn}.sqlite", moment)] * 4, chunksize=1) == ["[A] jazz"] * 4


def test_a_cache_that_cannot_be_used_is_told_with_a_remedy(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    file.write_bytes(b"no database, but long enough to be taken for one" * 50)
    with pytest.raises(StorageError, match=r"answers.sqlite.*TONGTU_CACHE"):
        CachedModel(echo(), file=file)
    with pytest.raises(StorageError, match=r"TONGTU_CACHE"):
        CachedModel(echo(), file=tmp_path)
    file.unlink()
    asked = CachedModel(echo(), file=file)
    file.write_bytes(b"damaged while it was in use" * 50)
    with pytest.raises(StorageError, match=r"TONGTU_CACHE"):
        asked.complete([ask("a")])


def test_prices_are_of_a_million_tokens() -> None:
    ledger = Ledger(Price(read=0.5, written=1.5))
    ledger.add(calls=1, read=2_000_000, written=1_000_000, seconds=3.0)
    assert ledger.price == pytest.approx(2.5)
    assert ledger.facts() == {"calls": 1, "cached": 0, "prompt_tokens": 2_000_000, "completion_tokens": 1_000_000, "seconds": 3.0, "price": pytest.approx(2.5)}


def test_what_is_under_way_counts_against_the_budget() -> None:
    ledger = Ledger(budget=Budget(tokens=200))
    with ledger.room(60, 100):
        with pytest.raises(LanguageModelError, match="would be exceeded"), ledger.room(60, 100):
            raise AssertionError("a second call began")
        ledger.add(calls=1, read=10, written=5, seconds=0.1)
    with ledger.room(60, 100):  # the first took less than it might have
        pass
    assert ledger.tokens == 15
