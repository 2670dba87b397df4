"""What language models have cost, and a stop before they cost too much."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from tongtu.config import configuration
from tongtu.errors import BudgetError

_MILLION = 1e6


@configuration
class Price:
    """Of a million tokens, in any currency.

    Attributes:
        read, written: Prompt tokens and completion tokens.
    """

    read: Annotated[float, Field(ge=0)] = 0.0
    written: Annotated[float, Field(ge=0)] = 0.0


@configuration
class Budget:
    """The most that may be spent; None is no limit.

    Attributes:
        tokens: Read and written together.
        price: In the currency of the price.
    """

    tokens: Annotated[int, Field(ge=0)] | None = None
    price: Annotated[float, Field(ge=0)] | None = None


@dataclass
class Ledger:
    """Counts calls, tokens, seconds and money of one run; several threads may write.

    Attributes:
        per_million: What tokens cost.
        budget: What may be spent.
        calls: Prompts that the model was asked.
        cached: Prompts that the cache answered, which cost nothing.
        read, written: Tokens.
        seconds: Spent waiting for the model.
    """

    per_million: Price = field(default_factory=Price)
    budget: Budget = field(default_factory=Budget)
    calls: int = 0
    cached: int = 0
    read: int = 0
    written: int = 0
    seconds: float = 0.0
    _promised: tuple[int, int] = field(default=(0, 0), repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def tokens(self) -> int:
        """Read and written."""
        return self.read + self.written

    @property
    def price(self) -> float:
        """What the tokens cost."""
        return self._price(self.read, self.written)

    @contextmanager
    def room(self, read: int, written: int) -> Iterator[None]:
        """Keep so many tokens free while the block asks; what other threads have under way counts as if it were spent.

        Args:
            read, written: The most tokens that the block can take; it tells by `add` what it took.

        Raises:
            BudgetError: If they may be too many.
        """
        with self._lock:
            promised = (self._promised[0] + read, self._promised[1] + written)
            self._refuse_beyond_budget(*promised)
            self._promised = promised
        try:
            yield
        finally:
            with self._lock:
                self._promised = (self._promised[0] - read, self._promised[1] - written)

    def _refuse_beyond_budget(self, read: int, written: int) -> None:
        tokens, price = self.budget.tokens, self.budget.price
        if tokens is not None and self.tokens + read + written > tokens:
            more = read + written
            raise BudgetError(f"the budget of {tokens:,} tokens would be exceeded ({self.tokens:,} spent, up to {more:,} more): raise it, or ask less")
        if price is not None and self.price + self._price(read, written) > price:
            dearer = self._price(read, written)
            raise BudgetError(f"the budget of {price:g} would be exceeded ({self.price:.4g} spent, up to {dearer:.4g} more): raise it, or ask less")

    def add(self, calls: int, read: int, written: int, seconds: float) -> None:
        """Note what was asked."""
        with self._lock:
            self.calls += calls
            self.read += read
            self.written += written
            self.seconds += seconds

    def add_cached(self, count: int) -> None:
        """Note what needed no asking."""
        with self._lock:
            self.cached += count

    def facts(self) -> dict[str, float]:
        """The counts, for results and reports."""
        return {
            "calls": self.calls,
            "cached": self.cached,
            "prompt_tokens": self.read,
            "completion_tokens": self.written,
            "seconds": self.seconds,
            "price": self.price,
        }

    def _price(self, read: int, written: int) -> float:
        return (read * self.per_million.read + written * self.per_million.written) / _MILLION
