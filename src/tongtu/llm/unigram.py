"""A language model that has learned nothing but the prompt before it: how often each word stands there.

It needs no download and answers at once, so tests and a first try run without weights; and whoever asks a real model sees
what counting words would have done. It writes the labelled or numbered lines of the prompt again, the likeliest first.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tongtu.llm.model import Completion, Likelihoods, Prompt, Sampling

_WORD = re.compile(r"\w+")
_LINE = re.compile(r"^\s*(?:\[\w{1,8}\]|\d+\.) .*$", re.MULTILINE)
_SMOOTHING = 0.1


class UnigramModel:
    """A `LanguageModel` and `Likely`; tokens are words."""

    name = fingerprint = "unigram"

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling = Sampling()) -> list[Completion]:  # noqa: B008 (frozen)
        """See `LanguageModel.complete`."""
        return [self._written(prompt, sampling) for prompt in prompts]

    def log_likelihood(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Likelihoods]:
        """See `Likely.log_likelihood`: of each word, its share of the words of the prompt, additively smoothed."""
        found = []
        for prompt, texts in zip(prompts, continuations, strict=True):
            counts = _counts(prompt)
            words = [_words(text) for text in texts]
            summed = np.array([_likely(counts, one) for one in words], np.float32)
            found.append(Likelihoods(summed, np.array([len(one) for one in words], np.int64), counts.total()))
        return found

    def _written(self, prompt: Prompt, sampling: Sampling) -> Completion:
        counts = _counts(prompt)
        lines = [line.strip() for line in _LINE.findall(prompt[-1].text)]
        best = sorted(lines, key=lambda line: -_likely(counts, _words(line)) / max(len(_words(line)), 1))
        written = " \n".join(best).split(" ")
        kept = written[: sampling.max_tokens]
        return Completion(" ".join(kept).strip(), counts.total(), len(kept), len(kept) < len(written))


def _counts(prompt: Prompt) -> Counter[str]:
    return Counter(word for message in prompt for word in _words(message.text))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _likely(counts: Counter[str], words: list[str]) -> float:
    total = counts.total() + _SMOOTHING * (len(counts) + 1)
    return sum(math.log((counts[word] + _SMOOTHING) / total) for word in words)
