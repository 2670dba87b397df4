"""Kill a training run with SIGKILL at random moments, resume it each time, and compare with an unbroken one.

`python kill.py FOLDER POINTS SEED`. The runs are forks of this process, which has imported torch but started no thread of it,
so that a run costs its training and not the import.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from tiny import tiny_fit


def digest(out: Path) -> str:
    """Of final weights and curves, seconds left out."""
    sums = hashlib.sha256((out / "weights").read_bytes())
    sums.update((out / "curves").read_bytes())
    return sums.hexdigest()


def start(out: Path, resume: bool) -> int:
    child = os.fork()
    if child:
        return child
    try:
        out.mkdir(parents=True, exist_ok=True)
        model = tiny_fit(out, resume)
        curves = [{k: v for k, v in row.items() if k != "seconds"} for row in model.provenance["curves"]]
        (out / "curves").write_text(json.dumps(curves))
        (out / "weights").write_bytes(b"".join(tensor.numpy().tobytes() for tensor in model.net.state_dict().values()))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def finish(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, points: int, seed: int) -> None:
    torch.set_num_threads(1)
    began = time.monotonic()
    assert finish(start(folder / "unbroken", False)) == 0
    lasted = time.monotonic() - began
    expected = digest(folder / "unbroken")
    draw, killed_midway, point = random.Random(seed), 0, 0
    while point < points or (killed_midway < points // 3 and point < 4 * points):  # on a busy machine more kills come too early or too late
        out = folder / f"run-{point}"
        child = start(out, False)
        time.sleep(draw.uniform(0, lasted))
        os.kill(child, signal.SIGKILL)
        finish(child)
        killed_midway += (out / "checkpoint").exists() and not (out / "curves").exists()
        assert finish(start(out, True)) == 0, f"point {point}: the resumed run failed"
        assert digest(out) == expected, f"point {point}: the resumed run differs"
        shutil.rmtree(out)
        point += 1
    print(json.dumps({"points": point, "killed_midway": killed_midway, "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
