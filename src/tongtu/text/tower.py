"""Text towers that learn: texts in, the states of their tokens out, with gradients into the last layers.

    minilm              MiniLM from its package
    hf:NAME_OR_PATH     a transformers encoder of BERT's build
    words               vectors of hashed words, nothing to download: for tests, and as the least that text can do

The layers that stay as they are give the same states in every epoch, so those are computed once for all texts and kept on disk,
read back memory-mapped; a training step runs only the layers that learn. The key of a file is a hash of the frozen weights, the
tokens and the precision, so nothing stale is ever read. Frozen layers run without dropout; with dropout off the two ways of
working compute the same.

Shapes: N texts, T tokens, W width.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tongtu.config import nearest
from tongtu.data.fetch import cache_folder
from tongtu.errors import ConfigError
from tongtu.files import new_file
from tongtu.progress import progress
from tongtu.text.minilm import minilm_folder
from tongtu.text.transformer import open_transformer

Precision = Literal["fp32", "fp16"]
Depth = int | Literal["all"]

_WORDS = 1 << 14  # rows of the table of hashed words
_TOKENS_AT_ONCE = 1_024  # more leave the caches, which doubles the time


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts as a tower reads them: text i has the tokens `token[start[i]:start[i] + length[i]]`, at least one; equal texts share them.

    Attributes:
        token: int32, token numbers.
        start, length: int64[n].
        states: [tokens, W], what the frozen layers make of them, or None where they are to run each time.
    """

    token: npt.NDArray[np.int32]
    start: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    states: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.start)

    def take(self, rows: npt.NDArray[np.int64]) -> Texts:
        """The texts at `rows`, in that order."""
        return Texts(self.token, self.start[rows], self.length[rows], self.states)

    def places(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Tensor]:
        """Where the tokens of `rows` are, int64[N, T], and which of them are real, bool[N, T]."""
        length = self.length[rows]
        column = np.arange(int(length.max(initial=1)))
        inside = column < length[:, None]
        return np.where(inside, self.start[rows][:, None] + column, 0), torch.from_numpy(inside)


