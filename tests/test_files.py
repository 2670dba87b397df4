"""Files and folders stand whole or not at all: through errors, kills and full disks."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tongtu.errors import DataError, StorageError, writing
from tongtu.files import MANIFEST, check_manifest, new_file, new_folder, sha256, write_json


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_a_file_appears_only_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "facts.json"
    write_json(path, {"通途": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"通途": 1}
    with pytest.raises(RuntimeError, match="on purpose"), new_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("on purpose")
    assert json.loads(path.read_text(encoding="utf-8")) == {"通途": 1}
    assert names(path.parent) == {"facts.json"}


def test_a_folder_replaces_another_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for content in ("old", "new"):
        with new_folder(path) as folder:
            (folder / "part").mkdir()
            (folder / "part" / "a.txt").write_text(content)
            if content == "new":
                assert (path / "part" / "a.txt").read_text() == "old"
    assert (path / "part" / "a.txt").read_text() == "new"
    check_manifest(path, DataError, "copy it again", needed=["part/a.txt"])
    with pytest.raises(RuntimeError), new_folder(path) as folder:
        (folder / "a.txt").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == {"model"} and names(path) == {"part", MANIFEST}


def good_folder(tmp_path: Path) -> Path:
    with new_folder(tmp_path / "data") as folder:
        (folder / "a.bin").write_bytes(bytes(range(256)))
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("not json", "damaged"),
        ("[]", "does not list"),
        ("{}", "does not list"),
        ('{"a.bin": "0"}', "damaged"),
        ('{"a.bin": null}', "damaged"),
        ('{"a.bin": "0", "../../etc/passwd": "0"}', "damaged"),
        ('{"../outside": "0", "a.bin": "0"}', "outside its folder"),
        ('{"/etc/passwd": "0", "a.bin": "0"}', "outside its folder"),
        ('{"sub/../../outside": "0", "a.bin": "0"}', "outside its folder"),
        ('{"": "0", "a.bin": "0"}', "missing"),
        ('{"b.bin": "0", "a.bin": "0"}', "missing"),
    ],
)
def test_a_wrong_manifest_is_refused_in_one_line(tmp_path: Path, content: str, told: str) -> None:
    folder = good_folder(tmp_path)
    (folder / MANIFEST).write_text(content)
    with pytest.raises(DataError, match=told) as caught:
        check_manifest(folder, DataError, "copy it again", needed=["a.bin"])
    assert "\n" not in str(caught.value)


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    folder = good_folder(tmp_path)
    file = folder / "a.bin"
    good = file.read_bytes()
    for place in range(0, 256, 17):
        file.write_bytes(good[:place] + bytes([good[place] ^ (1 << place % 8)]) + good[place + 1 :])
        with pytest.raises(DataError, match="is damaged"):
            check_manifest(folder, DataError, "copy it again")
        file.write_bytes(good[:place])
        with pytest.raises(DataError, match="is damaged"):
            check_manifest(folder, DataError, "copy it again")
    file.unlink()
    with pytest.raises(DataError, match="is missing"):
        check_manifest(folder, DataError, "copy it again")
    (folder / MANIFEST).unlink()
    with pytest.raises(DataError, match="has no MANIFEST"):
        check_manifest(folder, DataError, "copy it again")


WRITER = """
    import sys
    from pathlib import Path
    from tongtu.files import new_folder
    number = 0
    while True:
        number += 1
        with new_folder(Path(sys.argv[1])) as folder:
            for name in "abc":
                (folder / name).write_text(f"{number:08}" * 2000)
        print(number, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_folder(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for kill in range(12):
        writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(kill * 0.0013)
        writer.send_signal(signal.SIGKILL)
        told = [1, *(int(line) for line in writer.stdout.read().split())][-1]
        writer.wait()
        writer.stdout.close()
        check_manifest(path, DataError, "restore it", needed="abc")
        found = {(path / name).read_text()[:8] for name in "abc"}
        assert len(found) == 1 and int(found.pop()) >= told, "what was reported as written must be there"


FILLER = """
    import resource, signal, sys
    from pathlib import Path
    import numpy as np
    import polars as pl
    from safetensors.numpy import save_file
    from tongtu.errors import StorageError
    from tongtu.files import new_folder, new_file
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    numbers = np.random.default_rng(0).random(50_000)
    ways = {
        "bytes": lambda file: file.write_bytes(bytes(200_000)),
        "safetensors": lambda file: save_file({"a": numbers}, file),
        "parquet": lambda file: pl.DataFrame({"a": numbers}).write_parquet(file),
        "numpy": lambda file: np.save(file.open("wb"), numbers),
    }
    for way, write in ways.items():
        for writing in (new_folder, new_file):
            try:
                with writing(Path(sys.argv[1]) / writing.__name__) as place:
                    write(place / "weights" if writing is new_folder else place)
            except StorageError as error:
                print(way, error)
"""


def test_a_full_disk_is_told_in_one_line_and_harms_nothing(tmp_path: Path) -> None:
    with new_folder(tmp_path / "new_folder") as folder:
        (folder / "weights").write_text("good")
    (tmp_path / "new_file").write_text("good")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(FILLER), str(tmp_path)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [way for way in ("bytes", "safetensors", "parquet", "numpy") for _ in range(2)], done
    assert all("no room left" in line and "unchanged" in line for line in lines), done
    assert (tmp_path / "new_file").read_text() == (tmp_path / "new_folder" / "weights").read_text() == "good"
    check_manifest(tmp_path / "new_folder", DataError, "restore it")
    assert names(tmp_path) == {"new_folder", "new_file"}


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "no room left to write .*free some disk space"),
        (errno.EDQUOT, "no room left"),
        (errno.EACCES, "not allowed to write .*permissions"),
        (errno.EROFS, "not allowed to write"),
    ],
)
def test_the_systems_refusals_name_the_remedy(tmp_path: Path, number: int, told: str) -> None:
    with pytest.raises(StorageError, match=told), writing(tmp_path / "x"):
        raise OSError(number, "refused")


def test_other_errors_of_the_system_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writing(tmp_path):
        (tmp_path / "none").read_text()


def test_sha256_is_the_known_one(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
