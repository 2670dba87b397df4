"""Item encoders: text in, one vector out, opened by the name that a `Config` holds.

    minilm                       all-MiniLM-L6-v2 (Reimers & Gurevych, EMNLP 2019), 384 numbers, English
    hashing, hashing:WIDTH       signed hashing of words and parts of words, nothing to download
    hf:NAME_OR_PATH[?options]    any model of transformers, from a folder or the hub; options as in a web address:
                                 pooling=mean|cls|last, prompt=TEXT (before each item's text), length=TOKENS, normalise=false

`tongtu.text.vectors.text_vectors` encodes a catalogue with any of them and remembers what was encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tongtu.config import nearest
from tongtu.errors import ConfigError

Vectors = npt.NDArray[np.float32]

_KINDS = ("minilm", "hashing", "hf:NAME_OR_PATH")
_WIDEST = 65_536


class ItemEncoder(Protocol):
    """Makes a vector of a text.

    Attributes:
        name: What `open_encoder` opens it by.
        width: Numbers in a vector.
        fingerprint: SHA-256 over all that decides a vector: weights, tokenizer, pooling, prompt, length.
    """

    name: str
    width: int
    fingerprint: str

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors [n, width] of the texts; "" gives zeros, which stand for an item without text."""
        ...


def open_encoder(name: str) -> ItemEncoder:
    """The encoder of this name.

    Raises:
        ConfigError: For an unknown kind, naming the nearest, for options that do not exist, or a model that is not there.
        DataError: If MiniLM is neither installed nor to be had from the package index.
    """
    kind, _, rest = name.partition(":")
    if name == "minilm":
        from tongtu.text.minilm import minilm

        return minilm()
    if kind == "hf" and rest:
        from tongtu.text.transformer import from_name

        return from_name(name)
    if kind == "hashing":
        from tongtu.text.hashing import HashingEncoder

        if rest and not (rest.isdecimal() and 1 <= int(rest) <= _WIDEST):
            raise ConfigError(f"encoder {name!r}: the width after the colon must be a whole number from 1 to {_WIDEST:,}")
        return HashingEncoder(int(rest or 256))
    raise ConfigError(f"no text encoder {name!r}, {nearest(name, _KINDS)}")
