"""What is answered over HTTP, for the OpenAPI description; answers are built as plain values, and the tests hold them against these."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Cause(BaseModel):
    """An event that speaks for an item."""

    id: str
    title: str | None = None
    weight: float = Field(description="How far the item's score falls without it.")


class ItemOut(BaseModel):
    """An item of the catalogue."""

    id: str
    title: str | None = None
    text: str | None = None
    fields: dict[str, Any] = Field(default_factory=dict)


class RecommendedItem(ItemOut):
    """An item with its place; a long text is cut, GET /v1/items/{id} has it whole."""

    score: float
    rank: int
    because: list[Cause] | None = None


class RecommendAnswer(BaseModel):
    """Items, best first, and who answered."""

    items: list[RecommendedItem]
    model: str
    version: str
    request_id: str
    took_ms: float
    history_length: int
    unknown: list[str] = Field(description="Ids of the history and the candidates that the model does not know.")
    notes: dict[str, Any]
    degraded: str | None = Field(None, description="Why the answer is poorer than it could be, if it is.")


class BatchAnswer(BaseModel):
    """One answer a question."""

    answers: list[RecommendAnswer]


class CompareAnswer(BatchAnswer):
    """One answer a model, and how far they agree."""

    overlap: list[list[float]] = Field(description="Jaccard index of every pair's items.")


class ItemPage(BaseModel):
    """Items in the order of their ids."""

    items: list[ItemOut]
    next: str | None = Field(description="Cursor of the next page.")


class SimilarAnswer(BaseModel):
    """Items like one."""

    items: list[RecommendedItem]
    model: str
    version: str
    request_id: str


class StoredItem(BaseModel):
    """What became of an item."""

    id: str
    recommendable: list[str] = Field(description="Models that can recommend it from now on.")


class UserSummary(BaseModel):
    """A user in a list."""

    id: str
    attributes: dict[str, str]


class UserPage(BaseModel):
    """Users in the order of their ids."""

    users: list[UserSummary]
    next: str | None


class SeenOut(BaseModel):
    """An event of a history."""

    item: str
    title: str | None = None
    time: int | None = None
    rating: float | None = None


class UserOut(UserSummary):
    """A user and what they met, the newest last."""

    history: list[SeenOut]
    events: int = Field(description="How many events of theirs there are.")


class Deleted(BaseModel):
    """What was forgotten."""

    id: str
    events: int


class Accepted(BaseModel):
    """Events that are on disk, and those that were before."""

    accepted: int
    duplicates: int


class ReasonOut(BaseModel):
    """Why an item is recommended."""

    item: str
    title: str | None = None
    because: list[Cause]
    text: str | None = None


class ExplainAnswer(BaseModel):
    """One reason an item."""

    reasons: list[ReasonOut]
    model: str
    version: str
    request_id: str


class RerankResult(BaseModel):
    """A document's place."""

    index: int
    relevance_score: float = Field(description="The model's score, stretched from 0 to 1 over these documents.")
    document: dict[str, Any] | None = None


class RerankAnswer(BaseModel):
    """Documents, best first."""

    id: str
    model: str
    results: list[RerankResult]
    usage: dict[str, int]


class ModelOut(BaseModel):
    """A model that is served."""

    name: str
    version: str
    previous: str | None = Field(None, description="Version that a roll-back returns to.")
    system: str
    items: int
    can: list[str]
    language_model: bool
    path: str = Field(description="Name of its folder.")
    loaded_at: float | None = None
    share: float = Field(description="Of those who ask for no model by name.")
    shadow: float | None = Field(description="Of the users for whom it is asked beside, if it is a shadow.")


class ModelList(BaseModel):
    """The models that are served."""

    models: list[ModelOut]


class TrafficOut(BaseModel):
    """Who answers whoever asks for no model by name."""

    split: dict[str, float]
    shadow: dict[str, Any] | None = None


class Health(BaseModel):
    """How the service is."""

    status: str
    reasons: list[str] = Field(default_factory=list)


class ProblemOut(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    limit: dict[str, Any] | None = Field(None, description="The limit that was passed: its name and value.")
