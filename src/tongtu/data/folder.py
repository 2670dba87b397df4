"""Data set folders: events mapped from disk without a copy, written whole or not at all, checked when opened.

    dataset.json             name, counts, source, domains, size and SHA-256 of every file
    users.parquet            id, events (how many the user has), attributes (struct)
    items.parquet            id, text, domain, fields (struct)
    events.arrow             item (code), time, fields (struct); canonical order, one uncompressed record batch
    impressions.arrow        user, seen, time, shown (how many items); shown.arrow: item, clicked

Opening compares the size of every file, and the SHA-256 of every file up to 64 MB; larger ones would cost seconds at each
opening, so their SHA-256 is compared by `open_dataset(path, verify=True)` and `tongtu data check`.
Why events are Arrow and not Parquet: docs/decisions/001-events-as-arrow.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from tongtu.core import Offsets
from tongtu.data.dataset import Dataset, Impressions
from tongtu.errors import DataError, StorageError
from tongtu.files import new_folder, sha256
from tongtu.vocab import Vocab

FORMAT = 1
RECORD = "dataset.json"
_SMALL = 64 << 20
_REMEDY = "restore the folder from a copy, or import the data again"


def save_dataset(data: Dataset, path: Path) -> None:
    """Write a data set folder, replacing a data set that stands there only when the new one is complete.

    Raises:
        StorageError: If the disk is full or read-only, or `path` holds something that is no data set; what stands there stays.
    """
    path = Path(path)
    if path.exists() and not (path / RECORD).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise StorageError(f"{path} exists and is no data set, so it is not replaced: choose another folder")
    with new_folder(path, manifest=False) as folder:
        _write_tables(data, folder)
        _write_arrow(folder / "events.arrow", {"item": data.item, "time": data.time}, data.event_fields)
        if data.impressions is not None:
            _write_impressions(data.impressions, folder)
        files = {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in sorted(folder.iterdir())}
        record = {
            "format": FORMAT,
            "name": data.name,
            "counts": {"users": len(data.users), "items": len(data.items), "events": data.n_events},
            "domains": list(data.domains),
            "source": dict(data.source),
            "files": files,
        }
        (folder / RECORD).write_text(json.dumps(record | {"sha256": _checksum(record)}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def open_dataset(path: Path | str, verify: bool = False) -> Dataset:
    """Open a data set folder; events stay on disk and are mapped.

    Args:
        path: The folder.
        verify: Whether to compare the SHA-256 of large files too.

    Raises:
        DataError: If it is missing, damaged (the file is named), or of a newer format.
    """
    path = Path(path)
    record = read_record(path)
    check_files(path, record, verify)
    try:
        users, items = pl.read_parquet(path / "users.parquet"), pl.read_parquet(path / "items.parquet")
        events = _map(path / "events.arrow")
        impressions = _open_impressions(path) if "impressions.arrow" in record["files"] else None
        return Dataset(
            name=record["name"],
            users=Vocab(users["id"]),
            items=Vocab(items["id"]),
            item=events["item"].to_numpy(),
            offset=_offsets(users["events"].to_numpy()),
            time=events["time"].to_numpy() if "time" in events.schema.names else None,
            event_fields=_fields(pl.DataFrame(events.select(["fields"]))) if "fields" in events.schema.names else pl.DataFrame(),
            item_text=items["text"],
            item_fields=_fields(items),
            user_attributes=_fields(users, "attributes"),
            domain=items["domain"].to_numpy() if "domain" in items.columns else None,
            domains=tuple(record["domains"]),
            impressions=impressions,
            source=record["source"],
        )
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError, KeyError, ValueError, AssertionError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}: {error}): {_REMEDY}") from None


def read_record(path: Path) -> dict[str, Any]:
    """The contents of `dataset.json`, checked against its own checksum."""
    if not path.is_dir():
        raise DataError(f"no data set at {path}: check the path, or make one with `tongtu data import` or `tongtu data fetch`")
    try:
        record: dict[str, Any] = json.loads((path / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is no data set folder (it has no {RECORD}): make one with `tongtu data import FILE --out DIR`") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise DataError(f"{path / RECORD} is damaged: {_REMEDY}") from None
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise DataError(f"{path / RECORD} is damaged: {_REMEDY}")
    if record["format"] > FORMAT:
        raise DataError(f"{path} was written by a newer Tongtu (format {record['format']}): upgrade tongtu")
    if record.pop("sha256", None) != _checksum(record):
        raise DataError(f"{path / RECORD} is damaged or was changed by hand: {_REMEDY}")
    return record


def check_files(path: Path, record: Mapping[str, Any], verify: bool) -> None:
    """Compare sizes, and SHA-256 of small files (all files with `verify`), with what `dataset.json` recorded."""
    for name, expected in record["files"].items():
        file = path / name
        if not file.is_file():
            raise DataError(f"{file} is missing: {_REMEDY}")
        size = file.stat().st_size
        if size != expected["bytes"]:
            raise DataError(f"{file} is damaged (it has {size:,} bytes, {expected['bytes']:,} were written): {_REMEDY}")
        if (verify or size <= _SMALL) and sha256(file) != expected["sha256"]:
            raise DataError(f"{file} is damaged (its SHA-256 is not the one recorded): {_REMEDY}")


def _write_tables(data: Dataset, folder: Path) -> None:
    users = pl.DataFrame({"id": data.users.ids, "events": data.lengths})
    _with_fields(users, data.user_attributes, "attributes").write_parquet(folder / "users.parquet")
    items = pl.DataFrame({"id": data.items.ids, "text": data.item_text})
    if data.domain is not None:
        items = items.with_columns(pl.Series("domain", data.domain))
    _with_fields(items, data.item_fields, "fields").write_parquet(folder / "items.parquet")


def _write_impressions(impressions: Impressions, folder: Path) -> None:
    rows = {"user": impressions.user, "seen": impressions.seen, "time": impressions.time, "shown": np.diff(impressions.offset)}
    _write_arrow(folder / "impressions.arrow", rows)
    _write_arrow(folder / "shown.arrow", {"item": impressions.item, "clicked": impressions.clicked.view(np.uint8)})


def _open_impressions(path: Path) -> Impressions:
    rows, shown = _map(path / "impressions.arrow"), _map(path / "shown.arrow")
    return Impressions(
        user=rows["user"].to_numpy(),
        seen=rows["seen"].to_numpy(),
        time=rows["time"].to_numpy() if "time" in rows.schema.names else None,
        item=shown["item"].to_numpy(),
        clicked=shown["clicked"].to_numpy().view(np.bool_),
        offset=_offsets(rows["shown"].to_numpy()),
    )


def _write_arrow(file: Path, columns: Mapping[str, Any], fields: pl.DataFrame | None = None) -> None:
    """One uncompressed record batch, so that each column is one piece of the file and can be mapped."""
    frame = pl.DataFrame({name: np.asarray(values) for name, values in columns.items() if values is not None})
    frame = _with_fields(frame, pl.DataFrame() if fields is None else fields, "fields")
    frame.rechunk().write_ipc(file, compression="uncompressed", record_batch_size=max(1, frame.height))


def _map(file: Path) -> pa.RecordBatch:
    """The file's only record batch, mapped: its columns become arrays (read-only) without a copy."""
    opened = pa.ipc.open_file(pa.memory_map(str(file)))
    return opened.get_batch(0) if opened.num_record_batches else pa.RecordBatch.from_pylist([], opened.schema)


def _with_fields(frame: pl.DataFrame, fields: pl.DataFrame, name: str) -> pl.DataFrame:
    """Fields go into a struct, so that they may have any name."""
    return frame.with_columns(fields.to_struct(name)) if fields.width else frame


def _fields(frame: pl.DataFrame, name: str = "fields") -> pl.DataFrame:
    return frame[name].struct.unnest() if name in frame.columns else pl.DataFrame()


def _offsets(counts: Offsets) -> Offsets:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def _checksum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
