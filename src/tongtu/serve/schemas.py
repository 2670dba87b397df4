"""What may be asked over HTTP, field by field. Ids are text, taken and given back as written."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# PostgreSQL's text and many C libraries end at NUL.
_NO_NUL = r"^[^\x00]*$"
MOST = 1000
"""The largest k, history and batch of events; settings may lower k and history."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=_NO_NUL)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_NO_NUL)]
Short = Annotated[str, StringConstraints(max_length=1024, pattern=_NO_NUL)]
Text = Annotated[str, StringConstraints(max_length=20_000, pattern=_NO_NUL)]
Words = Annotated[str, StringConstraints(min_length=1, max_length=4_000, pattern=_NO_NUL)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Time = Annotated[int, Field(ge=0, le=253_402_300_799, strict=True)]
Rating = Annotated[float, Field(ge=-1_000_000, le=1_000_000, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=-(2**53), le=2**53, strict=True)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Value = Annotated[bool, Field(strict=True)] | Whole | Number | Short | None | Annotated[list[Short], Field(max_length=100)]
Fields = Annotated[dict[Name, Value], Field(max_length=100)]
Attributes = Annotated[dict[Name, Short], Field(max_length=100)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Body(BaseModel):
    """A body: nothing that is not named here."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Seen(Body):
    """One event of a history."""

    item: Id
    time: Time | None = Field(None, description="Seconds since 1970.")
    rating: Rating | None = None


History = Annotated[list[Id | Seen], Field(max_length=MOST, description="Items met so far, oldest first: ids, or objects with time and rating.")]
Filters = Annotated[dict[Name, Annotated[list[Short], Field(min_length=1, max_length=100)]], Field(max_length=20)]


class RecommendRequest(Body):
    """One question: for a user, for a history that is given, or for nobody in particular."""

    user: Id | None = Field(None, description="Their stored history and attributes are used; one the service never saw is ordinary.")
    history: History = Field(default_factory=list)
    attributes: Attributes = Field(default_factory=dict, description="What is known of the user, over what is stored.")
    forget: Annotated[list[Name], Field(max_length=100)] = Field(default_factory=list, description="Attributes the answer must not depend on.")
    wish: Words | None = Field(None, description="What the user asks for, in their own words.")
    candidates: Annotated[list[Id], Field(max_length=10_000)] | None = Field(None, description="Answer with these items only.")
    exclude: Annotated[list[Id], Field(max_length=10_000)] = Field(default_factory=list, description="Never answer with these items.")
    exclude_seen: bool = Field(True, description="Leave out items of the history.")
    filters: Filters = Field(default_factory=dict, description="Item fields and the values allowed, say {'genres': ['Comedy']}.")
    diversity: Share = Field(0.0, description="From 0, the model's order, to 1, items as unlike each other as can be.")
    k: Annotated[int, Field(ge=1, le=MOST, strict=True)] = 10
    model: ModelName | None = Field(None, description="Which model; by default the one traffic is sent to.")
    explain: bool = Field(False, description="Whether to say which events of the history speak for each item (the first ten).")

    model_config = ConfigDict(json_schema_extra={"examples": [{"user": "196", "k": 5}, {"history": ["50", "181", "174"], "k": 5}]})


class RecommendBatch(Body):
    """Several questions at once."""

    requests: Annotated[list[RecommendRequest], Field(min_length=1, max_length=100)]

    model_config = ConfigDict(json_schema_extra={"examples": [{"requests": [{"user": "196"}, {"history": ["50"]}]}]})


class CompareRequest(RecommendRequest):
    """One question to several models."""

    models: Annotated[list[ModelName], Field(min_length=1, max_length=8)]

    model_config = ConfigDict(json_schema_extra={"examples": [{"history": ["50", "181"], "models": ["ease", "popular"]}]})


class ExplainRequest(Body):
    """Items to give reasons for."""

    user: Id | None = None
    history: History = Field(default_factory=list)
    attributes: Attributes = Field(default_factory=dict)
    items: Annotated[list[Id], Field(min_length=1, max_length=10)]
    model: ModelName | None = None

    model_config = ConfigDict(json_schema_extra={"examples": [{"history": ["50", "181"], "items": ["174"]}]})


class ItemBody(Body):
    """What an item is."""

    text: Text
    title: Short | None = None
    fields: Fields = Field(default_factory=dict)

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "Toy Story (1995), animation, comedy", "title": "Toy Story", "fields": {"year": 1995}}]})


class UserBody(Body):
    """What is known of a user."""

    attributes: Attributes

    model_config = ConfigDict(json_schema_extra={"examples": [{"attributes": {"gender": "F", "age": "24"}}]})


class EventBody(Body):
    """A user met an item."""

    user: Id
    item: Id
    time: Time | None = Field(None, description="Seconds since 1970; now, if left out.")
    key: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_NO_NUL)] | None = Field(
        None, description="Idempotency key: an event whose key is there already changes nothing."
    )
    rating: Rating | None = None
    fields: Fields = Field(default_factory=dict)

    model_config = ConfigDict(json_schema_extra={"examples": [{"user": "196", "item": "50", "key": "click-81723"}]})


class EventBatch(Body):
    """Events, all taken or none."""

    events: Annotated[list[EventBody], Field(min_length=1, max_length=MOST)]

    model_config = ConfigDict(json_schema_extra={"examples": [{"events": [{"user": "196", "item": "50"}, {"user": "196", "item": "181"}]}]})


class ChatRequest(Body):
    """One turn of a conversation."""

    session: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(None, description="From the `done` of an earlier turn.")
    text: Words
    user: Id | None = None
    history: History = Field(default_factory=list)
    model: ModelName | None = None

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "something light for a rainy evening", "history": ["50"]}]})


class Document(Body):
    """A document to rank."""

    id: Id | None = None
    text: Text


class RerankRequest(Body):
    """Documents in the order of a model; the shape of Cohere's and Jina's endpoints."""

    model: ModelName | None = None
    query: Annotated[str, StringConstraints(max_length=4_000, pattern=_NO_NUL)]
    documents: Annotated[list[Text | Document], Field(min_length=1, max_length=MOST)]
    top_n: Annotated[int, Field(ge=1, le=MOST, strict=True)] | None = None
    return_documents: bool = False
    user: Id | None = None
    history: History = Field(default_factory=list)

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "a space opera", "documents": ["50", {"id": "181", "text": "Return of the Jedi"}]}]})


class InstallBody(Body):
    """A model folder to serve."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=_NO_NUL)] = Field(
        description="Below one of the folders that models may come from."
    )

    model_config = ConfigDict(json_schema_extra={"examples": [{"path": "ease-tuesday"}]})


class Shadow(Body):
    """A model that is asked too, without its answer being given."""

    model: ModelName
    share: Share = Field(description="Of the questions.")


class TrafficBody(Body):
    """Who answers whoever asks for no model by name."""

    split: Annotated[dict[ModelName, Share], Field(min_length=1, max_length=20)] = Field(description="Shares that sum to 1; a user keeps the model they got.")
    shadow: Shadow | None = None
    salt: Annotated[str, StringConstraints(max_length=128, pattern=_NO_NUL)] | None = Field(None, description="Another salt deals the users anew.")

    model_config = ConfigDict(json_schema_extra={"examples": [{"split": {"ease": 0.9, "sasrec": 0.1}}]})


JsonObject = dict[str, Any]
