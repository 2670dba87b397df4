"""What every language model can be asked, wherever it runs.

    unigram                 counts the words of the prompt: for tests, and a floor for every comparison
    smollm2                 SmolLM2-135M-Instruct out of a package on the index, in process
    hf:NAME_OR_PATH         any causal model of transformers, in process
    openai:NAME@URL         any server that speaks OpenAI's chat protocol: vLLM, llama.cpp, Ollama, hosted ones

Shapes: P prompts, C continuations of one prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tongtu.config import configuration
from tongtu.errors import LanguageModelError

LogLikelihood = npt.NDArray[np.float32]
_OVERHEAD = 64  # tokens of a chat template


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


Prompt = tuple[Message, ...]
"""A conversation that the model is to go on with."""


def ask(text: str, system: str = "") -> Prompt:
    """A prompt of one user message, behind a system message where there is one."""
    before = (Message("system", system),) if system else ()
    return (*before, Message("user", text))


def most_tokens(prompt: Prompt) -> int:
    """A byte is the least that a token stands for, in any script: more than this no tokenizer needs."""
    return sum(len(message.text.encode()) + _OVERHEAD for message in prompt)


def without_thoughts(text: str) -> str:
    """What stands behind the thoughts that some models write before their answer; "" where they came to no end."""
    return text.rpartition("</think>")[2].partition("<think>")[0].strip()


@configuration
class Tool:
    """A function that a model may ask to be called.

    Attributes:
        name: Letters, digits and underscores.
        description: When to use it.
        parameters: A JSON schema of an object: its arguments.
    """

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """A call that a model asks for; the arguments are unchecked."""

    name: str
    arguments: Mapping[str, Any]


@configuration
class Sampling:
    """How a completion is drawn.

    Attributes:
        temperature: 0 takes the likeliest token each time.
        max_tokens: At most so many tokens.
        seed: Of the draws.
        schema: A JSON schema that the answer must fit, where the model offers it; others are only asked to by the prompt.
        tools: What the model may call, where it is a `CallsTools`; others are not told of them.
    """

    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: Annotated[int, Field(ge=1)] = 256
    seed: int = 0
    schema: dict[str, Any] | None = None
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True)
class Completion:
    """What a model answered.

    Attributes:
        text: The answer, without what the model thought aloud before it.
        prompt_tokens, tokens: Read and written.
        cut: Whether `max_tokens` ended it.
        seconds: Its share of the time that the model took, when it was asked; 0 where nobody looked.
        calls: The tools that it wants called; those whose arguments are no JSON object are left out.
    """

    text: str
    prompt_tokens: int
    tokens: int
    cut: bool = False
    seconds: float = 0.0
    calls: tuple[ToolCall, ...] = ()


class PromptRefused(LanguageModelError):
    """A model does not take this prompt, say because it is too long; others it may take."""


class PartlyAnswered(LanguageModelError):
    """A prompt failed, and others beside it were answered and have to be paid for: whoever asked keeps and counts those.

    Attributes:
        answers: One entry a prompt, None where there is no answer.
    """

    def __init__(self, message: str, answers: Sequence[Completion | None]) -> None:
        super().__init__(message)
        self.answers = answers


@dataclass(frozen=True)
class Likelihoods:
    """Log-likelihoods of the continuations of one prompt.

    Attributes:
        summed: float32[C], of all tokens of each continuation.
        tokens: int64[C], how many those are.
        prompt_tokens: Tokens of the prompt, read once for all.
        seconds: As in `Completion`.
    """

    summed: LogLikelihood
    tokens: npt.NDArray[np.int64]
    prompt_tokens: int
    seconds: float = 0.0

    @property
    def mean(self) -> LogLikelihood:
        """float32[C], a token's share: long titles are not punished for being long."""
        mean: LogLikelihood = (self.summed / np.maximum(self.tokens, 1)).astype(np.float32)
        return mean


class LanguageModel(Protocol):
    """A language model.

    Attributes:
        name: What `open_language_model` opens it by.
        fingerprint: What decides its answers besides prompt and sampling: the key of the cache.
    """

    name: str
    fingerprint: str

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling = ...) -> list[Completion]:
        """One answer a prompt.

        Raises:
            LanguageModelError: If the model cannot be reached or refuses; a `PartlyAnswered` where it answered other prompts.
        """
        ...


@runtime_checkable
class CallsTools(Protocol):
    """A language model to which `Sampling.tools` means something.

    Attributes:
        calls_tools: Whether it does; a server may turn out not to.
    """

    calls_tools: bool


@runtime_checkable
class Likely(Protocol):
    """A language model that tells how likely given continuations are."""

    def log_likelihood(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Likelihoods]:
        """How likely each continuation is as the answer to its prompt, one entry a prompt."""
        ...
