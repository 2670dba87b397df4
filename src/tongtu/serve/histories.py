"""What users did, read from the store and kept in memory for a while; their own new events are heeded at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tongtu.serve.store.records import History

if TYPE_CHECKING:
    from tongtu.serve.store.asynchronous import AsyncStore


@dataclass(frozen=True)
class Known:
    """What is known of a user: their last events and their attributes, None for a user nobody knows."""

    history: History
    attributes: Mapping[str, str] | None


class Histories:
    """Users' histories and attributes, the last used kept.

    Args:
        store: Where they are kept.
        last: Events a user.
        size, seconds: How many users are kept, and for how long: another process may write to the same store.
        clock: The time in seconds.
    """

    def __init__(self, store: AsyncStore, last: int, size: int, seconds: float, clock: Callable[[], float]) -> None:
        self.store, self.last, self.size, self.seconds, self.clock = store, last, size, seconds, clock
        self.kept: OrderedDict[str, tuple[Known, float]] = OrderedDict()
        self.reading: dict[str, object] = {}

    async def of(self, user: str) -> Known:
        """A user's last events and attributes."""
        entry = self.kept.get(user)
        if entry is not None and entry[1] > self.clock():
            self.kept.move_to_end(user)
            return entry[0]
        mark = self.reading[user] = object()
        try:
            known = await self.store.call(self._read, user)
            # What was written meanwhile may be missing in what was read, so that is used once and not kept.
            if self.reading.get(user) is mark and self.size and self.seconds:
                self.kept[user] = (known, self.clock() + self.seconds)
                self.kept.move_to_end(user)
                if len(self.kept) > self.size:
                    self.kept.popitem(last=False)
        finally:
            if self.reading.get(user) is mark:
                del self.reading[user]
        return known

    def _read(self, user: str) -> Known:
        return Known(self.store.sync.history(user, self.last), self.store.sync.user(user))

    def changed(self, users: Iterable[str]) -> None:
        """Something was written about these users: read them anew."""
        for user in users:
            self.kept.pop(user, None)
            self.reading.pop(user, None)
