"""Public data sets by name: fetched once, checked, kept in the cache as data set folders."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tongtu.config import nearest
from tongtu.data.dataset import Dataset
from tongtu.data.fetch import Download, Wheel, cache_folder, get
from tongtu.data.folder import RECORD, open_dataset, read_record, save_dataset
from tongtu.data.importer import ImportReport
from tongtu.errors import DataError

Build = Callable[[Path, Path, bool], tuple[Dataset, ImportReport]]


@dataclass(frozen=True)
class PublicSet:
    """A public data set.

    Attributes:
        name: What to type.
        title: What it is.
        page: Where people read about it, its licence and its download.
        licence: In short.
        files: What to download.
        build: (folder with the files or their contents, empty folder to work in, quiet) -> data and report.
        counts: Published users, items and events, checked after the import; None where the publisher states none.
    """

    name: str
    title: str
    page: str
    licence: str
    files: tuple[Download | Wheel, ...]
    build: Build
    counts: tuple[int, int, int] | None = None


@cache
def public_sets() -> Mapping[str, PublicSet]:
    """Every public set by name."""
    from tongtu.data import amazon, mind, movielens

    return {entry.name: entry for module in (movielens, amazon, mind) for entry in module.sets()}


def public_set(name: str) -> PublicSet:
    """One public set.

    Raises:
        DataError: If there is none of that name; the message names the nearest.
    """
    known = public_sets()
    if name not in known:
        raise DataError(f"no public data set {name!r}, {nearest(name, known)} (`tongtu data list` shows them all)")
    return known[name]


def load(name_or_path: str | Path, quiet: bool = False) -> Dataset:
    """Open a data set folder, or a public set by name, which is fetched into the cache where it is not there yet.

    Raises:
        DataError: If it is neither, cannot be fetched, or is damaged.
    """
    path, name = Path(name_or_path), str(name_or_path)
    if name in public_sets() and not (path / RECORD).is_file():
        return fetch(name, quiet=quiet)[0]
    if path.is_dir() or len(path.parts) > 1:
        return open_dataset(path)
    raise DataError(f"{name!r} is neither a data set folder nor a public data set, {nearest(name, public_sets())} (`tongtu data list` shows them all)")


def fetch(name: str, source: Path | None = None, out: Path | None = None, quiet: bool = False) -> tuple[Dataset, Path]:
    """Download, import and keep a public set; what is in the cache already is only opened.

    Args:
        name: Which.
        source: The downloaded file, or the folder with the files (packed or unpacked), instead of the network.
        out: The data set folder to write; in the cache if None.
        quiet: Whether to show no progress.

    Returns:
        The data, and its folder.
    """
    wanted = public_set(name)
    target = out or cache_folder() / "data" / name
    if source is None and (target / RECORD).is_file() and read_record(target)["name"] == name:
        return open_dataset(target), target
    with tempfile.TemporaryDirectory(prefix="tongtu-") as work:
        folder = _download(wanted, quiet) if source is None else source
        data, _ = wanted.build(_unpacked(folder, wanted, Path(work) / "files"), Path(work), quiet)
    found = (len(data.users), len(data.items), data.n_events)
    if wanted.counts is not None and found != wanted.counts:
        raise DataError(f"{name} has {found} users, items and events instead of the published {wanted.counts}: get its files again from {wanted.page}")
    save_dataset(data, target)
    return open_dataset(target), target


def _download(wanted: PublicSet, quiet: bool) -> Path:
    folder = cache_folder() / "downloads" / wanted.name
    try:
        for file in wanted.files:
            get(file, folder, quiet)
    except DataError as error:
        names = " and ".join(file.file for file in wanted.files)
        raise DataError(f"{error}; or get {names} by hand ({wanted.page}) and run `tongtu data fetch {wanted.name} --from PATH`") from None
    return folder


def _unpacked(source: Path, wanted: PublicSet, work: Path) -> Path:
    """A folder that holds the contents: archives among the set's files are opened, anything else stays where it is.

    Raises:
        DataError: If `source` does not exist or is a damaged archive.
    """
    if not source.exists():
        raise DataError(f"no file or folder {source}: check the path")
    work.mkdir(parents=True)
    names = {file.file for file in wanted.files}
    candidates = [source] if source.is_file() else [file for file in sorted(source.rglob("*")) if file.name in names]
    for file in candidates:
        if zipfile.is_zipfile(file):
            _extract(file, work / file.stem)
        elif file.suffix in (".zip", ".whl"):
            raise DataError(f"{file} is no complete archive: download it again")
        else:
            (work / file.name).symlink_to(file.resolve())
    return source if source.is_dir() and not any(work.iterdir()) else work


def _extract(archive: Path, folder: Path) -> None:
    """`ZipFile.extractall` keeps members inside `folder`."""
    with zipfile.ZipFile(archive) as opened:
        damaged = opened.testzip()
        if damaged is not None:
            raise DataError(f"{archive} is damaged at {damaged}: download it again")
        opened.extractall(folder)
