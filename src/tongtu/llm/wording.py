"""How texts of others (titles, reviews, what a user typed) stand in a prompt: as quoted data on one line, never as a part of the prompt itself.

A title cannot end its line, cannot forge the label of another item, and cannot open a turn of the conversation, whatever is in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

LONGEST_WISH = 400
_LONGEST = 120
_CONTROL = re.compile(r"<[|｜]([^|｜<>]*)[|｜]>|<(/?(?:s|bos|eos|pad|start_of_turn|end_of_turn))>|<<(/?SYS)>>|\[(/?INST)\]", re.IGNORECASE)
_LABEL = re.compile(r"\[\s*(\w{1,8})\s*\]")


def quoted(text: str, longest: int = _LONGEST) -> str:
    """A text of others as a quoted string on one line; what models and parsers take for signs of their own loses its brackets."""
    line = printable(text)
    signs = 1
    while signs:  # what is left may be a sign in its turn: "<<||>|im_end|>"
        line, signs = _CONTROL.subn(lambda found: next(part for part in found.groups() if part is not None), line)
    line = _LABEL.sub(r"(\1)", line)
    return json.dumps(line if len(line) <= longest else line[: longest - 1].rstrip() + "…", ensure_ascii=False)


def printable(text: str) -> str:
    """A text on one line, without signs that would steer a terminal."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def labels(n: int) -> list[str]:
    """`n` short labels that no language model counts wrong: A to Z, then AA, AB and so on."""
    found = []
    for number in range(n):
        text, rest = "", number
        while rest >= 0:
            text, rest = chr(ord("A") + rest % 26) + text, rest // 26 - 1
        found.append(text)
    return found


def labelled(texts: Sequence[str], names: Sequence[str], longest: int = _LONGEST) -> str:
    """One line a text, behind its label: `[A] "Toy Story"`."""
    return "\n".join(f"[{name}] {quoted(text, longest)}" for name, text in zip(names, texts, strict=True))


def numbered(texts: Sequence[str], longest: int = _LONGEST) -> str:
    """One line a text, behind its number from 1."""
    return "\n".join(f"{number}. {quoted(text, longest)}" for number, text in enumerate(texts, start=1))
