"""Conversations around any fitted recommender: Chat-REC turn by turn.

Paper: Gao et al., "Chat-REC: Towards Interactive and Explainable LLMs-Augmented Recommender System" (2023, arXiv 2303.14524).

A turn runs through the gate (is the recommender needed?), the recommender as a tool (query and filters), the choice of the language
model among labelled candidates with reasons, and the reply. How ours differs: titles and ids in a reply are injected by us, and a
sentence that names something nobody proposed is dropped; conditions act as filters on item texts besides standing in the prompt; a plain
"why ...?" behind a list needs no gate; a model that is dead or slow, or writes what cannot be read, leaves the recommender's order,
marked "degraded".
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field

from tongtu.config import configuration
from tongtu.core import PAD, Recommender, Request
from tongtu.errors import DataError
from tongtu.files import write_json
from tongtu.llm.cached import CachedModel
from tongtu.llm.model import Completion, ask
from tongtu.llm.wording import labelled, labels, quoted
from tongtu.systems.prompted import _memory
from tongtu.systems.prompted._asking import Asking, opened
from tongtu.systems.prompted._chat_templates import ABOUT, CHOOSE, EXPLAIN, OUTSIDE, RERANK, RULES, SUMMARISE, TALK
from tongtu.systems.prompted._dialogue import DialogueState, asked_for, excluded_words
from tongtu.systems.prompted._gate import Decision, Route, asks_why, decide
from tongtu.systems.prompted._profile import profile
from tongtu.systems.prompted._replies import Proposed, Reply, chosen, grounded, listed, mentioned, reasoned, search_again, whole_sentences
from tongtu.systems.prompted._search import Candidate, Query, Search, catalogue_of, described, query_words
from tongtu.systems.prompted._speaking import Speaker
from tongtu.systems.prompted._templates import Words
from tongtu.text.encoder import open_encoder

_OTHERS = re.compile(r"\b(?:more|others?|else|another|different)\b|别的|其他|还有", re.IGNORECASE)
_LONGEST_TURN = 1_000
_UNCHECKED = "Not from the catalogue, and not checked: "
_SILENT = "The language model gives no answer to that. Ask for {things}, and the recommender answers."
_OWN_ORDER = "The language model chose none of these; they stand in the recommender's order."


@configuration
class ConversationConfig(Asking):
    """Settings of a conversation: those of `Asking`, and these.

    Attributes:
        top: Items of a reply.
        candidates: How many the model chooses from.
        choice: The model writes a "list" of labels and reasons; or the "likelihood" of each candidate's text decides, for small models in process.
        lookups: How often the recommender may be asked in one turn.
        max_history: The newest events told.
        dialogue_tokens: The most tokens that the conversation so far may take in a prompt.
        tools: Whether the gate is a function call where the model offers them.
        encoder: Makes vectors of new items, see `tongtu.text.encoder`.
        words: How the things are called.
    """

    top: Annotated[int, Field(ge=1, le=50)] = 5
    candidates: Annotated[int, Field(ge=1, le=200)] = 20
    choice: Literal["list", "likelihood"] = "list"
    lookups: Annotated[int, Field(ge=1, le=10)] = 3
    max_history: Annotated[int, Field(ge=1)] = 20
    dialogue_tokens: Annotated[int, Field(ge=200)] = 1_500
    tools: bool = True
    encoder: str = "hashing"
    words: Words = Field(default_factory=Words)


class Conversation:
    """One user's conversation with a recommender and a language model.

    Args:
        recommender: Any fitted one; behind a Chat-REC, the recommender that proposes its candidates.
        model: The language model; None opens the one that `config.llm` names.
        user: Who speaks: history, ratings, attributes, what to forget, candidates.
        config: Settings.
        catalogue: Titles and texts of items, columns "id", "text" and perhaps "title", instead of those the recommender has.
    """

    def __init__(
        self,
        recommender: Recommender,
        model: CachedModel | None = None,
        user: Request = Request(),  # noqa: B008 (frozen)
        config: ConversationConfig | None = None,
        catalogue: pl.DataFrame | None = None,
    ) -> None:
        self.config = config or ConversationConfig()
        self.user, self._given = user, model
        behind, titles, texts = catalogue_of(recommender, catalogue)
        self.search = Search(behind, titles, texts, open_encoder(self.config.encoder))
        self.state = DialogueState(self.config.dialogue_tokens)
        self.shown: list[Candidate] = []
        self.proposed: list[str] = []
        self.query = ""

    @cached_property
    def model(self) -> CachedModel:
        """The language model, opened when it is asked first."""
        return self._given or opened(self.config)

    def turn(self, text: str, route: Route | None = None) -> Reply:
        """Answer what the user says.

        Args:
            text: In their own words.
            route: What is needed, where the user says so themselves; None lets the gate decide.

        Raises:
            BudgetError: If more would have to be spent than was allowed.
            LanguageModelError: If the model fails and `config.fallback` is false.
        """
        text = text[:_LONGEST_TURN]
        self.state.constrain(text)
        speaker = Speaker(self.model, self.config)
        decision = self._decided(text, speaker) if route is None else Decision(route)
        if decision.route == "recommend":
            reply = self._recommended(text, decision, speaker)
        elif decision.route == "explain":
            reply = self._explained(text, speaker)
        else:
            reply = self._outside(text, speaker)
        said = "; ".join(item.title for item in reply.items) if reply.used_recommender else reply.text
        self.state.add(text, said, lambda talk: self._summary(speaker, talk))
        failed = {"degraded": speaker.failed or "what it answers cannot be used"} if reply.degraded else {}
        return dataclasses.replace(reply, notes={**reply.notes, **speaker.notes, **failed})

    def add_items(self, items: pl.DataFrame) -> None:
        """Items that are newer than the recommender: found by their texts from now on.

        Args:
            items: Columns "id" and "text", and "title" where texts do not begin with one; further ones do not matter.

        Raises:
            DataError: If a column is missing, or an id is missing, stands twice or is in the catalogue already.
        """
        self.search.add(items)

    def history(self) -> list[Candidate]:
        """The items of the user's history that the catalogue has, oldest first."""
        return [self.search.candidate(int(code)) for code in self.user.history if code != PAD]

    def begin(self, user: Request) -> None:
        """Forget all that was said, and talk with this user."""
        self.user, self.state = user, DialogueState(self.config.dialogue_tokens)
        self.shown, self.proposed, self.query = [], [], ""

    def to_json(self) -> dict[str, Any]:
        """The user, the state of the conversation and the new items as plain values; the recommender and the language model are not in it."""
        return _memory.to_json(self)

    def from_json(self, value: Mapping[str, Any]) -> None:
        """Go on with what `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: If it is no conversation, or of a newer format.
        """
        _memory.from_json(self, value)

    def save(self, path: Path) -> None:
        """Write what `to_json` gives as a file."""
        write_json(path, self.to_json())

    def restore(self, path: Path) -> Self:
        """Go on with a conversation that was saved; returns itself.

        Raises:
            DataError: If the file is missing or holds no conversation.
        """
        try:
            self.from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise DataError(f"no file {path}: check the path") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(f"{path} holds no conversation that this version of Tongtu can go on with: begin a new one") from None
        return self

    def _told(self) -> Mapping[str, str]:
        return dataclasses.asdict(self.config.words)

    def _history_titles(self) -> dict[str, str]:
        """Titles of the newest events by the label they have in prompts."""
        titles = [item.title for item in self.history()[-self.config.max_history :]]
        return {f"H{number}": title for number, title in enumerate(titles, start=1)}

    def _say(self, speaker: Speaker, text: str, part: str, shown: bool = True, **more: Any) -> Completion | None:
        """Ask the model with everything that is known, and `part` at the end."""
        return speaker(ask("\n\n".join([*self._context(text, shown), part]), RULES.format(**self._told())), **more)

    def _context(self, text: str, shown: bool) -> list[str]:
        """What every prompt of a turn begins with; what was proposed last only where no other items stand behind it, whose labels would be the same."""
        rows = np.flatnonzero(self.user.history != PAD)[-self.config.max_history :]
        ratings = [None] * len(rows) if self.user.ratings is None else [None if np.isnan(r) else float(r) for r in self.user.ratings[rows]]
        titles = self._history_titles()
        parts = [profile(self.user, list(zip(titles.values(), ratings, strict=True)), self.config.words, list(titles)), self.state.told()]
        if self.shown and shown:
            parts.append(TALK["shown"].format(shown=labelled([described(one) for one in self.shown], labels(len(self.shown)), longest=200)))
        return [*(part for part in parts if part), TALK["now"].format(turn=quoted(text, longest=_LONGEST_TURN))]

    def _decided(self, text: str, speaker: Speaker) -> Decision:
        if self.shown and asks_why(text):
            return Decision("explain")
        known = bool(self.shown or len(self.user.history))
        tools = self.config.tools and self.model.calls_tools
        return decide(lambda part, **more: self._say(speaker, text, part, **more), self.config.words, tools, known)

    def _recommended(self, text: str, decision: Decision, speaker: Speaker) -> Reply:
        ruled_out = excluded_words(self.state.constraints)
        wanted = query_words(asked_for(text)) or query_words(self.query)
        self.query = " ".join(word for word in wanted if word not in ruled_out) if decision.query is None else decision.query
        skip = frozenset(self.proposed) if _OTHERS.search(text) else frozenset()
        query = Query(self.query, self.config.candidates, decision.include, (*ruled_out, *decision.exclude), skip)
        top = decision.n or self.config.top
        lookups = 0
        while lookups < self.config.lookups:
            lookups += 1
            found = self.search(self.user, query) or self.search(self.user, dataclasses.replace(query, include=()))
            if self.config.choice == "likelihood":
                picks = dict.fromkeys(self._likeliest(found, text, speaker)[:top], "")
                break
            answer = self._choice(found, min(top, len(found)), text, speaker)
            picks, other = chosen(answer, labels(len(found))), search_again(answer)
            if picks or other is None:
                break
            query = dataclasses.replace(query, text=other, include=())
        items = self._proposals(found, picks, top)
        self.shown = [found[place] for place in self._places(found, picks, top)]
        self.proposed += [item.id for item in items if item.id not in self.proposed]
        degraded = bool(found) and not picks
        said = listed(items) if items else f"Nothing that is left in the catalogue fits; conditions so far: {'; '.join(self.state.constraints) or 'none'}."
        notes = {"lookups": lookups, "query": query.text, "ruled out": self.search.excluded(query.exclude), "chosen": len(picks)}
        return Reply(f"{_OWN_ORDER}\n{said}" if degraded else said, items, used_recommender=True, degraded=degraded, notes=notes)

    def _choice(self, found: list[Candidate], top: int, text: str, speaker: Speaker) -> str:
        """What the model writes about the candidates; "" where there is nothing to choose, or it fails."""
        if not found:
            return ""
        names = labels(len(found))
        shelf = labelled([described(one) for one in found], names, longest=200)
        words = {"n": len(found), "top": top, "first": names[0], "second": names[-1], "candidates": shelf}
        answer = self._say(speaker, text, RERANK.format(**words, **self._told()), shown=False)
        return "" if answer is None else answer.text

    def _likeliest(self, found: list[Candidate], text: str, speaker: Speaker) -> list[int]:
        """Candidates by how much likelier the user and the turn make their texts."""
        question = CHOOSE["likelihood"].format(**self._told())
        context = self._context(text, shown=False)
        return speaker.likeliest(ask("\n\n".join([*context, question])), ask(question), [described(one) for one in found]) if found else []

    def _places(self, found: list[Candidate], picks: Mapping[int, str], top: int) -> list[int]:
        """The model's choice, filled up in the order of the search."""
        return [*picks, *(place for place in range(len(found)) if place not in picks)][:top]

    def _proposals(self, found: list[Candidate], picks: Mapping[int, str], top: int) -> tuple[Proposed, ...]:
        history, names = self._history_titles(), labels(len(found))
        proposed = []
        for place in self._places(found, picks, top):
            one = found[place]
            reason = reasoned(picks.get(place, ""), history | {names[place]: one.title}, one.why, described(one))
            proposed.append(Proposed(one.id, one.title, reason, one.new))
        return tuple(proposed)

    def _explained(self, text: str, speaker: Speaker) -> Reply:
        names = labels(len(self.shown))
        place = mentioned(text, [one.title for one in self.shown], [one.id for one in self.shown])
        about = "" if place is None else ABOUT.format(name=names[place])
        answer = self._say(speaker, text, EXPLAIN.format(about=about, **self._told()))
        titles = self._history_titles() | dict(zip(names, (one.title for one in self.shown), strict=True))
        said, dropped = grounded(whole_sentences(answer), titles, [described(one) for one in self.shown])
        meant = self.shown if place is None else [self.shown[place]]
        newest = [f'"{title}"' for title in list(self._history_titles().values())[-3:]]
        behind = f" Your newest: {', '.join(newest)}." if newest else ""
        own = "; ".join(f'"{one.title}" {one.why or "was proposed by the recommender"}' for one in meant) or "Nothing was proposed yet"
        items = tuple(Proposed(one.id, one.title, one.why, one.new) for one in meant)
        return Reply(f"{said} ({own}.{behind})" if said else f"{own}.{behind}", items, degraded=not said, notes={"sentences dropped": dropped})

    def _outside(self, text: str, speaker: Speaker) -> Reply:
        answer = self._say(speaker, text, OUTSIDE.format(**self._told()), shown=False)
        said = whole_sentences(answer)
        return Reply(_UNCHECKED + said if said else _SILENT.format(**self._told()), degraded=not said, outside=True)

    def _summary(self, speaker: Speaker, talk: str) -> str | None:
        answer = speaker(ask(SUMMARISE.format(talk=talk)), max_tokens=max(self.config.dialogue_tokens // 8, 32))
        return None if answer is None else answer.text
