"""Prompts of LLMRank, in parts that change independently. `VERSION` goes up with every change of a word: figures of different versions are not comparable."""

from __future__ import annotations

from tongtu.config import configuration

VERSION = 1


@configuration
class Words:
    """How the things are called that the data is about: "film", "films", "watch", "watched".

    Attributes:
        thing, things: One of them, and many.
        act, acted: What people do with them, and have done.
    """

    thing: str = "item"
    things: str = "items"
    act: str = "choose"
    acted: str = "chosen"


HISTORY = {
    "sequential": "I have {acted} these {things}, in this order, the newest last:\n{history}",
    "recency": (
        "I have {acted} these {things}, in this order, the newest last:\n{history}\n"
        "The newest of them is {last}, and it tells most about what I want now."
    ),
    "in-context": (
        "I have {acted} these {things}, in this order, the newest last:\n{earlier}\n"
        "The right recommendation would then have been {last}, which I have {acted} since."
    ),
    "none": "You do not know which {things} I have {acted} so far.",
}
CANDIDATES = "These {n} {things} are left to choose from:\n{candidates}"
ANSWER = {
    "likelihood": "Which {thing} will I {act} next? Answer with its title alone.",
    "list": (
        "Rank all {n} by how likely I am to {act} each of them next. Answer with their labels alone, one a line, the likeliest first, as in:\n"
        "[{second}]\n[{first}]\nUse each label once and nothing else."
    ),
    "json": (
        "Rank all {n} by how likely I am to {act} each of them next. Answer with JSON and nothing else: their labels, each once, the likeliest first, as in:\n"
        '{{"ranking": ["{second}", "{first}"]}}'
    ),
}
AGAIN = "That is no ranking of the labels. Answer again: the labels alone, one a line, the likeliest first, each once."
