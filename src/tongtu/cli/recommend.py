"""`tongtu recommend`: ask a saved model about any history, also one of a user it never saw."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tongtu.core import Codes, Recommender
    from tongtu.vocab import Vocab

Ids = Annotated[str, typer.Option(metavar="ID,ID", help="Item ids, oldest first; empty for a new user. Ids the model never saw are named and skipped.")]


def recommend(
    model: Annotated[Path, typer.Argument(help="A model folder, as `tongtu fit` writes it.")],
    history: Ids = "",
    k: Annotated[int, typer.Option("-k", min=1, help="How many items; more than the catalogue holds gives the whole catalogue.")] = 10,
    attribute: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="What is known of the user, say gender=F; may be repeated.")] = None,
    forget: Annotated[list[str] | None, typer.Option(metavar="NAME", help="An attribute the user wants left out; may be repeated.")] = None,
    wish: Annotated[str | None, typer.Option(metavar="TEXT", help="What the user asks for, in their own words, with or without a history.")] = None,
    candidates: Annotated[str | None, typer.Option(metavar="ID,ID", help="Limit the answer to these items.")] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Also answer with items of the history.")] = False,
    data: Annotated[str | None, typer.Option(metavar="DIR|NAME", help="Answer from this data set's catalogue, for a model that reads item texts.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Recommend items for one history or one wish, with their titles where the model was fitted on data that has them.

    A model that does not hear wishes says so.
    """
    from tongtu.cli.evaluate import hears, note_deaf
    from tongtu.core import Request
    from tongtu.errors import DataError
    from tongtu.hub import open_model

    recommender = open_model(model)
    if data is not None:
        recommender = _other_catalogue(recommender, data)
    wish = (wish or "").strip() or None
    if wish is not None:
        note_deaf(recommender, model)
    seen, skipped = item_codes(recommender.items, split_ids(history), "history")
    limits, unknown = (None, []) if candidates is None else item_codes(recommender.items, split_ids(candidates), "candidates")
    if limits is not None and not len(limits):
        raise DataError(f"the model knows none of the candidates: check --candidates against {model}/items.parquet")
    request = Request(
        history=seen,
        attributes=user_attributes(attribute or []),
        forget=frozenset(forget or []),
        candidates=limits,
        wish=wish,
        exclude_seen=not include_seen,
    )
    _tell_unknown(recommender, request.attributes)
    rows, notes = _answer(recommender, request, k)
    if as_json:
        wished = {} if wish is None else {"wish": wish, "heard": hears(recommender)}
        print(json.dumps({"model": str(model), **wished, "items": rows, "skipped": skipped + unknown, "notes": notes}, indent=2, ensure_ascii=False))
    else:
        _show(rows, notes)


def _other_catalogue(recommender: Recommender, data: str) -> Recommender:
    from tongtu.cli.evaluate import for_items
    from tongtu.core import Extends
    from tongtu.data.public import load
    from tongtu.errors import ConfigError

    if not isinstance(recommender, Extends):
        raise ConfigError(f"{type(recommender).__name__} knows only the items it was fitted on: leave --data out, or fit a model that reads item texts")
    return for_items(recommender, load(data))


def _tell_unknown(recommender: Recommender, attributes: Mapping[str, str]) -> None:
    """A misspelt attribute would go unnoticed, since unknown ones are ordinary."""
    from tongtu.cli.output import note
    from tongtu.data.attributes import AttributeReader

    reader, text = getattr(recommender, "reader", None), getattr(recommender.config, "text", None)
    if isinstance(reader, AttributeReader):
        for unknown in reader.unknown({name: value for name, value in attributes.items() if name != text}):
            note(f"note: the model knows nothing of the attribute {unknown}")


def _answer(recommender: Recommender, request: Any, k: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One row an item: id, score and (where the model has it) text, best first; and what the model notes of its answer."""
    from tongtu.cli.output import note

    if k > len(recommender.items):
        note(f"note: the model knows {len(recommender.items):,} items, fewer than -k {k:,}: showing all it can recommend")
    top = recommender.recommend([request], min(k, len(recommender.items)))
    codes, scores = top.items[0], top.scores[0]
    text = getattr(recommender, "item_text", None)
    rows: list[dict[str, Any]] = []
    for code, score in zip(codes[codes != 0].tolist(), scores[codes != 0].tolist(), strict=True):
        rows.append({"id": recommender.items.ids[code - 1], "score": round(score, 6)} | ({} if text is None else {"text": text[code - 1]}))
    return rows, dict(top.notes[0]) if top.notes else {}


def _show(rows: Sequence[dict[str, Any]], notes: Mapping[str, Any]) -> None:
    from tongtu.cli.output import note, table

    if "degraded" in notes:
        note(f"degraded: {notes['degraded']}")
    if notes.get("searched"):
        note(f"searched for: {'; '.join(notes['searched'])}")
    if notes.get("categories") == 0:
        note("note: the wish names no category of the catalogue, so the list is that of the retriever")
    if not rows:
        silent = "the language model named no candidate (a model fitted with --set unparsed=last lists them all the same)"
        left = silent if notes.get("unnamed") else "every item was seen or not a candidate (see --include-seen)"
        note(f"note: nothing is left to recommend: {left}")
        return
    titled = any(row.get("text") for row in rows)
    cells = [[str(rank), row["id"], *([row["text"]] if titled else []), f"{row['score']:.4g}"] for rank, row in enumerate(rows, 1)]
    table(["rank", "id", *(["title"] if titled else []), "score"], cells, right=("rank", "score"))


def split_ids(ids: str) -> list[str]:
    """Ids as an option gives them."""
    return [part.strip() for part in ids.split(",") if part.strip()]


def item_codes(items: Vocab, ids: list[str], what: str) -> tuple[Codes, list[str]]:
    """Codes of the ids that are known, and the ids that are not."""
    from tongtu.cli.output import note

    codes = items.encode(ids)
    unknown = [external for external, code in zip(ids, codes, strict=True) if code == 0]
    if unknown:
        shown = ", ".join(unknown[:10]) + (f" and {len(unknown) - 10} more" if len(unknown) > 10 else "")
        note(f"note: skipped in the {what}, because the model never saw them: {shown}")
    return codes[codes != 0], unknown


def user_attributes(settings: Sequence[str]) -> dict[str, str]:
    """Attributes as options give them.

    Raises:
        ConfigError: If one is not NAME=VALUE.
    """
    from tongtu.errors import ConfigError

    pairs = [setting.partition("=") for setting in settings]
    for name, equals, _ in pairs:
        if not equals or not name.strip():
            raise ConfigError(f"--attribute {name!r}: write it as NAME=VALUE, for example --attribute gender=F")
    return {name.strip(): value for name, _, value in pairs}
