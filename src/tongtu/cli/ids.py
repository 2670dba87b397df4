"""`tongtu ids`: semantic ids of a catalogue, and what they mean."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tongtu.data.dataset import Dataset
    from tongtu.semantic.codebooks import Vectors
    from tongtu.semantic.folder import NamedIds
    from tongtu.semantic.settings import SemanticConfig

app = typer.Typer(no_args_is_help=True, help="Semantic ids: items as a few codes, like ones for like items.")

_CODES = 12  # rows of the table of codes
_MET_WIDTH = 64  # numbers of a collaborative vector


@app.command("fit", epilog="Example: tongtu ids fit --data ml-100k --encoder minilm --out ids --set kind=rkmeans --set levels=3 --set size=64")
def fit(
    data: Annotated[str, typer.Option(metavar="DIR|NAME", help="A data set folder, or the name of a public data set, whose items have texts.")],
    out: Annotated[Path, typer.Option(help="Where to write the folder of ids.")],
    encoder: Annotated[str, typer.Option(help="Who reads the texts: minilm, hashing, or hf:NAME_OR_PATH.")] = "minilm",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting, say kind=opq or rqvae.epochs=500.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Every random choice follows from it.")] = 0,
) -> None:
    """Make ids from the item texts and write them, with the catalogue, into a folder.

    With rqvae.align set, ids also follow who met which items in the training part of leave-one-out.
    """
    from tongtu.config import build, parse_settings
    from tongtu.data.public import load
    from tongtu.hub import refuse_foreign
    from tongtu.semantic.folder import NamedIds
    from tongtu.semantic.ids import SemanticIds
    from tongtu.semantic.settings import SemanticConfig
    from tongtu.text.encoder import open_encoder

    config = build(SemanticConfig, parse_settings(settings or []), "--set")
    refuse_foreign(out)
    opened = open_encoder(encoder)
    log = load(data)
    vectors = _vectors(log, encoder)
    started = time.perf_counter()
    ids = SemanticIds.fit(vectors, config, seed, _collaborative(log, config, seed), quiet=False)
    provenance = {"data": log.name, "fingerprint": log.fingerprint, "encoder": encoder, "encoder_fingerprint": opened.fingerprint, "seed": seed}
    named = NamedIds(ids, log.items, log.item_text, {**provenance, "fit_seconds": time.perf_counter() - started})
    named.save(out)
    before = ids.facts["collision rate before repair"]
    print(f"{len(log.items):,} items, {len(ids.sizes)} codes each, made in {named.provenance['fit_seconds']:,.1f} s")
    print(f"collision rate {before:.4f} before repair, {ids.collision_rate():.4f} after; {ids.facts['lost']:.1%} of the vectors' variance lost")
    print(f"ids: {out}\nnext: tongtu ids show {out} --out {out}.html")


@app.command("show", epilog="Example: tongtu ids show ids --prefix 12,5 --out ids.html")
def show(
    folder: Annotated[Path, typer.Argument(help="A folder that `tongtu ids fit` wrote.")],
    items: Annotated[list[str] | None, typer.Argument(metavar="[ITEM]...", help="Items whose ids to show, and who begins like them.")] = None,
    prefix: Annotated[str, typer.Option(metavar="CODE,CODE", help="Show what follows these codes, and the titles under them.")] = "",
    titles: Annotated[int, typer.Option(min=1, help="How many titles of a code.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Also draw the codebook into this file, .html or .png.")] = None,
) -> None:
    """How evenly each level is used, how many items share an id, and what codes mean: the words that tell their items from all others, and titles."""
    from tongtu.errors import ConfigError
    from tongtu.semantic.folder import NamedIds

    if out is not None and out.suffix not in (".html", ".png"):
        raise ConfigError(f"--out {out}: a picture of the codebook is a page, FILE.html, or an image, FILE.png")
    named = NamedIds.open(folder)
    codes = _prefix(prefix, named)
    for item in items or []:
        _show_item(named, item, titles)
    if not items:
        _show_use(named)
        _show_codes(named, codes, titles)
    if out is not None:
        _draw(named, out)
        print(f"picture: {out}")


def _vectors(log: Dataset, encoder: str) -> Vectors:
    """float32[items.size, D], `PAD` first."""
    import numpy as np

    from tongtu.text.encoder import open_encoder
    from tongtu.text.vectors import text_vectors

    made = text_vectors(open_encoder(encoder), log.item_text)
    return np.concatenate([np.zeros((1, made.shape[1]), np.float32), made])


def _collaborative(log: Dataset, config: SemanticConfig, seed: int) -> Vectors | None:
    """Vectors from who met which items, of the training part alone, where the settings ask for them."""
    from tongtu.data.splits import leave_one_out
    from tongtu.semantic.collaborative import met_vectors

    return met_vectors(leave_one_out(log).train, _MET_WIDTH, seed) if config.rqvae.align else None


def _prefix(text: str, named: NamedIds) -> tuple[int, ...]:
    """The codes of --prefix.

    Raises:
        ConfigError: If they are not codes, or no item has them.
    """
    from tongtu.errors import ConfigError
    from tongtu.semantic.meaning import items_under

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts) or len(parts) >= len(named.ids.sizes):
        raise ConfigError(f"--prefix {text!r}: give at most {len(named.ids.sizes) - 1} codes with commas between them, for example 12,5")
    codes = tuple(int(part) for part in parts)
    if not len(items_under(named.ids, codes)):
        raise ConfigError(f"--prefix {text!r}: no item's id begins so; `tongtu ids show` without it lists codes that are used")
    return codes


def _show_use(named: NamedIds) -> None:
    from tongtu.cli.output import table

    ids = named.ids
    levels = [str(level) if level <= ids.config.levels else f"{level} (repair)" for level in range(1, len(ids.sizes) + 1)]
    rows = [
        (level, f"{use.size:,}", f"{use.used:.1%}", f"{use.perplexity:,.1f}", f"{use.largest:.2%}")
        for level, use in zip(levels, ids.use(), strict=True)
    ]
    columns = ("level", "codes", "used", "perplexity", "items of the largest")
    table(columns, rows, title=f"{ids.kind}, {len(named.items):,} items of {named.provenance['data']}, {named.provenance['encoder']}", right=columns[1:])
    before, sharing = ids.facts["collision rate before repair"], ids.facts["sharing before repair"]
    print(f"collision rate {before:.4f} before repair ({sharing:.1%} of the items shared an id), {ids.collision_rate():.4f} after")


def _show_codes(named: NamedIds, prefix: tuple[int, ...], titles: int) -> None:
    from tongtu.cli.output import table
    from tongtu.semantic.meaning import Wording, meanings

    found = meanings(named.ids, Wording(named.item_text.to_list()), prefix)
    behind = f"behind {', '.join(map(str, prefix))}" if prefix else "of the first level"
    title = f"{len(found):,} codes {behind}, those of most items first"
    rows = [(_id(one.prefix), f"{one.items:,}", ", ".join(one.words), " | ".join(named.titles(one.nearest[:titles]))) for one in found[:_CODES]]
    table(("code", "items", "words", "titles nearest to its middle"), rows, title=title, right=("items",))


def _show_item(named: NamedIds, item: str, titles: int) -> None:
    """An item's id, and for each beginning of it, the longest first, items that share it."""
    from tongtu.cli.output import table
    from tongtu.config import nearest
    from tongtu.core import PAD
    from tongtu.errors import DataError
    from tongtu.semantic.meaning import items_under

    code = named.items.code(item)
    if code == PAD:
        raise DataError(f"no item {item!r} in this catalogue, {nearest(item, named.items.ids.to_list())}")
    own = tuple(named.ids.codes[code].tolist())
    rows, listed = [], {code}
    for length in range(named.ids.config.levels, 0, -1):
        under = items_under(named.ids, own[:length])
        others = [one for one in under.tolist() if one not in listed]
        listed.update(others)
        rows.append((_id(own[:length]), f"{len(under) - 1:,}", " | ".join(named.titles(others[:titles]))))
    table(("begins with", "other items", "titles, but for those above"), rows, title=f"{item}: {_id(own)}: {named.titles([code])[0]}", right=("other items",))


def _id(codes: tuple[int, ...]) -> str:
    return "-".join(map(str, codes))


def _draw(named: NamedIds, out: Path) -> None:
    from tongtu.report.ids import write_page, write_picture

    (write_page if out.suffix == ".html" else write_picture)(named, out)
