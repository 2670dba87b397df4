"""Prompts and answers as examples of the training loop.

Shapes: B examples, T tokens of an answer (of prompt and answer for a causal model), S tokens of a prompt.
Codes of tokens are the tokens' numbers + 1, so that `PAD` is never a token: T5's padding and SmolLM2's end-of-text are number 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tongtu.core import PAD, Offsets
from tongtu.nn.batch import Batch, pad
from tongtu.tuning.tokenizer import Wording

Pair = tuple[str, str]
_AT_ONCE = 20_000


@dataclass(frozen=True)
class TextBatch(Batch):
    """Prompts with their answers. `target` is the token to learn behind each position, `PAD` on the prompt.

    Attributes:
        item: int64[B, T], what is read before each target: of a causal model prompt and answer, of a decoder the answer shifted right.
        source: int64[B, S], what an encoder reads; None for a causal model.
        word: int64[B, S], the word each token of `source` belongs to, 0 for none.
    """

    source: Tensor | None = None
    word: Tensor | None = None


@dataclass(frozen=True)
class TextExamples:
    """`Examples` of prompts and answers, in columns.

    Attributes:
        prompt, answer: int32, token codes of all prompts (with what stands before the answer) and answers (with their end).
        prompt_stop, answer_stop: int64[n], where each ends.
        prompt_length, answer_length: int64[n].
        word: int16, the words of `prompt`'s tokens; None for a causal model.
    """

    prompt: npt.NDArray[np.int32]
    prompt_stop: Offsets
    prompt_length: Offsets
    answer: npt.NDArray[np.int32]
    answer_stop: Offsets
    answer_length: Offsets
    word: npt.NDArray[np.int16] | None = None

    @classmethod
    def of(cls, wording: Wording, pairs: Sequence[Pair]) -> Self:
        """Examples of (prompt, answer) texts, as a network's `wording` writes them."""
        prompts, answers = [], []
        for first in range(0, len(pairs), _AT_ONCE):
            some = pairs[first : first + _AT_ONCE]
            prompts.append(_flat(wording.prompts([prompt for prompt, _ in some])))
            answers.append(_flat([[*tokens, wording.end] for tokens in wording.answers([answer for _, answer in some])]))
        prompt, prompt_length = _joined(prompts)
        answer, answer_length = _joined(answers)
        prompt_stop = np.cumsum(prompt_length)
        word = wording.words(prompt, np.concatenate([[0], prompt_stop])) if wording.encoder else None
        return cls(prompt + 1, prompt_stop, prompt_length, answer + 1, np.cumsum(answer_length), answer_length, word)

    def __len__(self) -> int:
        return len(self.prompt_length)

    @property
    def length(self) -> Offsets:
        """See `Examples`: tokens of prompt and answer."""
        return self.prompt_length + self.answer_length

    def batch(self, rows: npt.NDArray[np.int64]) -> TextBatch:
        """See `Examples`."""
        stop, length = self.answer_stop[rows], self.answer_length[rows]
        target, answered = pad(self.answer, stop, length), torch.from_numpy(length)
        source = pad(self.prompt, self.prompt_stop[rows], self.prompt_length[rows])
        if self.word is not None:
            word = pad(self.word, self.prompt_stop[rows], self.prompt_length[rows])
            start = torch.ones(len(rows), 1, dtype=torch.int64)  # a decoder of T5's kind starts behind token 0
            read = torch.cat([start, target[:, :-1]], 1) * (target != PAD)
            return TextBatch(read, answered, target, source=source, word=word)
        asked = torch.from_numpy(self.prompt_length[rows])
        width = int((asked + answered).max())
        both = torch.zeros(len(rows), width + source.shape[1] + target.shape[1], dtype=torch.int64)
        both[:, : source.shape[1]] = source
        place = asked[:, None] + torch.arange(target.shape[1])
        both.scatter_(1, place, target)  # zeros behind an answer fall behind its end
        learned = torch.zeros_like(both).scatter_(1, place, target)
        return TextBatch(both[:, : width - 1] * (torch.arange(width - 1) < (asked + answered - 1)[:, None]), asked + answered - 1, learned[:, 1:width])

    def columns(self) -> Iterator[npt.NDArray[Any]]:
        """See `Examples`."""
        yield from (self.prompt, self.prompt_length, self.answer, self.answer_length)


@dataclass(frozen=True)
class Redrawn:
    """Examples that are drawn anew for each epoch; see `tongtu.nn.batch.DrawnAnew`.

    Attributes:
        wording: The network's.
        draw: From a seed to (prompt, answer) texts, the same for the same seed.
    """

    wording: Wording
    draw: Callable[[int], Sequence[Pair]]

    def epoch(self, seed: int, number: int) -> TextExamples:
        """The examples of one epoch, counted from 0, of a run with this seed."""
        mixed = hashlib.blake2b(repr((seed, number)).encode(), digest_size=7).digest()
        return TextExamples.of(self.wording, self.draw(int.from_bytes(mixed, "little")))


def _flat(tokens: list[list[int]]) -> tuple[npt.NDArray[np.int32], Offsets]:
    length = np.fromiter((len(one) for one in tokens), np.int64, len(tokens))
    return np.fromiter((token for one in tokens for token in one), np.int32, int(length.sum())), length


def _joined(parts: list[tuple[npt.NDArray[np.int32], Offsets]]) -> tuple[npt.NDArray[np.int32], Offsets]:
    if not parts:
        return np.zeros(0, np.int32), np.zeros(0, np.int64)
    return np.concatenate([tokens for tokens, _ in parts]), np.concatenate([length for _, length in parts])
