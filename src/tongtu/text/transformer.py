"""Item encoders from any model of transformers: BERT's kind pooled by mean or [CLS], decoders by their last token.

Texts are sorted by tokens and go in batches of a token budget, so that little of the arithmetic is spent on padding.
Weights come from safetensors only, and no code from a model's folder is ever run.

Shapes: N texts, T tokens, W width.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from tongtu.config import build, configuration
from tongtu.errors import ConfigError
from tongtu.pretrained import fingerprint, open_pretrained, settings_of
from tongtu.text.encoder import Vectors

_TOKENS_AT_ONCE = 1_024  # the activations of more leave the caches: measured, 4,096 at once take half as long again, 8,192 twice
Length = npt.NDArray[np.int64]


@configuration
class Reading:
    """How a model's token states become one vector.

    Attributes:
        pooling: "mean" over the real tokens, the first token ("cls"), or the "last", as encoders made of decoders want it.
        prompt: Put before each text, for encoders that were trained with instructions.
        length: Of each text at most so many tokens are read, the prompt's and special ones included; never more than the model has places for.
        normalise: Whether vectors are brought to length 1.
    """

    pooling: Literal["mean", "cls", "last"] = "mean"
    prompt: str = ""
    length: Annotated[int, Field(ge=3, le=32_768)] = 256
    normalise: bool = True


class TransformerEncoder:
    """An `ItemEncoder`.

    Args:
        name: What `open_encoder` opens it by.
        model: A folder with config.json, model.safetensors and tokenizer files, or a name on the hub.
        reading: How states become vectors.
        checked: Whether config.json is known by its hash, so that the fingerprint need not tell of it.

    Raises:
        ConfigError: If there is no such model, or it has no tokenizer.
    """

    def __init__(self, name: str, model: str | Path, reading: Reading, checked: bool = False) -> None:
        self.name, self._reading = name, reading
        self._net, self._tokenizer = open_transformer(model)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._net.to(self._device)
        self.width = int(self._net.config.hidden_size)
        self._length = min(reading.length, _places(self._net), self._tokenizer.model_max_length)
        self.fingerprint = fingerprint(self._net, self._tokenizer, repr(reading) + ("" if checked else settings_of(self._net.config)))

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `ItemEncoder.encode`."""
        vectors = np.zeros((len(texts), self.width), np.float32)
        asked = [row for row, text in enumerate(texts) if text]
        if not asked:
            return vectors
        tokens = self._tokenizer([self._reading.prompt + texts[row] for row in asked], truncation=True, max_length=self._length)["input_ids"]
        # without [CLS] and its like nothing may be left of a text, of white space for one: it counts as none
        rows, tokens = [row for row, one in zip(asked, tokens, strict=True) if one], [one for one in tokens if one]
        lengths = np.array([len(one) for one in tokens], np.int64)
        with torch.inference_mode():
            for some in _batches(lengths, _TOKENS_AT_ONCE):
                states, length = self._states([tokens[i] for i in some], lengths[some])
                vectors[np.array(rows)[some]] = self._pooled(states, length).float().cpu().numpy()
        return vectors

    def _states(self, tokens: list[list[int]], lengths: Length) -> tuple[Tensor, Tensor]:
        """States [N, T, W] of the last layer, padded behind the end, and lengths int64[N]."""
        padded = np.zeros((len(tokens), int(lengths.max())), np.int64)
        inside = np.arange(padded.shape[1]) < lengths[:, None]
        padded[inside] = np.concatenate(tokens)
        mask = None if inside.all() else torch.from_numpy(inside).long().to(self._device)  # no mask is the faster way through attention
        states: Tensor = self._net(input_ids=torch.from_numpy(padded).to(self._device), attention_mask=mask).last_hidden_state
        return states, torch.from_numpy(lengths).to(self._device)

    def _pooled(self, states_NTW: Tensor, length_N: Tensor) -> Tensor:
        if self._reading.pooling == "cls":
            vectors = states_NTW[:, 0]
        elif self._reading.pooling == "last":
            vectors = states_NTW[torch.arange(len(states_NTW), device=states_NTW.device), length_N - 1]
        else:
            real = torch.arange(states_NTW.shape[1], device=states_NTW.device) < length_N[:, None]
            vectors = (states_NTW * real[:, :, None]).sum(1) / length_N[:, None]
        return nn.functional.normalize(vectors, dim=1) if self._reading.normalise else vectors


def from_name(name: str) -> TransformerEncoder:
    """The encoder that "hf:NAME_OR_PATH?pooling=last&prompt=..." means.

    Raises:
        ConfigError: For options that do not exist, "attention" pooling, or a model that is not there.
    """
    model, _, query = name.removeprefix("hf:").partition("?")
    try:
        options: dict[str, Any] = dict(urllib.parse.parse_qsl(query, strict_parsing=True)) if query else {}
    except ValueError:
        raise ConfigError(f"encoder {name!r}: options go like ?pooling=last&length=64") from None
    if options.get("pooling") == "attention":
        raise ConfigError(f"encoder {name!r}: attention pooling must be learned first, as PLM-NR does: tongtu fit plmnr")
    return TransformerEncoder(name, model, build(Reading, options, f"encoder {name!r}"))


def _batches(lengths: Length, budget: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows in batches of at most `budget` tokens with padding, each of texts of like length; a longer text goes alone."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(budget // int(lengths[order[start]]), 1)
        yield order[start:stop]
        start = stop


def open_transformer(model: str | Path) -> tuple[Any, Any]:
    """Network and tokenizer of a folder or a name on the hub; see `open_pretrained`.

    Raises:
        ConfigError: If there is no such model, or it cannot encode texts.
    """
    net, tokenizer = open_pretrained(model)
    if getattr(net.config, "is_encoder_decoder", False):
        raise ConfigError(f"{model} is an encoder-decoder, whose states are no item vectors: choose an encoder or a decoder")
    return net, tokenizer


def _places(net: Any) -> int:
    """Tokens that the model has positions for; RoBERTa's kind begins to count behind its padding's number."""
    before = getattr(getattr(net, "embeddings", None), "padding_idx", None)
    places = getattr(net.config, "max_position_embeddings", None) or 1 << 30
    return int(places) - (0 if before is None else int(before) + 1)
