"""`tongtu chat`: talk with a saved model through a language model."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tongtu.core import Recommender, Request
    from tongtu.systems.prompted._replies import Reply
    from tongtu.systems.prompted.conversation import Conversation

_NEWEST = 20  # of the history that are listed

_HELP = """Say what you look for, what you do not want, or ask why something was proposed.
/why [NUMBER]  why the item of that number was proposed, or all of the last list
/ask QUESTION  about something else than the catalogue, answered by the language model alone
/history       what you have met so far, the newest last
/conditions    the conditions that you have set; /forget drops them
/help, /quit"""

Ids = Annotated[str, typer.Option(metavar="ID,ID", help="Item ids, oldest first; empty for a new user. Ids the model never saw are named and skipped.")]


def chat(
    model: Annotated[Path, typer.Argument(help="A model folder, as `tongtu fit` writes it: of any system whose items have titles or texts.")],
    history: Ids = "",
    user: Annotated[str | None, typer.Option(metavar="ID", help="Take history, ratings and attributes of this user of --data.")] = None,
    data: Annotated[str | None, typer.Option(metavar="DIR|NAME", help="A data set, for titles, texts and --user.")] = None,
    attribute: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="What is known of the user, say gender=F; may be repeated.")] = None,
    forget: Annotated[list[str] | None, typer.Option(metavar="NAME", help="An attribute the user wants left out; may be repeated.")] = None,
    llm: Annotated[str | None, typer.Option(metavar="NAME", help="unigram, smollm2, hf:NAME or openai:NAME@URL; that of a chatrec model if left out.")] = None,
    new_items: Annotated[Path | None, typer.Option(metavar="FILE", help="Items the model does not know: CSV or Parquet with the columns id and text.")] = None,
    state: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the conversation in this file, or go on with it; options go before it.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting, say top=3 or words.things=films.")] = None,
) -> None:
    """Talk with a recommender. Items are named by title and id; what is not in the catalogue is marked so. Reads standard input, line by line."""
    from tongtu.hub import open_model

    recommender = open_model(model)
    request = _request(recommender, history, attribute or [], forget or [])
    catalogue = None
    if data is not None:
        catalogue, request = _from_data(recommender, data, user, request)
    elif user is not None:
        _refuse("--user needs --data: say which data set the user is in")
    conversation = _conversation(recommender, llm, request, settings or [], catalogue)
    if new_items is not None:
        conversation.add_items(_table(new_items))
    if state is not None and state.exists():
        conversation.restore(state)
        conversation.user = _over(conversation.user, request)
    for line in _lines():
        if not _command(conversation, line):
            break
        if state is not None:
            conversation.save(state)


def _conversation(recommender: Recommender, llm: str | None, request: Request, settings: list[str], catalogue: Any) -> Conversation:
    from tongtu.config import build, merge, parse_settings, plain
    from tongtu.systems.prompted.chatrec import ChatREC
    from tongtu.systems.prompted.conversation import Conversation, ConversationConfig

    values = parse_settings(settings)
    if isinstance(recommender, ChatREC):
        own = plain(recommender.config)
        kept = {field.name: own[field.name] for field in dataclasses.fields(ConversationConfig) if field.name in own}
        values = merge(kept | {"candidates": min(own["candidates"], 200), "top": min(own["top"], 50)}, values)
    if llm is not None:
        values["llm"] = llm
    return Conversation(recommender, None, request, build(ConversationConfig, values, "chat"), catalogue)


def _over(kept: Request, given: Request) -> Request:
    """The user of a kept conversation, with what is said of them now: another history, further or other attributes, more to be forgotten."""
    history = given if len(given.history) else kept
    attributes = {**kept.attributes, **given.attributes}
    return dataclasses.replace(
        kept, history=history.history, times=history.times, ratings=history.ratings, attributes=attributes, forget=kept.forget | given.forget
    )


def _request(recommender: Recommender, history: str, attribute: list[str], forget: list[str]) -> Request:
    from tongtu.cli.recommend import item_codes, split_ids, user_attributes
    from tongtu.core import Request

    seen, _ = item_codes(recommender.items, split_ids(history), "history")
    return Request(history=seen, attributes=user_attributes(attribute), forget=frozenset(forget))


def _from_data(recommender: Recommender, name: str, user: str | None, request: Request) -> tuple[Any, Request]:
    """The catalogue of a data set, and the request with what the data set has of a user."""
    import numpy as np
    import polars as pl

    from tongtu.data.public import load

    log = load(name)
    columns = [log.items.ids.rename("id"), log.item_text.rename("text")]
    if "title" in log.item_fields.columns:
        columns.append(log.item_fields["title"].cast(pl.String))
    catalogue = pl.DataFrame(columns)
    if user is None:
        return catalogue, request
    code = int(log.users.encode([user])[0])
    if not code:
        _refuse(f"{name} has no user {user}: check --user against the data set's users")
    (known,) = log.requests(np.array([code], np.int32))
    theirs = recommender.items.encode(log.items.decode(known.history))
    attributes = {**known.attributes, **request.attributes}
    history = theirs if not len(request.history) else request.history
    return catalogue, dataclasses.replace(request, history=history, ratings=known.ratings if history is theirs else None, attributes=attributes)


def _table(path: Path) -> Any:
    import polars as pl

    from tongtu.errors import DataError

    if not path.is_file():
        raise DataError(f"no file {path}: check --new-items")
    try:
        return pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema_length=0)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is no table ({' '.join(str(error).split())[:160]}): write CSV or Parquet with the columns id and text") from None


def _lines() -> Iterator[str]:
    """What is typed; away from a terminal it is repeated, so that the output can be read alone."""
    typed = sys.stdin.isatty()
    if typed:
        print("Say what you look for; /help tells more, /quit ends.")
    while True:
        if typed:
            print("\nyou> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            if not typed:
                print(f"\nyou> {line.strip()}")
            yield line.strip()


def _command(conversation: Conversation, line: str) -> bool:
    """Do what a line says; False ends the conversation."""
    name, _, rest = line.partition(" ")
    if name == "/quit":
        return False
    if name == "/help":
        print(_HELP)
    elif name == "/history":
        known = conversation.history()
        print("\n".join(f"{item.title} [{item.id}]" for item in known[-_NEWEST:]) or "nothing so far")
        if len(known) > _NEWEST:
            print(f"and {len(known) - _NEWEST:,} before them")
    elif name == "/conditions":
        print("\n".join(conversation.state.constraints) or "none so far")
    elif name == "/forget":
        conversation.state.constraints.clear()
        print("no conditions any more")
    elif name == "/why":
        _show(conversation.turn(f"Why number {rest.strip()}?" if rest.strip() else "Why these?", "explain"))
    elif name == "/ask" and rest.strip():
        _show(conversation.turn(rest.strip(), "outside"))
    elif name.startswith("/"):
        print(f"no command {name}\n{_HELP}")
    else:
        _show(conversation.turn(line))
    return True


def _show(reply: Reply) -> None:
    from tongtu.cli.output import note

    print(reply.text)
    if reply.notes.get("ruled out"):
        print(f"(left out: {', '.join(reply.notes['ruled out'])})")
    if reply.degraded:
        note(f"degraded: {reply.notes['degraded']}")


def _refuse(message: str) -> None:
    from tongtu.errors import ConfigError

    raise ConfigError(message)
