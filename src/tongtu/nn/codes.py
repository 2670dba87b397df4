"""An encoder-decoder over items that are written as codes, one of each level: the network of TIGER and its like.

The encoder reads the codes of a history, the decoder writes those of the next item, level by level, and is asked behind as many events of a
sequence as the encoder allows: one that reads from left to right, item by item, gives behind each event exactly the states that it would give were
this the last one, so that one pass serves all targets of a sequence; one that reads both ways serves the last event alone.

After T5 (Raffel et al., JMLR 2020): norm before each part, no biases, a number for each distance added to attention and shared by all layers.
Attention on what was read has such numbers too, by age, since an encoder from left to right cannot tell which item is the newest.

Shapes: B sequences, T items, R places of an item in the encoder, S places read, P questions a sequence, L levels, C codes of a level, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from tongtu.config import configuration
from tongtu.nn.batch import Batch

Codes2D = npt.NDArray[np.int32]
Vectors = npt.NDArray[np.float32]
KeysValues = tuple[Tensor, Tensor]


@configuration
class CodeBodyConfig:
    """The size of an encoder-decoder over codes.

    Attributes:
        max_length: Events of history that are read, the newest.
        width: Of code vectors and states.
        heads, head_width: Of attention; their product need not be `width`.
        encoder_layers, decoder_layers: How many.
        inner: Width of the feed-forward part.
        dropout: Of inputs and of what each part adds.
        encoder: Reads "causal", item by item from left to right, or "bidirectional" as T5 does.
        read: What stands in a place of the encoder: each of an item's codes ("tokens"), or the sum of their vectors ("items").
    """

    max_length: Annotated[int, Field(ge=1, le=1_000)] = 20
    width: Annotated[int, Field(ge=1)] = 128
    heads: Annotated[int, Field(ge=1)] = 4
    head_width: Annotated[int, Field(ge=1)] = 32
    encoder_layers: Annotated[int, Field(ge=1)] = 2
    decoder_layers: Annotated[int, Field(ge=1)] = 2
    inner: Annotated[int, Field(ge=1)] = 512
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    encoder: Literal["causal", "bidirectional"] = "causal"
    read: Literal["tokens", "items"] = "tokens"


class CodeAttention(nn.Module):
    """Multi-head attention whose keys and values are made once and asked often."""

    def __init__(self, config: CodeBodyConfig) -> None:
        super().__init__()
        self.heads, self.scale, made = config.heads, config.head_width**-0.5, config.heads * config.head_width
        self.query, self.key_value = nn.Linear(config.width, made, bias=False), nn.Linear(config.width, 2 * made, bias=False)
        self.out = nn.Linear(made, config.width, bias=False)

    def keys_values(self, x_BSD: Tensor) -> KeysValues:
        """Keys and values, each [B, H, S, K]."""
        k, v = self.key_value(x_BSD).view(*x_BSD.shape[:2], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return k, v

    def queries(self, x_BQD: Tensor) -> Tensor:
        """Queries [B, H, Q, K], scaled."""
        q: Tensor = self.query(x_BQD) * self.scale
        return q.view(*x_BQD.shape[:2], self.heads, -1).transpose(1, 2)

    def merged(self, x_BHQK: Tensor) -> Tensor:
        """What the heads found, [B, Q, D]."""
        out: Tensor = self.out(x_BHQK.transpose(1, 2).flatten(2))
        return out

    def forward(self, x_BQD: Tensor, read: KeysValues, bias: Tensor) -> Tensor:
        """Attention [B, Q, D]; `bias` [1 or B, H, Q / n, S] is added to the logits, the same for n queries behind each other."""
        keys, values = read
        q = self.queries(x_BQD)
        logits = q @ keys.transpose(-1, -2)
        groups = logits.view(*logits.shape[:2], bias.shape[2], -1, logits.shape[3])
        groups += bias[:, :, :, None]
        return self.merged(logits.softmax(-1) @ values)


class CodeLayer(nn.Module):
    """Attention on itself, in a decoder attention on what was read, and a feed-forward part."""

    def __init__(self, config: CodeBodyConfig, decoder: bool) -> None:
        super().__init__()
        D = config.width
        self.norm_own, self.own = nn.LayerNorm(D), CodeAttention(config)
        self.norm_read: nn.LayerNorm | None = nn.LayerNorm(D) if decoder else None
        self.read: CodeAttention | None = CodeAttention(config) if decoder else None
        self.norm_inner, self.rise, self.fall = nn.LayerNorm(D), nn.Linear(D, config.inner, bias=False), nn.Linear(config.inner, D, bias=False)
        self.drop = nn.Dropout(config.dropout)

    def encode(self, x_BSD: Tensor, bias: Tensor) -> Tensor:
        """A layer of the encoder."""
        normed = self.norm_own(x_BSD)
        return self.inner(x_BSD + self.drop(self.own(normed, self.own.keys_values(normed), bias)))

    def decode(self, x_BPLD: Tensor, read: KeysValues, bias: Tensor) -> Tensor:
        """A layer of the decoder, for all questions of each sequence."""
        x = x_BPLD.flatten(0, 1)
        normed = self.norm_own(x)
        keys, values = self.own.keys_values(normed)
        found = functional.scaled_dot_product_attention(self.own.queries(normed), keys, values, is_causal=True, scale=1.0)
        x = (x + self.drop(self.own.merged(found))).view(len(x_BPLD), -1, x_BPLD.shape[3])
        return self.inner(self.reading(x, read, bias)).view_as(x_BPLD)

    def read_keys_values(self, states_BSD: Tensor) -> KeysValues:
        """Of the encoder's states, for `reading`."""
        assert self.read is not None
        return self.read.keys_values(states_BSD)

    def reading(self, x_BQD: Tensor, read: KeysValues, bias: Tensor) -> Tensor:
        """States with what was read added."""
        assert self.norm_read is not None and self.read is not None
        out: Tensor = x_BQD + self.drop(self.read(self.norm_read(x_BQD), read, bias))
        return out

    def inner(self, x: Tensor) -> Tensor:
        """States with the feed-forward part added."""
        out: Tensor = x + self.drop(self.fall(functional.relu(self.rise(self.norm_inner(x)))))
        return out


