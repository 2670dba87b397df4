"""Beams of an encoder-decoder of transformers with T5's decoder (T5, FLAN-T5, mT5, UMT5), step by step over its own modules.

The keys and values of what the encoder read are made once a request and never copied: the beams of a request stand beside
each other as so many queries on them. All beams of a step have the same depth, on which alone T5's position bias depends.
Only the short keys and values of the beams' own tokens follow the beams, those of all layers in one gather.

Shapes: B requests, S tokens read by the encoder, W beams, T tokens written so far, L layers, H heads, K width of a head,
D width of the model, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tongtu.errors import LanguageModelError


class Seq2SeqDecoder:
    """A `Decoder` over a T5-like model; one for each search.

    Args:
        net: The model, in evaluation mode; one wrapped by peft will do.
        encoder_states: float[B, S, D], what its encoder made of the prompts.
        encoder_mask: [B, S], 1 or True where a token was read.

    Raises:
        LanguageModelError: If the model's decoder is not built like T5's.
    """

    def __init__(self, net: Any, encoder_states: Tensor, encoder_mask: Tensor) -> None:
        assert not net.training
        blocks = getattr(net.get_decoder(), "block", None)
        if blocks is None or not hasattr(blocks[0].layer[0], "SelfAttention"):
            raise LanguageModelError(f"{type(net).__name__} has no decoder like T5's: choose a T5, FLAN-T5, mT5 or UMT5 model")
        self._net, self._stack = net, net.get_decoder()
        self._states_BSD, self._read_B11S = encoder_states, encoder_mask.bool()[:, None, None]
        self._heads: int = blocks[0].layer[0].SelfAttention.n_heads

    @torch.no_grad()
    def start(self) -> Tensor:
        """See `Decoder.start`."""
        read = [block.layer[1].EncDecAttention for block in self._stack.block]
        self._read = [(self._split(one.k(self._states_BSD)), self._split(one.v(self._states_BSD))) for one in read]
        rows, width = len(self._states_BSD), self._read[0][0].shape[-1]
        # keys and values of the tokens written so far, with room for one more
        self._own_BWLHTK = self._states_BSD.new_zeros(rows, 1, 2 * len(read), self._heads, 1, width)
        token = torch.full((rows, 1), self._net.config.decoder_start_token_id, device=self._states_BSD.device)
        return self._logits(token)[:, 0]

    @torch.no_grad()
    def step(self, token_BW: Tensor, parent_BW: Tensor) -> Tensor:
        """See `Decoder.step`."""
        row = torch.arange(len(token_BW), device=token_BW.device)[:, None]
        self._own_BWLHTK = functional.pad(self._own_BWLHTK[row, parent_BW], (0, 0, 0, 1))
        return self._logits(token_BW)

    def _logits(self, token_BW: Tensor) -> Tensor:
        x_BWD = self._stack.embed_tokens(token_BW)
        bias_1H1T = None
        for layer, block in enumerate(self._stack.block):
            own, cross, forward = block.layer
            if own.SelfAttention.has_relative_attention_bias:
                length = self._own_BWLHTK.shape[4]
                bias_1H1T = own.SelfAttention.compute_bias(1, length, device=x_BWD.device, past_seen_tokens=length - 1)
            x_BWD = x_BWD + self._of_itself(own.SelfAttention, own.layer_norm(x_BWD), layer, bias_1H1T)
            x_BWD = x_BWD + self._of_what_was_read(cross.EncDecAttention, cross.layer_norm(x_BWD), layer)
            x_BWD = forward(x_BWD)
        x_BWD = self._stack.final_layer_norm(x_BWD)
        if _scales(self._net.config):
            x_BWD = x_BWD * self._net.config.d_model**-0.5
        logits: Tensor = self._net.get_output_embeddings()(x_BWD)
        return logits

    def _of_itself(self, part: Any, x_BWD: Tensor, layer: int, bias_1H1T: Tensor | None) -> Tensor:
        """Self-attention of each beam's newest token over its own past."""
        rows, width, _ = x_BWD.shape
        q, k, v = (way(x_BWD).view(rows, width, self._heads, -1) for way in (part.q, part.k, part.v))
        keys, values = self._own_BWLHTK[:, :, 2 * layer], self._own_BWLHTK[:, :, 2 * layer + 1]
        keys[..., -1, :], values[..., -1, :] = k, v
        bias = None if bias_1H1T is None else bias_1H1T.to(q.dtype)
        mixed = functional.scaled_dot_product_attention(q.flatten(0, 1).unsqueeze(2), keys.flatten(0, 1), values.flatten(0, 1), bias, scale=1.0)
        made: Tensor = part.o(mixed.view(rows, width, -1))
        return made

    def _of_what_was_read(self, part: Any, x_BWD: Tensor, layer: int) -> Tensor:
        """Attention of all beams of a request over what the encoder read."""
        keys, values = self._read[layer]
        mixed = functional.scaled_dot_product_attention(self._split(part.q(x_BWD)), keys, values, self._read_B11S, scale=1.0)
        made: Tensor = part.o(mixed.transpose(1, 2).flatten(2))
        return made

    def _split(self, x_BXD: Tensor) -> Tensor:
        """[B, X, H K] as [B, H, X, K]."""
        return x_BXD.view(*x_BXD.shape[:2], self._heads, -1).transpose(1, 2)


def _scales(config: Any) -> bool:
    """Whether the decoder's states are scaled before the output layer: transformers decides it for each model in another way."""
    told: bool | None = getattr(config, "scale_decoder_outputs", None)
    return told if told is not None else config.model_type != "mt5" and config.tie_word_embeddings
