"""Arrays of a safetensors file without reading it: large ones are mapped, so that processes which open the same model share its memory.

A mapping is copy-on-write: whoever writes to an array gets a page of their own, and the file stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

_MAPPED = 1 << 16  # bytes from which on an array is mapped; smaller ones are copied, which aligns them too
_KINDS: Mapping[str, str] = {
    "BOOL": "?", "I8": "<i1", "U8": "<u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8", "U64": "<u8",
    "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip


def open_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a safetensors file by name.

    Raises:
        OSError, SafetensorError: If the file is missing or damaged.
        ValueError: If it holds numbers that NumPy has not.
    """
    with safe_open(path, framework="numpy"):  # it checks that the parts lie one behind the other and within the file
        pass
    whole = np.memmap(path, np.uint8, mode="c").view(np.ndarray)
    start = 8 + int.from_bytes(whole[:8].tobytes(), "little")
    parts: dict[str, Any] = json.loads(whole[8:start].tobytes())
    return {name: _part(whole[start:], name, part) for name, part in parts.items() if name != "__metadata__"}


def _part(data: npt.NDArray[np.uint8], name: str, part: Mapping[str, Any]) -> npt.NDArray[Any]:
    if part["dtype"] not in _KINDS:
        raise ValueError(f"{name} holds numbers of the kind {part['dtype']}")
    first, end = part["data_offsets"]
    array: npt.NDArray[Any] = data[first:end].view(_KINDS[part["dtype"]]).reshape(part["shape"])
    return array if end - first >= _MAPPED and array.flags.aligned else array.copy()
