"""Conversations that go on: kept in memory, each for whoever began it, and forgotten after a while."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_SECONDS = 1800.0
_MOST = 1000


@dataclass(eq=False)
class Session:
    """One conversation.

    Attributes:
        id: What the client names it by.
        owner: Name of the key that began it.
        version: The model that talks; another one after a swap has nothing of what this one kept.
        state: What the model keeps from turn to turn.
        turn: Held during a turn, so that two at once follow each other.
    """

    id: str
    owner: str
    version: str = ""
    state: dict[str, Any] | None = None
    touched: float = 0.0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Sessions:
    """The conversations of the last half hour, a thousand at most."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.kept: OrderedDict[str, Session] = OrderedDict()

    def of(self, id: str | None, owner: str) -> Session | None:
        """A conversation that goes on, or a new one; None if there is none of that id for this owner."""
        now = self.clock()
        while self.kept and next(iter(self.kept.values())).touched < now - _SECONDS:
            self.kept.popitem(last=False)
        if id is None:
            session = Session(secrets.token_urlsafe(18), owner)
            self.kept[session.id] = session
        else:
            found = self.kept.get(id)
            if found is None or found.owner != owner:
                return None
            session = found
        session.touched = now
        self.kept.move_to_end(session.id)
        if len(self.kept) > _MOST:
            self.kept.popitem(last=False)
        return session
