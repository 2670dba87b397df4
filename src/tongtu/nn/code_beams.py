"""Beams of a `CodeNet`: what a search along a trie of codes asks, step by step (`tongtu.decode.beam.Decoder`).

Keys and values of what was read are made once a request; its beams are so many queries on them. Only the short keys and values
of the beams' own codes follow the beams. A level's codes are numbered from 0, and its logits are those of its own codes alone.

Shapes: B requests, W beams, S places read, N layers, H heads, K width of a head, D width, C codes of a level.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tongtu.nn.batch import Batch
from tongtu.nn.codes import CodeLayer, CodeNet, KeysValues


class CodeBeams:
    """Beams behind the newest event of each history.

    Args:
        net: The network, in evaluation mode.
        batch: Histories of at least one event.
        states_BSD: What the encoder made of them.
    """

    def __init__(self, net: CodeNet, batch: Batch, states_BSD: Tensor) -> None:
        assert not net.training
        self._net, self._layers = net, [layer for layer in net.decoder if isinstance(layer, CodeLayer)]
        self._bias = net.ask_bias(batch.length[:, None] - 1, batch)
        self._read: list[KeysValues] = [layer.read_keys_values(states_BSD) for layer in self._layers]
        self._level = 0

    @torch.no_grad()
    def start(self) -> Tensor:
        """See `Decoder.start`."""
        rows = len(self._bias)
        heads, width = self._read[0][0].shape[1], self._read[0][0].shape[3]
        self._own_BWNHTK = self._bias.new_zeros(rows, 1, 2 * len(self._layers), heads, 1, width)
        return self._logits(torch.full((rows, 1), self._net.offset[-1], device=self._bias.device))[:, 0]

    @torch.no_grad()
    def step(self, token_BW: Tensor, parent_BW: Tensor) -> Tensor:
        """See `Decoder.step`."""
        row = torch.arange(len(token_BW), device=token_BW.device)[:, None]
        self._own_BWNHTK = functional.pad(self._own_BWNHTK[row, parent_BW], (0, 0, 0, 1))
        self._level += 1
        return self._logits(token_BW + self._net.offset[self._level - 1])

    def _logits(self, token_BW: Tensor) -> Tensor:
        x = self._net.vectors(token_BW)
        for number, layer in enumerate(self._layers):
            x = layer.inner(layer.reading(self._of_itself(layer, x, number), self._read[number], self._bias))
        return self._net.logits(self._net.norm_decoder(x), self._level)

    def _of_itself(self, layer: CodeLayer, x_BWD: Tensor, number: int) -> Tensor:
        """States with what each beam's newest code finds in the codes before it."""
        rows, width, _ = x_BWD.shape
        normed = layer.norm_own(x_BWD).flatten(0, 1)[:, None]
        own = self._own_BWNHTK[:, :, 2 * number : 2 * number + 2]
        key, value = layer.own.keys_values(normed)
        own[:, :, 0, :, -1:], own[:, :, 1, :, -1:] = key.view_as(own[:, :, 0, :, -1:]), value.view_as(own[:, :, 1, :, -1:])
        found = functional.scaled_dot_product_attention(layer.own.queries(normed), own[:, :, 0].flatten(0, 1), own[:, :, 1].flatten(0, 1), scale=1.0)
        out: Tensor = x_BWD + layer.own.merged(found).view(rows, width, -1)
        return out
