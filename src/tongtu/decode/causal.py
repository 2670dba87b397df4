"""Beams behind the prompts of a decoder-only model of transformers, as a tree in one row.

A prompt is read once, not once a beam. The beams of a request stand side by side behind it, step after step, and a mask of
four dimensions lets each see the prompt and its own ancestors: no key or value is ever moved to follow a beam. Positions
follow depth, not place, so that the network cannot tell the tree from plain texts.

Shapes: B prompts, S tokens of the longest prompt, W beams, C tokens of the tree so far, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tongtu.errors import DataError, LanguageModelError


class CausalDecoder:
    """A `Decoder` over a causal model of transformers that takes position ids; one for each search.

    Args:
        net: The model, in evaluation mode, with "sdpa" or "eager" attention; one wrapped by peft will do.
        prompts: The tokens of each prompt.

    Raises:
        DataError: If there is no prompt or one has no tokens.
        LanguageModelError: If the model cannot read a tree of beams.
    """

    def __init__(self, net: Any, prompts: Sequence[Sequence[int]]) -> None:
        if not prompts or not all(map(len, prompts)):
            raise DataError("every prompt needs at least one token: begin it with the tokenizer's first token where there is no text")
        assert not net.training
        self._net, self._prompts = net, prompts
        self._device = net.get_input_embeddings().weight.device
        self._config = net.config.get_text_config()
        self._refuse_other_attention()
        self._length_B = torch.tensor([len(prompt) for prompt in prompts], device=self._device)
        self._longest = max(map(len, prompts))
        self._depth = 0

    @torch.no_grad()
    def start(self) -> Tensor:
        """See `Decoder.start`."""
        from transformers import DynamicCache

        self._refuse_long(self._longest)
        ids, self._real_BS = self._left_padded()
        visible = self._real_BS[:, None].expand(-1, self._longest, -1).tril() | torch.eye(self._longest, dtype=torch.bool, device=self._device)
        position = (self._real_BS.cumsum(1) - 1).clamp(min=0)
        self._past, self._depth = DynamicCache(), 0
        self._seen_BWC = torch.zeros(len(ids), 1, 0, dtype=torch.bool, device=self._device)
        mask = None if len(ids) * self._longest == self._length_B.sum() else self._mask(visible)
        logits: Tensor = self._net(
            input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=self._past, use_cache=True, logits_to_keep=1
        ).logits
        return logits[:, -1]

    @torch.no_grad()
    def step(self, token_BW: Tensor, parent_BW: Tensor) -> Tensor:
        """See `Decoder.step`."""
        rows, width = token_BW.shape
        self._refuse_long(self._longest + self._depth + 1)
        ancestors = self._seen_BWC.gather(1, parent_BW[..., None].expand(-1, -1, self._seen_BWC.shape[2]))
        itself = torch.eye(width, dtype=torch.bool, device=self._device).expand(rows, -1, -1)
        self._seen_BWC = torch.cat([ancestors, itself], 2)
        visible = torch.cat([self._real_BS[:, None].expand(-1, width, -1), self._seen_BWC], 2)
        position = (self._length_B + self._depth)[:, None].expand(-1, width)
        self._depth += 1
        logits: Tensor = self._net(
            input_ids=token_BW, attention_mask=self._mask(visible), position_ids=position, past_key_values=self._past, use_cache=True
        ).logits
        return logits

    def _left_padded(self) -> tuple[Tensor, Tensor]:
        """Tokens int64[B, S] and which of them are real; what comes next stands behind every prompt at once."""
        ids = torch.zeros(len(self._prompts), self._longest, dtype=torch.int64)
        for row, prompt in enumerate(self._prompts):
            ids[row, self._longest - len(prompt) :] = torch.tensor(prompt)
        place = torch.arange(self._longest, device=self._device)
        return ids.to(self._device), place >= (self._longest - self._length_B)[:, None]

    def _mask(self, visible: Tensor) -> Tensor:
        """What each query sees, as the model's attention takes it; every query sees at least itself."""
        visible = visible[:, None]
        if self._config._attn_implementation == "sdpa":
            return visible
        kind = self._net.get_input_embeddings().weight.dtype
        return torch.zeros(visible.shape, dtype=kind, device=self._device).masked_fill(~visible, torch.finfo(kind).min)

    def _refuse_other_attention(self) -> None:
        kind = self._config._attn_implementation
        if kind not in {"sdpa", "eager"}:
            raise LanguageModelError(f"beams share a prompt through a mask that {kind} attention does not take: open the model with attn_implementation='sdpa'")
        plain = self._net.get_base_model() if hasattr(self._net, "get_base_model") else self._net
        if "position_ids" not in inspect.signature(plain.forward).parameters:
            raise LanguageModelError(f"{type(plain).__name__} takes no position ids, which a tree of beams needs: choose a model that does, such as Llama")

    def _refuse_long(self, tokens: int) -> None:
        """A window over the last tokens counts places, of which a tree has more than depth: only what lies within it is right."""
        limits = [getattr(self._config, "max_position_embeddings", None), _window(self._config)]
        most = min((limit for limit in limits if limit is not None), default=None)
        if most is not None and tokens > most:
            raise LanguageModelError(f"the model reads {most:,} tokens at once and was given {tokens:,}: shorten the prompts")


def _window(config: Any) -> int | None:
    """How many tokens the layer that sees least sees back, None where all see everything."""
    kinds = getattr(config, "layer_types", None)
    slides = kinds is None or any(kind in {"sliding_attention", "chunked_attention"} for kind in kinds)
    window: int | None = (getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)) if slides else None
    return window
