"""Queries that a language model writes behind the titles of histories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from tongtu.core import Codes
from tongtu.decode.free import free_search
from tongtu.systems._titles import TitleSearch
from tongtu.systems.tuned._gpt4rec_titles import Shelf
from tongtu.tuning.network import LanguageNet

_LOGITS_AT_ONCE = 1 << 24
_ROWS = 64


@dataclass(frozen=True)
class Asked:
    """What was written for a request: queries, the likeliest first, and the tokens that were read and written."""

    queries: tuple[str, ...] = ()
    read: int = 0
    written: int = 0


@dataclass(frozen=True, eq=False)
class QueryWriter:
    """A network that is asked for the next title.

    Attributes:
        net: The network.
        shelf: The titles as its tokens.
        titles: The search that the queries are for.
        queries: The most of a request.
        beams: Texts followed at once, of which those that say something new to the search become queries.
        length_penalty: See `tongtu.decode.free.free_search`.
        kept: What was written before, by the items told; None to keep nothing.
    """

    net: LanguageNet
    shelf: Shelf
    titles: TitleSearch
    queries: int
    beams: int
    length_penalty: float
    kept: dict[bytes, Asked] | None = None

    def __call__(self, histories: Sequence[Codes]) -> list[Asked]:
        """Queries for each history; none where it tells no title."""
        told = [self.shelf.told(history) for history in histories]
        known = {} if self.kept is None else self.kept
        missing = {codes.tobytes(): codes for codes in told if len(codes) and codes.tobytes() not in known}
        prompts = [(key, self.shelf.prompt(codes)) for key, codes in missing.items()]
        found = dict(known)
        for some in self._blocks(sorted(prompts, key=lambda one: len(one[1]))):
            found |= {key: asked for (key, _), asked in zip(some, self._written([prompt for _, prompt in some]), strict=True)}
        if self.kept is not None:
            self.kept.update(found)
        return [found[codes.tobytes()] if len(codes) else Asked() for codes in told]

    def _blocks(self, prompts: Sequence[tuple[bytes, list[int]]]) -> Iterator[Sequence[tuple[bytes, list[int]]]]:
        """So many prompts at once as their logits have room."""
        size = max(1, min(_ROWS, _LOGITS_AT_ONCE // (self.beams * len(self.net.tokenizer))))
        return (prompts[first : first + size] for first in range(0, len(prompts), size))

    def _written(self, prompts: list[list[int]]) -> list[Asked]:
        with torch.inference_mode():
            most = self.shelf.wording.max_target - 1
            found = free_search(self.net.decoder_behind(prompts), self.shelf.end, self.beams, self.beams, most, self.length_penalty)
        asked = []
        for prompt, rows in zip(prompts, found.tokens.cpu().tolist(), strict=True):
            tokens = [[token for token in row if token >= 0] for row in rows]
            texts = [" ".join(self.net.wording.text(one).split()) for one in tokens]
            asked.append(Asked(tuple(self._distinct(texts)), len(prompt), sum(map(len, tokens))))
        return asked

    def _distinct(self, texts: Sequence[str]) -> list[str]:
        """The first `queries` texts that say something to the search, and not the same."""
        first: dict[object, str] = {}
        for words, text in zip(self.titles.words(texts), texts, strict=True):
            if words:
                first.setdefault(words, text)
        return list(first.values())[: self.queries]
