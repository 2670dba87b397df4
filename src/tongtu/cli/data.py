"""`tongtu data`: public sets, import of your own log, statistics, checks and filters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tongtu.data.dataset import Dataset
    from tongtu.data.importer import ImportReport

app = typer.Typer(no_args_is_help=True, help="Public data sets, and your own log made into one.")

Folder = Annotated[Path, typer.Argument(metavar="DIR|NAME", help="A data set folder, or the name of a public set.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The data set folder to write.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


@app.command("list", epilog="Example: tongtu data list")
def list_() -> None:
    """The public data sets that `tongtu data fetch` knows, and which are in the cache."""
    from tongtu.cli.output import table
    from tongtu.data.fetch import cache_folder
    from tongtu.data.folder import RECORD
    from tongtu.data.public import public_sets

    held = cache_folder() / "data"
    rows = [(entry.name, entry.title, entry.licence, "yes" if (held / entry.name / RECORD).is_file() else "") for entry in public_sets().values()]
    table(["name", "what it is", "licence", "in the cache"], rows)


@app.command(epilog="Example: tongtu data fetch ml-100k")
def fetch(
    name: Annotated[str, typer.Argument(help="A public set; `tongtu data list` shows them.")],
    source: Annotated[Path | None, typer.Option("--from", metavar="PATH", help="Files you have already: the archive, or a folder with them.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where to write the data set; in the cache if not given.")] = None,
    quiet: Quiet = False,
) -> None:
    """Download a public data set, check it, and make a data set folder of it. A download that was cut goes on where it ended."""
    from tongtu.data.public import fetch as fetch_set

    data, path = fetch_set(name, source, out, quiet)
    _say_size(data, path)


@app.command("import", epilog="Example: tongtu data import log.csv --user user_id --item sku --time timestamp --items skus.csv --text title,brand --out mydata")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="CSV, TSV, JSON lines, Parquet or RecBole .inter; parts in order; .gz too.")],
    out: Out,
    user: Annotated[str, typer.Option(help="Column of user ids.")] = "user_id",
    item: Annotated[str, typer.Option(help="Column of item ids.")] = "item_id",
    time: Annotated[str | None, typer.Option(help="Column of times: seconds, milliseconds or ISO 8601.")] = None,
    order: Annotated[str | None, typer.Option(help="Column of positions; it decides where --time is given too.")] = None,
    rating: Annotated[str | None, typer.Option(help="Column of ratings.")] = None,
    field: Annotated[list[str] | None, typer.Option(help="A further column to keep with each event; may be repeated.")] = None,
    items: Annotated[Path | None, typer.Option(metavar="FILE", help="The catalogue, one row an item.")] = None,
    item_id: Annotated[str | None, typer.Option(help="The catalogue's column of ids, if it is called otherwise than in the log.")] = None,
    text: Annotated[str | None, typer.Option(metavar="COL,COL", help="Catalogue columns that make an item's text, in this order.")] = None,
    all_items: Annotated[bool, typer.Option("--all-items", help="Keep the catalogue's items that have no event, for systems that read texts.")] = False,
    users: Annotated[Path | None, typer.Option(metavar="FILE", help="User attributes, one row a user.")] = None,
    user_id: Annotated[str | None, typer.Option(help="Their column of ids, if it is called otherwise than in the log.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call the data set in reports.")] = None,
    quiet: Quiet = False,
) -> None:
    """Make a data set folder of your own log. Rows that cannot be used are dropped, counted and reported by reason.

    Beside a RecBole .inter file its .item and .user files are found by themselves, and its time column is "timestamp".
    """
    from tongtu.data.folder import save_dataset
    from tongtu.data.importer import import_log
    from tongtu.data.log import Columns
    from tongtu.data.tables import SideTable
    from tongtu.errors import ConfigError

    if files[0].suffix == ".inter":
        time = time or (None if order else "timestamp")
        items, users = (given or _sibling(files[0], ending) for given, ending in ((items, ".item"), (users, ".user")))
    columns = Columns(user, item, time, order, rating, tuple(field or ()))
    if text is not None and items is None:
        raise ConfigError("--text names columns of a catalogue: give the catalogue with --items FILE")
    if all_items and items is None:
        raise ConfigError("--all-items keeps items of a catalogue: give the catalogue with --items FILE")
    catalogue = None if items is None else SideTable(items, item_id, tuple(part.strip() for part in (text or "").split(",") if part.strip()), all_items)
    people = None if users is None else SideTable(users, user_id)
    data, report = import_log(files, columns, catalogue, people, name, quiet)
    save_dataset(data, out)
    _say_report(report)
    _say_size(data, out)


@app.command(epilog="Example: tongtu data stats ml-100k")
def stats(data: Folder, as_json: Json = False) -> None:
    """What to look at first: sizes, quantiles of history lengths and popularity, tail, times, repeats, ties, texts."""
    from tongtu.cli.output import table
    from tongtu.data.public import load
    from tongtu.data.stats import statistics

    opened = load(data)
    sections = statistics(opened)
    if as_json:
        print(json.dumps({"name": opened.name, **sections}, indent=2, ensure_ascii=False))
        return
    rows = [("" if place else title, what, _shown(value)) for title, facts in sections.items() for place, (what, value) in enumerate(facts.items())]
    table([opened.name, "", "value"], rows, right=("value",))


@app.command(epilog="Example: tongtu data check mydata --strict")
def check(data: Folder, strict: Annotated[bool, typer.Option(help="Exit with 2 if there is any warning.")] = False, as_json: Json = False) -> None:
    """Compare every file with its SHA-256, and warn of leaks and traps, each with a remedy."""
    from dataclasses import asdict

    from tongtu.data.check import check as look
    from tongtu.data.folder import RECORD, open_dataset
    from tongtu.data.public import load

    traps = look(open_dataset(data, verify=True) if (data / RECORD).is_file() else load(data))
    if as_json:
        print(json.dumps([asdict(trap) for trap in traps], indent=2, ensure_ascii=False))
    else:
        for trap in traps:
            print(f"warning, {trap.name}: {trap.text}\n    remedy: {trap.remedy}")
        print(f"{len(traps)} warnings" if traps else "no warnings")
    if strict and traps:
        raise typer.Exit(2)


@app.command("filter", epilog="Example: tongtu data filter mydata --user-core 5 --item-core 5 --since 2023-01-01 --out mydata-5core")
def filter_(
    data: Folder,
    out: Out,
    user_core: Annotated[int, typer.Option(min=0, help="Every user keeps at least so many events.")] = 0,
    item_core: Annotated[int, typer.Option(min=0, help="Every item keeps at least so many events.")] = 0,
    since: Annotated[str | None, typer.Option(help="Events from this moment on: seconds since 1970 or ISO 8601.")] = None,
    until: Annotated[str | None, typer.Option(help="Events before this moment.")] = None,
    rating: Annotated[float | None, typer.Option(help="Events with this rating or more.")] = None,
) -> None:
    """Keep a part of a data set: first the window and the ratings, then the k-core of what is left."""
    from tongtu.data import filters
    from tongtu.data.folder import save_dataset
    from tongtu.data.public import load
    from tongtu.data.times import parse_moment

    part = load(data)
    if since is not None or until is not None:
        part = filters.time_window(part, *(None if moment is None else parse_moment(moment) for moment in (since, until)))
    if rating is not None:
        part = filters.min_rating(part, rating)
    if user_core or item_core:
        part = filters.k_core(part, user_core, item_core)
    save_dataset(part, out)
    _say_size(part, out)


@app.command(epilog="Example: tongtu data combine beauty=beauty-folder sports=sports-folder --out both")
def combine(
    parts: Annotated[list[str], typer.Argument(metavar="DOMAIN=DIR...", help="A name for each domain, and its data set folder or public name.")],
    out: Out,
) -> None:
    """Make one data set of several domains: users with the same id become one, item ids get their domain's name in front."""
    from tongtu.data.domains import combine as combine_sets
    from tongtu.data.folder import save_dataset
    from tongtu.data.public import load
    from tongtu.errors import ConfigError

    pairs = [part.partition("=") for part in parts]
    for domain, equals, path in pairs:
        if not (domain and equals and path):
            raise ConfigError(f"{domain!r}: write each part as DOMAIN=DIR, for example beauty=beauty-folder")
    data = combine_sets({domain: load(path) for domain, _, path in pairs})
    save_dataset(data, out)
    _say_size(data, out)


def _sibling(file: Path, ending: str) -> Path | None:
    beside = file.with_suffix(ending)
    return beside if beside.is_file() else None


def _say_size(data: Dataset, path: Path) -> None:
    print(f"{path}: {len(data.users):,} users, {len(data.items):,} items, {data.n_events:,} events")


def _say_report(report: ImportReport) -> None:
    from tongtu.cli.output import note

    note(f"rows read {report.read:,}, kept {report.kept:,}" + "".join(f"; dropped {count:,}: {reason}" for reason, count in report.dropped.items()))
    if report.time_unit not in (None, "seconds"):
        note(f"times were taken for {report.time_unit}")
    for what, counts in (("catalogue", report.items), ("user table", report.users)):
        for reason, count in counts.items():
            note(f"{what}, {reason}: {count:,}")
    for remark in report.notes:
        note(remark)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