class CodeNet(nn.Module):
    """The encoder-decoder; one table of vectors serves inputs of both and the output layer.

    Args:
        config: The size.
        codes: int32[V, L], the codes of each item, a row for `PAD` first.
        sizes: How many codes each level has.
        users: Vectors that users share by hashing, 0 for none.
        text: float32[V, any width], text vectors, for items that are told apart by them too; None for codes alone.
        reads: Whether the encoder is given the text vectors besides the codes.
    """

    code: Tensor
    text: Tensor | None

    def __init__(
        self, config: CodeBodyConfig, codes: Codes2D, sizes: Sequence[int], users: int = 0, text: Vectors | None = None, reads: bool = False
    ) -> None:
        super().__init__()
        assert codes.shape[1] == len(sizes) and bool((codes.max(0) < np.asarray(sizes)).all())
        self.config, self.sizes, self.users = config, tuple(sizes), users
        self.places = len(sizes) if config.read == "tokens" else 1
        self.offset = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        self.register_buffer("code", torch.from_numpy(codes.astype(np.int64) + np.asarray(self.offset[:-1])), persistent=False)
        self.table = nn.Embedding(self.offset[-1] + 1 + (users + 1 if users else 0), config.width)
        self.distance = nn.Parameter(torch.zeros(config.heads, 2 * config.max_length * self.places - 1))
        self.age = nn.Parameter(torch.zeros(config.heads, config.max_length * self.places))
        self.encoder = nn.ModuleList(CodeLayer(config, decoder=False) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(CodeLayer(config, decoder=True) for _ in range(config.decoder_layers))
        self.norm_encoder, self.norm_decoder = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.drop = nn.Dropout(config.dropout)
        self.register_buffer("text", None if text is None else torch.from_numpy(text), persistent=False)
        self.told = None if text is None or not reads else nn.Linear(text.shape[1], config.width)
        self.wanted = None if text is None else nn.Linear(text.shape[1], config.width)
        nn.init.trunc_normal_(self.table.weight, std=0.02, a=-0.04, b=0.04)

    @property
    def causal(self) -> bool:
        """Whether the encoder reads from left to right."""
        return self.config.encoder == "causal"

    def vectors(self, token: Tensor) -> Tensor:
        """Vectors [..., D] of tokens as inputs."""
        out: Tensor = self.table(token) * self.config.width**0.5
        return out

    def read(self, batch: Batch) -> Tensor:
        """States [B, S, D] of a batch's histories; the place of a user stands first."""
        x = self.drop(self.inputs(batch))
        bias = self._read_bias(batch)
        for layer in _layers(self.encoder):
            x = layer.encode(x, bias)
        out: Tensor = self.norm_encoder(x)
        return out

    def inputs(self, batch: Batch) -> Tensor:
        """Inputs [B, S, D] of the encoder's first layer."""
        x_BTLD = self.vectors(self.code[batch.item])
        if self.told is not None and self.text is not None:
            x_BTLD = x_BTLD + (self.told(self.text[batch.item]) * self.config.width**0.5)[:, :, None]
        x = x_BTLD.flatten(1, 2) if self.config.read == "tokens" else x_BTLD.sum(2)
        if not self.users:
            return x
        user = torch.zeros_like(batch.length) if batch.user is None else batch.user
        token = self.offset[-1] + 1 + torch.where(user > 0, 1 + (user * 2_654_435_761 % (1 << 32)) % self.users, 0)
        return torch.cat([self.vectors(token)[:, None], x], 1)

    def asked(self, batch: Batch) -> Tensor:
        """int64[1 or B, P], the events behind which the decoder is asked."""
        return torch.arange(batch.item.shape[1], device=batch.item.device)[None] if self.causal else batch.length[:, None] - 1

    def ask_bias(self, asked_BP: Tensor, batch: Batch) -> Tensor:
        """What attention on the places read adds to its logits, [1 or B, H, P, S]; -inf for what comes after the question."""
        T, R = batch.item.shape[1], self.places
        place = torch.arange(T * R, device=asked_BP.device)
        age = (asked_BP[..., None] + 1) * R - 1 - place
        bias = self.age[:, age.clamp(0, self.age.shape[1] - 1)].transpose(0, 1).masked_fill((age < 0)[:, None], -torch.inf)
        return functional.pad(bias, (1, 0)) if self.users else bias

    def answers(self, batch: Batch, target_BP: Tensor, states_BSD: Tensor) -> Tensor:
        """States [B, P, L, D] from which the codes of each question's item are predicted, those of the levels before it being known."""
        start = torch.full_like(target_BP, self.offset[-1])[..., None]
        x = self.drop(self.vectors(torch.cat([start, self.code[target_BP][..., :-1]], -1)))
        bias = self.ask_bias(self.asked(batch), batch)
        for layer in _layers(self.decoder):
            x = layer.decode(x, layer.read_keys_values(states_BSD), bias)
        out: Tensor = self.norm_decoder(x)
        return out

    def targets(self, batch: Batch) -> Tensor:
        """int64[B, P], what is to be learned behind each question, `PAD` where there is nothing."""
        assert batch.target is not None
        return batch.target if self.causal else batch.target.gather(1, self.asked(batch))

    def logits(self, states: Tensor, level: int) -> Tensor:
        """Logits [..., C] of the codes of a level."""
        return functional.linear(states, self.table.weight[self.offset[level] : self.offset[level + 1]])

    def surprise(self, answers_NLD: Tensor, target_N: Tensor) -> Tensor:
        """float[N, L], -log p of each target's codes."""
        code = self.code[target_N] - torch.tensor(self.offset[:-1], device=target_N.device)
        logits = (self.logits(answers_NLD[:, level], level).float() for level in range(len(self.sizes)))
        return torch.stack([functional.cross_entropy(of_level, code[:, level], reduction="none") for level, of_level in enumerate(logits)], 1)

    def wishes(self, asked_BP: Tensor, states_BSD: Tensor) -> Tensor:
        """Vectors [B, P, D] of length 1 that each question's item should be like: the state in the last place before it."""
        place = (asked_BP + 1) * self.places - 1 + bool(self.users)
        found = states_BSD.gather(1, place.expand(len(states_BSD), -1)[..., None].expand(-1, -1, states_BSD.shape[2]))
        return functional.normalize(found, dim=-1)

    def likenesses(self, items: Tensor) -> Tensor:
        """Vectors [I, D] of length 1 of items, from their texts."""
        assert self.wanted is not None and self.text is not None
        return functional.normalize(self.wanted(self.text[items]), dim=-1)

    def _read_bias(self, batch: Batch) -> Tensor:
        """What attention of the encoder adds to its logits, [1 or B, H, S, S]."""
        T, R = batch.item.shape[1], self.places
        place = torch.arange(T * R, device=batch.item.device)
        bias = self.distance[:, place[:, None] - place + self.distance.shape[1] // 2][None]
        if self.causal:
            bias = bias.masked_fill(place[:, None] // R < place // R, -torch.inf)
            if not self.users:
                return bias
            alone = functional.pad(torch.full_like(bias[:, :, :1], -torch.inf), (1, 0))  # what a user's place saw, everything behind it would see
            return torch.cat([alone, functional.pad(bias, (1, 0))], 2)
        bias = functional.pad(bias, (1, 0, 1, 0)) if self.users else bias
        valid = batch.valid.repeat_interleave(R, 1)
        valid = functional.pad(valid, (1, 0), value=True) if self.users else valid
        return bias.masked_fill(~valid[:, None, None], -torch.inf)


def _layers(layers: nn.ModuleList) -> Iterator[CodeLayer]:
    for layer in layers:
        assert isinstance(layer, CodeLayer)
        yield layer
