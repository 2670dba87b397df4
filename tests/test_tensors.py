from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tongtu.tensors import open_tensors


def saved(path: Path) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    arrays = {
        "large": draw.standard_normal((500, 64)).astype(np.float32),
        "small": draw.standard_normal(3),
        "one": np.array(7, np.int64),
        "none": np.zeros((0, 4), np.float32),
        "odd": draw.integers(0, 2, 70_001).astype(np.bool_),
        "half": draw.standard_normal(5).astype(np.float16),
    }
    save_file(arrays, path)
    return arrays


def test_arrays_are_those_of_the_file(tmp_path: Path) -> None:
    arrays, path = saved(tmp_path / "m.safetensors"), tmp_path / "m.safetensors"
    found, whole = open_tensors(path), load_file(path)
    assert found.keys() == arrays.keys() == whole.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape and found[name].flags.aligned
        assert np.array_equal(found[name], array)


def test_writing_changes_neither_the_file_nor_other_readers(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    arrays = saved(path)
    one, other = open_tensors(path)["large"], open_tensors(path)["large"]
    before = path.read_bytes()
    one[:] = 0
    assert np.array_equal(other, arrays["large"]) and path.read_bytes() == before


def test_a_file_that_was_replaced_stays_open_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    large = saved(path)["large"]
    found = open_tensors(path)["large"]
    save_file({"large": np.zeros((500, 64), np.float32)}, tmp_path / "new")
    (tmp_path / "new").replace(path)
    assert np.array_equal(found, large)


@pytest.mark.parametrize("damage", [b"", b"\x10", b"\xff" * 40, b"\x08\0\0\0\0\0\0\0not JSON"])
def test_what_is_no_such_file_is_refused(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(damage)
    with pytest.raises((SafetensorError, OSError, ValueError)):
        open_tensors(path)


def test_a_part_beyond_the_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    saved(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SafetensorError):
        open_tensors(path)


def test_numbers_that_numpy_has_not_are_refused(tmp_path: Path) -> None:
    header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"abcd")
    with pytest.raises(ValueError, match="BF16"):
        open_tensors(path)
