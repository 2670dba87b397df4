"""Vectors of a catalogue's texts, each distinct text encoded once and kept on disk.

A cache folder for each encoder's fingerprint holds parts: `keys.npy`, hashes of texts [n, 16 bytes], and `vectors.npy` beside it,
float32 [n, width], read back memory-mapped. A part is written whole or not at all after some thousand texts, so work that
was killed goes on where it stood, and processes side by side can only do the same work twice.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.data.fetch import cache_folder
from tongtu.files import new_folder
from tongtu.progress import progress
from tongtu.text.encoder import ItemEncoder, Vectors

_AT_ONCE = 1_024  # texts between two looks of the progress bar; of fewer, those of like length leave more than 5 % padding
_PART = 16_384  # texts in a part: what a kill can cost
_MOST_PARTS = 16  # more are joined into one

Key = np.dtype("V16")
Keys = npt.NDArray[np.void]


def text_vectors(encoder: ItemEncoder, texts: pl.Series | Sequence[str], quiet: bool = False, cache: Path | None = None) -> Vectors:
    """Vectors float32 [n, width] of n texts; only texts that were never encoded by this encoder before are encoded.

    Args:
        encoder: Who encodes.
        texts: One text an item; "" and null give zeros.
        quiet: Whether to show no progress.
        cache: Where vectors are kept; `vectors/` in Tongtu's cache folder if None.

    Raises:
        StorageError: If the cache cannot be written.
    """
    column = pl.Series("text", texts, dtype=pl.String).fill_null("")
    distinct = column.unique(maintain_order=True)
    folder = (cache or cache_folder() / "vectors") / encoder.fingerprint[:24]
    keys = np.array([hashlib.blake2b(text.encode(), digest_size=16).digest() for text in distinct], "S16").view(Key)
    table = np.zeros((len(distinct), encoder.width), np.float32)
    missing = _fill(table, keys, folder) & (distinct != "").to_numpy()
    if missing.any():
        _encode(encoder, distinct, keys, np.flatnonzero(missing), table, folder, quiet)
    place = column.replace_strict(distinct, np.arange(len(distinct)), return_dtype=pl.Int64).to_numpy() if len(distinct) else np.zeros(0, np.int64)
    vectors: Vectors = table[place]
    return vectors


def _fill(table: Vectors, keys: Keys, folder: Path) -> npt.NDArray[np.bool_]:
    """Copy the vectors that are on disk into `table`; returns which are still missing."""
    missing = np.ones(len(keys), np.bool_)
    order = np.argsort(keys)
    for part_keys, vectors in _parts(folder, table.shape[1]):
        if not len(keys):
            break
        place = order[np.searchsorted(keys, part_keys, sorter=order).clip(max=len(keys) - 1)]
        found = np.flatnonzero(keys[place] == part_keys)
        table[place[found]] = vectors[found]
        missing[place[found]] = False
    return missing


def _parts(folder: Path, width: int) -> list[tuple[Keys, Vectors]]:
    """Keys and memory-mapped vectors of every part; one that cannot be read is as good as absent."""
    parts = []
    for part in sorted(folder.glob("part-*")):
        try:
            keys = np.load(part / "keys.npy", allow_pickle=False).view(Key).ravel()
            vectors = np.load(part / "vectors.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            continue
        if vectors.shape == (len(keys), width) and vectors.dtype == np.float32:
            parts.append((keys, vectors))
    return parts


def _encode(encoder: ItemEncoder, texts: pl.Series, keys: Keys, rows: npt.NDArray[np.int64], table: Vectors, folder: Path, quiet: bool) -> None:
    """Encode the texts at `rows` into `table` and onto the disk; texts of like length go together, which wastes the least padding."""
    rows = rows[np.argsort(texts.str.len_chars().to_numpy()[rows], kind="stable")[::-1]]  # the longest first: time left is never too hopeful
    with progress(f"encoding with {encoder.name}", len(rows), "texts", quiet) as bar:
        for start in range(0, len(rows), _PART):
            part = rows[start : start + _PART]
            for begin in range(0, len(part), _AT_ONCE):
                some = part[begin : begin + _AT_ONCE]
                table[some] = encoder.encode(texts.gather(some).to_list())
                bar.advance(len(some))
            _keep(keys[part], table[part], folder)
    _join(folder, encoder.width)


def _keep(keys: Keys, vectors: Vectors, folder: Path) -> Path:
    part = folder / f"part-{uuid.uuid4().hex[:12]}"
    with new_folder(part, manifest=False) as temporary:
        np.save(temporary / "keys.npy", keys.view(np.uint8).reshape(-1, Key.itemsize), allow_pickle=False)
        np.save(temporary / "vectors.npy", vectors, allow_pickle=False)
    return part


def _join(folder: Path, width: int) -> None:
    """Make one part of many; a process that has the old ones mapped goes on reading them."""
    old = sorted(folder.glob("part-*"))
    if len(old) <= _MOST_PARTS:
        return
    parts = _parts(folder, width)
    keys, first = np.unique(np.concatenate([keys for keys, _ in parts]), return_index=True)
    _keep(keys, np.concatenate([vectors for _, vectors in parts])[first], folder)
    for part in old:
        for file in ("keys.npy", "vectors.npy"):
            (part / file).unlink(missing_ok=True)
        if not any(part.iterdir()):
            part.rmdir()
