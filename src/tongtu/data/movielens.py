"""MovieLens (Harper & Konstan, ACM TiiS 2015): ml-100k out of a Python package, ml-1m from GroupLens."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from tongtu.data.dataset import Dataset
from tongtu.data.fetch import Download, Wheel, find
from tongtu.data.importer import ImportReport, import_log
from tongtu.data.log import Columns
from tongtu.data.public import PublicSet
from tongtu.data.tables import SideTable, read_side
from tongtu.errors import DataError

_LICENCE = "GroupLens: research use with acknowledgement, no redistribution"
_AGES = {"1": "under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55", "56": "56 or over"}
_OCCUPATIONS = (
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)


def sets() -> list[PublicSet]:
    """The MovieLens sets."""
    wheel = Wheel("recbole==1.2.1", "recbole-1.2.1-py3-none-any.whl", "sha256:9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407")
    archive = Download("ml-1m.zip", ("https://files.grouplens.org/datasets/movielens/ml-1m.zip",), "md5:c4d9eecfca2ab87c1945afe126590906")
    return [
        PublicSet(
            "ml-100k",
            "MovieLens 100K: ratings, titles, genres, age, gender, occupation",
            "https://grouplens.org/datasets/movielens/100k/",
            _LICENCE,
            (wheel,),
            _ml_100k,
            (943, 1682, 100_000),
        ),
        PublicSet(
            "ml-1m",
            "MovieLens 1M: ratings, titles, genres, age, gender, occupation",
            "https://grouplens.org/datasets/movielens/1m/",
            _LICENCE,
            (archive,),
            _ml_1m,
            (6040, 3706, 1_000_209),
        ),
    ]


def _ml_100k(folder: Path, work: Path, quiet: bool) -> tuple[Dataset, ImportReport]:
    files = _found(folder, ["ml-100k.inter", "ml-100k.item", "ml-100k.user"])
    items, _ = read_side(SideTable(files["ml-100k.item"]), ["item_id"])
    catalogue = items.select(item_id="id", title="movie_title", release_year="release_year", categories=pl.col("class").str.split(" "))
    catalogue.write_parquet(work / "items.parquet")
    return import_log(
        files["ml-100k.inter"],
        Columns("user_id", "item_id", time="timestamp", rating="rating"),
        SideTable(work / "items.parquet", text=("title", "categories")),
        SideTable(files["ml-100k.user"]),
        name="ml-100k",
        quiet=quiet,
    )


def _ml_1m(folder: Path, work: Path, quiet: bool) -> tuple[Dataset, ImportReport]:
    files = _found(folder, ["ratings.dat", "movies.dat", "users.dat"])
    columns = {
        "ratings": ["user_id", "item_id", "rating", "timestamp"],
        "movies": ["item_id", "title", "categories"],
        "users": ["user_id", "gender", "age", "occupation", "zip_code"],
    }
    tables = {name: _double_colons(files[f"{name}.dat"], header) for name, header in columns.items()}
    tables["movies"] = tables["movies"].with_columns(
        pl.col("title").str.extract(r"\((\d{4})\)\s*$").alias("release_year"),
        pl.col("categories").str.split("|"),
    )
    occupations = {str(code): name for code, name in enumerate(_OCCUPATIONS)}
    tables["users"] = tables["users"].with_columns(pl.col("age").replace(_AGES), pl.col("occupation").replace(occupations))
    for name, table in tables.items():
        table.write_parquet(work / f"{name}.parquet")
    return import_log(
        work / "ratings.parquet",
        Columns("user_id", "item_id", time="timestamp", rating="rating"),
        SideTable(work / "movies.parquet", text=("title", "categories")),
        SideTable(work / "users.parquet"),
        name="ml-1m",
        quiet=quiet,
    )


def _double_colons(path: Path, columns: list[str]) -> pl.DataFrame:
    """A table of Latin-1 lines whose values stand between "::"."""
    lines = pl.Series("line", path.read_text(encoding="latin-1").splitlines(), dtype=pl.String)
    values = lines.str.split("::")
    wrong = (values.list.len() != len(columns)).arg_true()
    if len(wrong):
        raise DataError(f"{path}, line {wrong[0] + 1}: {len(columns)} values separated by '::' were expected: download it again")
    return values.list.to_struct(fields=columns).struct.unnest()


def _found(folder: Path, names: list[str]) -> dict[str, Path]:
    files = find(folder, names)
    for name in names:
        if name not in files:
            raise DataError(f"{folder} holds no {name}: give the file or folder that was downloaded with --from")
    return files
