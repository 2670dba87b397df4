"""A language model during one turn of a conversation: what it costs is counted, and once it has failed it is left alone."""

from __future__ import annotations

from typing import Any

from tongtu.errors import BudgetError, LanguageModelError
from tongtu.llm.cached import CachedModel
from tongtu.llm.model import Completion, Prompt, Sampling, Tool
from tongtu.systems.prompted._asking import Asking


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
        if self.failed is not None:
            return None
        sampling = Sampling(temperature=self.config.temperature, max_tokens=max_tokens or self.config.max_tokens, tools=tools)
        try:
            (answer,) = self.model.complete([prompt], sampling)
        except BudgetError:
            raise
        except LanguageModelError as error:
            if not self.config.fallback:
                raise
            self.failed = str(error)
            return None
        self.notes["calls"] += 1
        self.notes["prompt_tokens"] += answer.prompt_tokens
        self.notes["completion_tokens"] += answer.tokens
        self.notes["seconds"] += answer.seconds
        return answer
