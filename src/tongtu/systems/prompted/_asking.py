"""How prompting systems ask a language model: which one, at what price, and what becomes of a request that it does not answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from pydantic import Field

from tongtu.config import configuration
from tongtu.errors import BudgetError, LanguageModelError
from tongtu.llm.cached import CachedModel
from tongtu.llm.ledger import Budget, Ledger, Price
from tongtu.llm.model import PromptRefused
from tongtu.llm.opening import open_language_model

_GIVEN_UP = 3  # requests failing in a row: the model is gone, and waiting for each of the rest would help nobody

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@configuration
class Asking:
    """Settings of the language model.

    Attributes:
        llm: Which, see `tongtu.llm.model`.
        temperature: 0 takes the likeliest token each time.
        max_tokens: Of a written answer.
        seconds: To wait for one answer of a server.
        tries: For one prompt that a server does not answer.
        price: Of a million tokens.
        budget: The most to be spent by one fitted system; reaching it stops with an error.
        fallback: Whether a request that the model does not answer gets the order of the retriever and the note "degraded"; else it is an error.
    """

    llm: str = "smollm2"
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: Annotated[int, Field(ge=1)] = 256
    seconds: Annotated[float, Field(gt=0)] = 120.0
    tries: Annotated[int, Field(ge=1)] = 3
    price: Price = Field(default_factory=Price)
    budget: Budget = Field(default_factory=Budget)
    fallback: bool = True


def opened(asking: Asking) -> CachedModel:
    """The language model of these settings.

    Raises:
        ConfigError: If there is none of that name.
    """
    from tongtu.llm.http import Patience

    ledger = Ledger(per_million=asking.price, budget=asking.budget)
    return open_language_model(asking.llm, ledger, patience=Patience(seconds=asking.seconds, tries=asking.tries))


def answered(asks: Sequence[Asked], ask: Callable[[Sequence[Asked]], Sequence[Answer]], fallback: bool) -> list[Answer | LanguageModelError]:
    """An answer to each, or why there is none: all together, and one by one where that fails.

    Raises:
        BudgetError: If more would have to be spent than was allowed.
        LanguageModelError: If `fallback` is false and the model does not answer.
    """
    try:
        return list(ask(asks))
    except BudgetError:
        raise
    except LanguageModelError as error:
        if not fallback:
            raise
        failed = error
    found: list[Answer | LanguageModelError] = []
    in_a_row = 1 if len(asks) == 1 else 0
    for one in asks:
        if in_a_row >= _GIVEN_UP or len(asks) == 1:
            found.append(failed)
            continue
        try:
            found += ask([one])
            in_a_row = 0
        except BudgetError:
            raise
        except PromptRefused as error:
            found.append(error)
        except LanguageModelError as error:
            failed, in_a_row = error, in_a_row + 1
            found.append(error)
    return found