class Tower(Protocol):
    """A module that reads texts."""

    width: int

    def read(self, texts: Sequence[str], quiet: bool = False) -> Texts:
        """Tokens of texts, and what the frozen layers make of them; "" is a text too."""
        ...

    def states(self, texts: Texts, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """States [N, T, W] of the tokens of some texts, and which are real, bool[N, T]."""
        ...


def open_tower(name: str, layers: Depth = 2, tokens: int = 32, width: int = 64, keep: Precision | None = "fp32") -> Tower:
    """The tower of this name, an `nn.Module` that holds only what learns.

    Args:
        name: "minilm", "hf:NAME_OR_PATH" or "words".
        layers: How many of the last layers learn; "all" means every layer above the token embeddings, which stay as they are.
        tokens: Of each text at most so many are read, special ones included.
        width: Of word vectors; other towers have their own.
        keep: Precision of the frozen layers' states on disk; None keeps none and runs those layers each time.

    Raises:
        ConfigError: For an unknown name, or a model that cannot be parted into layers.
    """
    if name == "words":
        return WordTower(width, tokens)
    if name.startswith("hf:"):
        return TransformerTower(*open_transformer(name.removeprefix("hf:")), layers, tokens, keep)
    if name == "minilm":
        return TransformerTower(*open_transformer(minilm_folder()), layers, tokens, keep)
    raise ConfigError(f"no language model {name!r}, {nearest(name, ('minilm', 'words', 'hf:NAME_OR_PATH'))}")


class WordTower(nn.Module):
    """A vector for each hashed word; token 0 opens every text, so that a text without words has a state too."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.width, self._tokens = width, tokens
        self.word = nn.Embedding(_WORDS, width)
        nn.init.normal_(self.word.weight, std=width**-0.5)

    def read(self, texts: Sequence[str], quiet: bool = False) -> Texts:
        """See `Tower`."""
        words = [re.findall(r"\w+", text.lower())[: self._tokens - 1] for text in texts]
        number = {word: 1 + _hashed(word) % (_WORDS - 1) for word in {word for one in words for word in one}}
        return _joined([[0, *(number[word] for word in one)] for one in words])

    def states(self, texts: Texts, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """See `Tower`."""
        place, valid = texts.places(rows)
        device = self.word.weight.device
        return self.word(torch.from_numpy(texts.token[place]).long().to(device)), valid.to(device)


class TransformerTower(nn.Module):
    """The layers of a transformers encoder: the lower ones frozen and outside of the module's parameters, the upper ones learn."""

    _here: Tensor

    def __init__(self, model: Any, tokenizer: Any, layers: Depth, tokens: int, keep: Precision | None) -> None:
        super().__init__()
        stack = _layers(model)
        count = len(stack) if layers == "all" else layers
        if not 0 <= count <= len(stack):
            raise ConfigError(f"the language model has {len(stack)} layers, so {layers} of them cannot learn: choose 0 to {len(stack)}")
        self.width = int(model.config.hidden_size)
        self._tokenizer, self._tokens, self._keep = tokenizer, tokens, keep
        self.register_buffer("_here", torch.zeros(0), persistent=False)  # tells the device also where no layer learns
        self.upper = _part(model, slice(len(stack) - count, None), _Given())
        self._lower = [_part(model, slice(0, len(stack) - count), None).eval().requires_grad_(False)]  # in a list: no submodule
        for name, parameter in self.upper.named_parameters():
            parameter.requires_grad_(_is_layer(name))

    def read(self, texts: Sequence[str], quiet: bool = False) -> Texts:
        """See `Tower`."""
        distinct = list(dict.fromkeys(texts))
        place = {text: number for number, text in enumerate(distinct)}
        coded = self._tokenizer(distinct, truncation=True, max_length=self._tokens, add_special_tokens=True)["input_ids"] if distinct else []
        found = _joined(coded)
        if self._keep is not None:
            found = dataclasses.replace(found, states=self._kept(found, self._keep, quiet))
        return found.take(np.fromiter((place[text] for text in texts), np.int64, len(texts)))

    def states(self, texts: Texts, rows: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """See `Tower`."""
        place, valid = texts.places(rows)
        device = self._here.device
        valid = valid.to(device)
        if texts.states is None:
            with torch.no_grad():
                lower = self._run_lower(torch.from_numpy(texts.token[place]).long(), valid)
        else:
            lower = torch.from_numpy(texts.states[place].astype(np.float32, copy=False)).to(device)
        out = self.upper(inputs_embeds=lower, attention_mask=valid.long()).last_hidden_state
        return out, valid

    def _run_lower(self, tokens: Tensor, valid: Tensor) -> Tensor:
        lower = self._lower[0].to(valid.device)
        out: Tensor = lower(input_ids=tokens.to(valid.device), attention_mask=valid.long()).last_hidden_state
        return out

    def _kept(self, texts: Texts, keep: Precision, quiet: bool) -> npt.NDArray[Any]:
        """States of the frozen layers, from disk, after computing them where they are not there."""
        kind = np.float32 if keep == "fp32" else np.float16
        digest = hashlib.sha256(repr((keep, self.width)).encode())
        for name, tensor in sorted(self._lower[0].state_dict().items()):
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        for column in (texts.token, texts.length):
            digest.update(column.tobytes())
        file = cache_folder() / "states" / f"{digest.hexdigest()[:32]}.npy"
        if not file.is_file():
            with new_file(file) as temporary:
                self._compute(texts, temporary, kind, quiet)
        return cast(npt.NDArray[Any], np.load(file, mmap_mode="r"))

    def _compute(self, texts: Texts, file: Path, kind: type, quiet: bool) -> None:
        length = texts.length
        order = np.argsort(length, kind="stable")
        states = np.lib.format.open_memmap(file, mode="w+", dtype=kind, shape=(len(texts.token), self.width))
        with progress("reading texts", len(texts), "texts", quiet) as bar, torch.inference_mode():
            first = 0
            while first < len(order):
                near = length[order[first : first + _TOKENS_AT_ONCE]]
                count = max(1, int((near * np.arange(1, len(near) + 1) <= _TOKENS_AT_ONCE).sum()))
                place, valid = texts.places(order[first : first + count])
                made = self._run_lower(torch.from_numpy(texts.token[place]).long(), valid)
                states[place[valid.numpy()]] = made[valid].numpy()
                first += count
                bar.advance(count)
        states.flush()


class _Given(nn.Module):
    """In the place of token embeddings: takes the states that are given."""

    def forward(self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None, **_: Any) -> Tensor:
        assert inputs_embeds is not None
        return inputs_embeds


_STACKS: tuple[tuple[str, str], ...] = (("encoder", "layer"), ("transformer", "layer"))


def _stack(model: Any) -> tuple[Any, str]:
    for owner, name in _STACKS:
        found = getattr(model, owner, None)
        if isinstance(getattr(found, name, None), nn.ModuleList) and isinstance(getattr(model, "embeddings", None), nn.Module):
            return found, name
    raise ConfigError(f"{type(model).__name__} is not built like BERT (embeddings, then encoder.layer), so its layers cannot be frozen: choose another model")


def _layers(model: Any) -> nn.ModuleList:
    owner, name = _stack(model)
    return cast(nn.ModuleList, getattr(owner, name))


def _part(model: Any, layers: slice, embeddings: nn.Module | None) -> Any:
    """A copy of the model with only some of its layers; its own code then makes masks and runs them."""
    owner, name = _stack(model)
    whole, own, pooler = getattr(owner, name), model.embeddings, getattr(model, "pooler", None)
    try:  # what is not wanted is taken away before copying
        setattr(owner, name, nn.ModuleList(list(whole)[layers]))
        if embeddings is not None:
            model.embeddings = embeddings
        if pooler is not None:
            model.pooler = None
        return copy.deepcopy(model)
    finally:
        setattr(owner, name, whole)
        model.embeddings = own
        if pooler is not None:
            model.pooler = pooler


def _is_layer(name: str) -> bool:
    return any(name.startswith(f"{owner}.{stack}.") for owner, stack in _STACKS)


def _joined(coded: Sequence[Sequence[int]]) -> Texts:
    length = np.fromiter(map(len, coded), np.int64, len(coded))
    return Texts(np.fromiter((token for one in coded for token in one), np.int32, int(length.sum())), np.cumsum(length) - length, length)


def _hashed(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")

