"""Causal language models of transformers, in process.

Continuations of one prompt share its key-value cache: the prompt is read once, and all continuations are read behind it in
one batch. For 20 candidates of ten tokens behind 400 tokens of history that is 600 tokens instead of 8,200.

Shapes: P prompts, C continuations, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError

from tongtu.errors import LanguageModelError
from tongtu.llm.likelihood import continuation_likelihoods
from tongtu.llm.model import Completion, Likelihoods, Prompt, PromptRefused, Sampling, without_thoughts
from tongtu.pretrained import fingerprint, open_pretrained, settings_of

_PROMPT_TOKENS_AT_ONCE = 4_096


class LocalModel:
    """A `LanguageModel` and `Likely`.

    Args:
        name: What it is opened by.
        net: A causal model of transformers.
        tokenizer: Its tokenizer; one without a chat template gets the turns as plain lines.
    """

    def __init__(self, name: str, net: Any, tokenizer: Any) -> None:
        self.name, self._tokenizer = name, tokenizer
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._net = net.eval().requires_grad_(False).to(self._device)
        self.fingerprint = fingerprint(net, tokenizer, settings_of(net.config) + (tokenizer.chat_template or ""))
        self._signs = [sign for sign in sorted(set(tokenizer.all_special_tokens), key=len, reverse=True) if len(sign) > 2]
        self._context: int | None = getattr(net.config, "max_position_embeddings", None)
        self._end = {int(token) for token in np.atleast_1d(net.generation_config.eos_token_id or tokenizer.eos_token_id or -1)}

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling = Sampling()) -> list[Completion]:  # noqa: B008 (frozen)
        """See `LanguageModel.complete`; prompts of like length are answered together, but for answers that are drawn, which would depend on their batch.

        Raises:
            PromptRefused: If a prompt and its answer are longer than the model's context.
        """
        tokens = [self.tokens(prompt) for prompt in prompts]
        answers: list[Completion | None] = [None] * len(prompts)
        lengths = [len(one) + sampling.max_tokens for one in tokens]
        self._refuse_long(max(lengths, default=0))
        for rows in _batches(lengths, _PROMPT_TOKENS_AT_ONCE if sampling.temperature == 0 else 1):
            for row, answer in zip(rows, self._generate([tokens[row] for row in rows], sampling), strict=True):
                answers[row] = answer
        return [answer for answer in answers if answer is not None]

    def log_likelihood(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[Likelihoods]:
        """See `Likely.log_likelihood`."""
        return [self._likely(self.tokens(prompt), list(texts)) for prompt, texts in zip(prompts, continuations, strict=True)]

    def tokens(self, prompt: Prompt) -> list[int]:
        """The prompt as the model reads it, up to where its answer begins; a system message stands in the first turn where the chat template has none.

        Raises:
            LanguageModelError: If the chat template refuses the turns.
        """
        turns = [{"role": message.role, "content": self._without_signs(message.text)} for message in prompt]
        if self._tokenizer.chat_template is None:
            text = "".join(f"{turn['role']}: {turn['content']}\n" for turn in turns) + "assistant:"
            return list(self._tokenizer(text)["input_ids"])
        for form in (turns, _without_system(turns)):
            try:
                return list(self._tokenizer.apply_chat_template(form, add_generation_prompt=True, tokenize=True, return_dict=False))
            except TemplateError as error:
                refused = str(error)
        raise LanguageModelError(f"the chat template of {self.name} takes no such turns ({refused}): choose an instruct model")

    def _without_signs(self, text: str) -> str:
        """A text in which nothing opens or ends a turn: the tokenizer's own signs lose their shape."""
        for sign in self._signs:
            text = text.replace(sign, f"{sign[0]} {sign[1:]}")
        return text

    def continuation_tokens(self, text: str) -> list[int]:
        """A continuation's tokens, at least one."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"]) or sorted(self._end)[:1]

    def _refuse_long(self, tokens: int) -> None:
        if self._context is not None and tokens > self._context:
            raise PromptRefused(f"{self.name} reads {self._context:,} tokens and was given {tokens:,}: show it less history or fewer candidates")

    def _likely(self, prompt: list[int], texts: list[str]) -> Likelihoods:
        tokens = [self.continuation_tokens(text) for text in texts]
        self._refuse_long(len(prompt) + max((len(one) for one in tokens), default=0))
        summed = continuation_likelihoods(self._net, prompt, tokens, self._device)
        return Likelihoods(summed, np.array([len(one) for one in tokens], np.int64), len(prompt))

    @torch.inference_mode()
    def _generate(self, tokens: list[list[int]], sampling: Sampling) -> list[Completion]:
        width = max(len(one) for one in tokens)
        ids = torch.full((len(tokens), width), self._tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(ids)
        for row, one in enumerate(tokens):  # padded on the left: what comes next stands behind every prompt at once
            ids[row, width - len(one) :], mask[row, width - len(one) :] = torch.tensor(one), 1
        choice: dict[str, Any] = {"do_sample": sampling.temperature > 0, "top_p": None, "top_k": None, "temperature": sampling.temperature or None}
        inputs = {"input_ids": ids.to(self._device), "attention_mask": mask.to(self._device)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sampling.seed)
            made = self._net.generate(**inputs, max_new_tokens=sampling.max_tokens, pad_token_id=self._tokenizer.pad_token_id or 0, **choice)[:, width:].cpu()
        return [self._completion(len(one), new.tolist(), sampling) for one, new in zip(tokens, made, strict=True)]

    def _completion(self, prompt_tokens: int, new: list[int], sampling: Sampling) -> Completion:
        stop = next((place for place, token in enumerate(new) if token in self._end), None)
        written = new if stop is None else new[:stop]
        text = without_thoughts(self._tokenizer.decode(written, skip_special_tokens=True))
        return Completion(text, prompt_tokens, len(written), cut=stop is None and len(new) >= sampling.max_tokens)


def open_local(name: str, model: str | Path) -> LocalModel:
    """A model of a folder or the hub.

    Raises:
        ConfigError: If there is none.
    """
    return LocalModel(name, *open_pretrained(model, causal=True))


def _without_system(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """The turns with the system message, where there is one, as the beginning of the first."""
    if len(turns) < 2 or turns[0]["role"] != "system":
        return turns
    system, first, *others = turns
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *others]


def _batches(lengths: list[int], budget: int) -> list[list[int]]:
    """Rows in batches of like length and at most `budget` tokens with padding; a longer one goes alone."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    parts, start = [], 0
    while start < len(order):
        stop = start + max(budget // lengths[order[start]], 1)
        parts.append(order[start:stop])
        start = stop
    return parts
