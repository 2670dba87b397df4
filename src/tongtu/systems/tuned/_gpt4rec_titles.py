"""Titles as tokens: histories as prompts, and what a language model learns of them.

A prompt is a line that says what comes, and below it a title a line. Each title ends with the same token, a line break or, where the tokenizer has
none or the model an encoder, its end of text: so does the title that is asked for, and one row of a causal model teaches all titles of a history.

Shapes: E events that have a title, R rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from tongtu.core import Codes, Offsets
from tongtu.data.dataset import Dataset
from tongtu.tuning.examples import TextExamples
from tongtu.tuning.tokenizer import Wording

Tokens = npt.NDArray[np.int32]
_BREAK = "\n"


def ending(wording: Wording) -> int:
    """The token that ends a title."""
    if wording.encoder:
        return wording.end
    written = wording.answers([_BREAK])[0]
    return written[-1] if written and wording.text(written[-1:]) == _BREAK else wording.end


@dataclass(frozen=True, eq=False)
class Shelf:
    """The titles of a catalogue as one network's tokens.

    Attributes:
        wording: The network's.
        head: What every prompt begins with.
        end: The token behind every title.
        token: int32, all titles in code order, each with its end.
        offset: int64[items.size + 1], title of item code i at `offset[i]:offset[i + 1]`; empty for `PAD` and where there is none.
        most: The newest titles that are told.
    """

    wording: Wording
    head: list[int]
    end: int
    token: Tokens
    offset: Offsets
    most: int

    @classmethod
    def of(cls, wording: Wording, titles: Sequence[str], head: str, most: int) -> Self:
        """Write each title; a long one loses its end, as `Wording.answers` has it."""
        end = ending(wording)
        written = [[*tokens, end] if tokens else [] for tokens in wording.answers(titles)]
        length = np.fromiter(map(len, written), np.int64, len(written))
        token = np.fromiter((token for one in written for token in one), np.int32, int(length.sum()))
        return cls(wording, wording.prompts([head])[0], end, token, np.concatenate([np.zeros(2, np.int64), np.cumsum(length)]), most)

    @property
    def length(self) -> Offsets:
        """int64[items.size], tokens of each title with its end; 0 for none."""
        return np.diff(self.offset)

    def told(self, history: Codes) -> Codes:
        """The items of a history that a prompt tells: the newest that have a title and fit in, none twice in a row."""
        length = self.length[history]
        kept = history[length > 0]
        kept = kept[np.concatenate([np.ones(min(1, len(kept)), np.bool_), kept[1:] != kept[:-1]])][-self.most :]
        room = self.wording.max_prompt - len(self.head)
        fits: Codes = kept[np.cumsum(self.length[kept][::-1])[::-1] <= room]
        return fits

    def prompt(self, codes: Codes) -> list[int]:
        """A prompt that tells of these items."""
        parts = [self.token[self.offset[code] : self.offset[code + 1]] for code in codes.tolist()]
        return [*self.head, *np.concatenate([np.zeros(0, np.int32), *parts]).tolist()]


@dataclass(frozen=True, eq=False)
class Lines:
    """All histories of a data set as one stream of titles.

    Attributes:
        shelf: The titles.
        token: int32, the titles of all events in order.
        offset: int64[E + 1], where each event's title begins.
        first, stop: int64, the events of each user who has any.
    """

    shelf: Shelf
    token: Tokens
    offset: Offsets
    first: Offsets
    stop: Offsets

    @classmethod
    def of(cls, shelf: Shelf, data: Dataset) -> Self:
        """Events without a title are left out, and repetitions right behind each other."""
        length = shelf.length[data.item]
        titled = length > 0
        item, user = data.item[titled].astype(np.int64), data.event_user[titled]
        new = np.ones(len(item), np.bool_)
        new[1:] = (item[1:] != item[:-1]) | (user[1:] != user[:-1])
        item, user = item[new], user[new]
        token, offset = _slices(shelf.token, shelf.offset[item], shelf.offset[item + 1])
        first = np.flatnonzero(np.concatenate([np.ones(min(1, len(user)), np.bool_), user[1:] != user[:-1]]))
        return cls(shelf, token, offset, first, np.append(first[1:], len(user))[: len(first)])

    def whole(self, rows: int | None = None, seed: int = 0) -> TextExamples:
        """Each title from those before it: rows of up to `most` + 1 titles, counted from the newest, so that each event is learned once.

        Args:
            rows: Only so many, drawn by `seed`.
            seed: Of the draw.
        """
        width = self.shelf.most + 1
        pieces = -(-(self.stop - self.first) // width)
        user = np.repeat(np.arange(len(pieces)), pieces)
        back = np.arange(len(user)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        stop = self.stop[user] - back * width
        chosen = _some(len(user), rows, seed)
        user, stop = user[chosen], stop[chosen]
        start = self._fitting(np.maximum(stop - width, self.first[user]), stop, stop - 1)
        return self._examples(start, start, stop)

    def drawn(self, per_user: int, seed: int, rows: int | None = None) -> TextExamples:
        """One title from those before it: `per_user` drawn of each user who has two events, or of so many such users (`rows`)."""
        several = np.flatnonzero(self.stop - self.first > 1)
        several = several[_some(len(several), rows, seed)]
        first, stop = np.repeat(self.first[several], per_user), np.repeat(self.stop[several], per_user)
        answer = first + 1 + (np.random.default_rng(seed).random(len(first)) * (stop - first - 1)).astype(np.int64)
        return self._examples(self._fitting(np.maximum(answer - self.shelf.most, first), answer, answer), answer, answer + 1)

    def _fitting(self, start: Offsets, stop: Offsets, last: Offsets) -> Offsets:
        """Where rows that end at `stop` begin without the oldest titles that find no room; at `last` at the latest."""
        room = self.shelf.wording.max_prompt - len(self.shelf.head)
        return np.minimum(np.maximum(start, np.searchsorted(self.offset, self.offset[stop] - room)), last)

    def _examples(self, start: Offsets, answer: Offsets, stop: Offsets) -> TextExamples:
        """Rows that tell the events from `start` on and learn those from `answer` on, up to `stop`."""
        head = np.array(self.shelf.head, np.int32)
        told, told_offset = _slices(self.token, self.offset[start], self.offset[answer])
        place = np.repeat((np.arange(len(start)) + 1) * len(head), np.diff(told_offset)) + np.arange(len(told))
        prompt = np.zeros(len(told) + len(head) * len(start), np.int32)
        offset = told_offset + np.arange(len(start) + 1) * len(head)
        prompt[place] = told
        prompt[offset[:-1, None] + np.arange(len(head))] = head
        learned, learned_offset = _slices(self.token, self.offset[answer], self.offset[stop])
        wording = self.shelf.wording
        word = wording.words(prompt, offset) if wording.encoder else None
        return TextExamples(prompt + 1, offset[1:], np.diff(offset), learned + 1, learned_offset[1:], np.diff(learned_offset), word)


@dataclass(frozen=True)
class Redrawing:
    """Titles drawn anew for each epoch; see `tongtu.nn.batch.DrawnAnew`.

    Attributes:
        lines: The histories.
        per_user: See `Lines.drawn`; None for rows of all titles.
        rows: See `Lines`.
    """

    lines: Lines
    per_user: int | None
    rows: int | None

    def epoch(self, seed: int, number: int) -> TextExamples:
        """The examples of one epoch, counted from 0, of a run with this seed."""
        mixed = int.from_bytes(hashlib.blake2b(repr((seed, number)).encode(), digest_size=7).digest(), "little")
        return self.lines.whole(self.rows, mixed) if self.per_user is None else self.lines.drawn(self.per_user, mixed, self.rows)


def _some(n: int, rows: int | None, seed: int) -> Offsets:
    """Places of so many of n things, all of them where there are no more."""
    if rows is None or rows >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, rows, replace=False))


def _slices(token: Tokens, start: Offsets, stop: Offsets) -> tuple[Tokens, Offsets]:
    """Slices of `token` one behind the other, and int64[R + 1], where each begins."""
    length = stop - start
    offset = np.concatenate([np.zeros(1, np.int64), np.cumsum(length)])
    place = np.arange(offset[-1]) + np.repeat(start - offset[:-1], length)
    found: Tokens = token[place]
    return found, offset
