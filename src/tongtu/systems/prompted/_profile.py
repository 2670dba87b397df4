"""What a prompt tells of a user: one paragraph of facts, the history, and the wish."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tongtu.core import Request
from tongtu.llm.wording import LONGEST_WISH, labelled, numbered, quoted
from tongtu.systems.prompted._chat_templates import PROFILE
from tongtu.systems.prompted._templates import Words


def profile(request: Request, history: Sequence[tuple[str, float | None]], words: Words, names: Sequence[str] = ()) -> str:
    """The profile, the history and the wish of a request, in the first person; each text of others stands quoted on one line.

    Args:
        request: Attributes, less those to be forgotten, and the wish.
        history: Titles, oldest first, with ratings where they are known.
        words: How the things are called.
        names: Labels of the history; numbers stand there without.
    """
    told = dataclasses.asdict(words)
    facts = [f"{quoted(name)} is {quoted(value)}" for name, value in sorted(request.attributes.items()) if name not in request.forget]
    parts = [PROFILE["known"].format(facts="; ".join(facts)) if facts else PROFILE["unknown"]]
    if history:
        titles = [title for title, _ in history]
        lines = (labelled(titles, names) if names else numbered(titles)).splitlines()
        rated = [line if rating is None else f"{line} which I rated {rating:g}" for line, (_, rating) in zip(lines, history, strict=True)]
        parts.append(PROFILE["history"].format(history="\n".join(rated), **told))
    else:
        parts.append(PROFILE["none"].format(**told))
    if request.wish:
        parts.append(PROFILE["wish"].format(wish=quoted(request.wish, LONGEST_WISH)))
    return "\n\n".join(parts)
