"""Putting users, histories and items into the templates of P5, alike in training and in questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import numpy as np

from tongtu.core import PAD, Codes
from tongtu.semantic.indexing import ItemIndex
from tongtu.systems.tuned._p5_templates import SOMEONE, SOMEONE_WITH, USER, Template

_NOTHING: Mapping[str, str] = {}


class Asked(Protocol):
    """A template that waits for what stands in it."""

    def __call__(
        self, user: int, history: Sequence[str], item: str = ..., choices: Sequence[str] = ..., told: Mapping[str, str] = ...
    ) -> str: ...


@dataclass(frozen=True)
class Writing:
    """How items, histories and users are written.

    Attributes:
        index: How each item is.
        separators: What may stand between items.
        history: The newest items that are told.
    """

    index: ItemIndex
    separators: tuple[str, ...]
    history: int

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """How each item code is written; `PAD` as nothing."""
        return ("", *self.index.texts)

    def drawn(self, rng: np.random.Generator, templates: Sequence[Template], n: int) -> list[Asked]:
        """A template and a separator for each of `n` prompts."""
        which, between = rng.integers(0, len(templates), n).tolist(), rng.integers(0, len(self.separators), n).tolist()
        ready = [[partial(self.prompt, one, separator) for separator in self.separators] for one in templates]
        return [ready[one][separator] for one, separator in zip(which, between, strict=True)]

    def question(self, template: Template) -> Asked:
        """A template with the separator of questions."""
        return partial(self.prompt, template, self.separators[0])

    def prompt(
        self,
        template: Template,
        separator: str,
        user: int,
        history: Sequence[str],
        item: str = "",
        choices: Sequence[str] = (),
        told: Mapping[str, str] = _NOTHING,
    ) -> str:
        """The text of a prompt.

        Args:
            template: The words.
            separator: Between items.
            user: The user's code, or 0 where the prompt is not to tell it.
            history: Items as they are written, oldest first.
            item: The item that is asked about.
            choices: Items to choose from.
            told: Whatever else the template names.
        """
        before, among = separator.join(history[-self.history :]), separator.join(choices)
        who = USER.format(user) if user else SOMEONE_WITH.format(history=before) if before and "{history}" not in template.text else SOMEONE
        return template.text.format(who=who, history=before, item=item, choices=among, **told)

    def written(self, codes: Codes) -> list[str]:
        """Items as they are written; unknown ones are left out."""
        return [self.texts[code] for code in codes[codes != PAD].tolist()]

    def short(self, text: str, words: int) -> str:
        """The first so many words of a text."""
        return " ".join(text.split()[:words])

    def stars(self, value: float) -> str:
        """A rating as an answer: always with one decimal, so that 5 is "5.0"."""
        return f"{value:.1f}"
