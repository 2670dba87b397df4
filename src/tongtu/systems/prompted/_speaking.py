"""A language model during one turn of a conversation: what it costs is counted, and once it has failed it is left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from tongtu.errors import BudgetError, LanguageModelError
from tongtu.llm.cached import CachedModel
from tongtu.llm.model import Completion, Prompt, Sampling, Tool
from tongtu.systems.prompted._asking import Asking

Answer = TypeVar("Answer")


class Speaker:
    """Asks; a server that is dead or slow costs one wait a turn, not one a question.

    Args:
        model: The language model.
        config: Temperature and length of answers.

    Attributes:
        notes: Calls, tokens and seconds so far.
        failed: Why the model gave no answer, or None.
    """

    def __init__(self, model: CachedModel, config: Asking) -> None:
        self.model, self.config = model, config
        self.notes: dict[str, Any] = {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "seconds": 0.0}
        self.failed: str | None = None

    def __call__(self, prompt: Prompt, max_tokens: int | None = None, tools: tuple[Tool, ...] = ()) -> Completion | None:
        """The answer, or None where there is none.

        Raises:
            BudgetError: If more would have to be spent than was allowed.
            LanguageModelError: If the model fails and `config.fallback` is false.
        """
        sampling = Sampling(temperature=self.config.temperature, max_tokens=max_tokens or self.config.max_tokens, tools=tools)
        found = self._answer(lambda: self.model.complete([prompt], sampling))
        if found is None:
            return None
        self._count(found[0].prompt_tokens, found[0].tokens, found[0].seconds)
        return found[0]

    def likeliest(self, prompt: Prompt, without: Prompt, texts: Sequence[str]) -> list[int]:
        """Places of the texts, first the one that `prompt` makes likelier than `without` does by most; [] where there is no answer.

        Raises:
            BudgetError, LanguageModelError: As above.
            ConfigError: If the model tells no likelihoods.
        """
        found = self._answer(lambda: self.model.log_likelihood([prompt, without], [texts, texts]))
        if found is None:
            return []
        for one in found:
            self._count(one.prompt_tokens + int(one.tokens.sum()), 0, one.seconds)
        return [int(place) for place in np.argsort(found[1].mean - found[0].mean, kind="stable")]

    def _answer(self, ask: Callable[[], Answer]) -> Answer | None:
        if self.failed is not None:
            return None
        try:
            return ask()
        except BudgetError:
            raise
        except LanguageModelError as error:
            if not self.config.fallback:
                raise
            self.failed = str(error)
            return None

    def _count(self, read: int, written: int, seconds: float) -> None:
        for name, more in (("calls", 1), ("prompt_tokens", read), ("completion_tokens", written), ("seconds", seconds)):
            self.notes[name] += more
