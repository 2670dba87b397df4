"""A language model whose answers a Python function gives: for tests, and to show what an analysis finds in a model of known habits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tongtu.llm.model import Completion, Likelihoods, Prompt, Sampling, ToolCall


class ScriptedModel:
    """A `LanguageModel` and `Likely`; tokens are words.

    Args:
        answer: The answer to a prompt.
        likely: The log-likelihood of a text as the answer to a prompt; by default each word costs 1.
        name: What it is called; a part of the cache's key.
        calls: The tools that it calls at a prompt, for a model that `CallsTools`.
    """

    def __init__(
        self,
        answer: Callable[[Prompt], str],
        likely: Callable[[Prompt, str], float] | None = None,
        name: str = "scripted",
        calls: Callable[[Prompt], Sequence[ToolCall]] | None = None,
    ) -> None:
        self.name = self.fingerprint = name
        self.calls_tools, self._calls = calls is not None, calls
        self._answer, self._likely = answer, likely or (lambda prompt, text: -float(len(text.split())))
        self.asked: list[Prompt] = []
        self.samplings: list[Sampling] = []

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling = Sampling()) -> list[Completion]:  # noqa: B008 (frozen)
        """See `LanguageModel.complete`."""
        self.asked += prompts
        self.samplings += [sampling] * len(prompts)
        return [self._cut(prompt, self._answer(prompt), sampling) for prompt in prompts]

    def log_likelihood(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Likelihoods]:
        """See `Likely.log_likelihood`."""
        self.asked += prompts
        return [
            Likelihoods(
                np.array([self._likely(prompt, text) for text in texts], np.float32),
                np.array([len(text.split()) for text in texts], np.int64),
                _words(prompt),
            )
            for prompt, texts in zip(prompts, continuations, strict=True)
        ]

    def _cut(self, prompt: Prompt, text: str, sampling: Sampling) -> Completion:
        words, most = text.split(" "), sampling.max_tokens
        calls = tuple(self._calls(prompt)) if self._calls and sampling.tools else ()
        return Completion(" ".join(words[:most]), _words(prompt), min(len(words), most), len(words) > most, calls=calls)


def _words(prompt: Prompt) -> int:
    return sum(len(message.text.split()) for message in prompt)
