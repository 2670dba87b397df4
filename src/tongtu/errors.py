"""The errors a user can cause, drawn as a tree.

    TongtuError                 one clear line, with the remedy; the command line prints it and exits with 2
    ├── DataError               a log, catalogue, dataset folder or download that cannot be used as it is
    ├── ConfigError             an option, experiment file or `--set` that is unknown or out of range
    ├── ModelError              a model folder that is missing, damaged, foreign or of another catalogue
    ├── LanguageModelError      a language model that cannot be reached or refuses
    │   └── BudgetError         it would cost more than was allowed
    ├── MissingExtra            a feature whose optional packages are not installed
    └── StorageError            a disk that is full or read-only; what was saved before is untouched

Mistakes of our own stay `AssertionError`s and show a traceback.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TongtuError(ValueError):
    """A mistake the user can mend. The message is one line and names the remedy."""


class DataError(TongtuError):
    """The data cannot be used as it is."""


class ConfigError(TongtuError):
    """An option or a configuration file is wrong."""


class ModelError(TongtuError):
    """A model folder cannot be used."""


class LanguageModelError(TongtuError):
    """A language model gives no answer."""


class BudgetError(LanguageModelError):
    """Asking on would cost more than was allowed."""


class StorageError(TongtuError):
    """Something could not be written."""


class MissingExtra(TongtuError):
    """An optional package is needed and absent."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional package: pip install 'tongtu[{extra}]'")


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's write errors below `path` into one line with a remedy."""
    try:
        yield
    except TongtuError:
        raise
    except Exception as error:
        number = _system_error(error)
        if number in _NO_ROOM:
            raise StorageError(f"no room left to write {path}: free some disk space or choose another --out; what was saved before is unchanged") from error
        if number in _NO_RIGHT:
            raise StorageError(f"not allowed to write {path}: choose another --out or change its permissions") from error
        raise


def _system_error(error: Exception) -> int | None:
    """The operating system's number of an error; libraries written in Rust (safetensors, polars) give it only in their text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    if found is not None:
        return int(found[1])
    # NumPy tells a write cut short by a full disk only like this.
    return errno.ENOSPC if isinstance(error, OSError) and re.fullmatch(r"\d+ requested and \d+ written", str(error)) else None
