"""The program of a worker process: it holds opened models and answers what comes over its socket, one thing after another.

Started as `python -m tongtu.serve.engine.worker DESCRIPTOR PARENT`. One thread answers; a second opens models, so that those being
served go on answering meanwhile. The process ends when its socket closes or the one that started it is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from tongtu.errors import TongtuError
from tongtu.serve.engine.frames import Frame, Wire

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl
_SWITCH = 5e-4  # seconds after which Python hands over to the other thread: opening a model must not hold up an answer for long

log = logging.getLogger("tongtu.serve.worker")

Handler = Callable[[Frame], Any]


class Worker:
    """What a worker process does with each frame.

    Args:
        wire: To the process that started it.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.opened: dict[str, Any] = {}
        self._slow: queue.SimpleQueue[tuple[Handler, Frame]] = queue.SimpleQueue()
        self._at_once: Mapping[str, Handler] = {
            "recommend": lambda frame: self._model(frame).answers(frame["questions"]),
            "similar": lambda frame: self._model(frame).similar(frame["item"], frame["k"]),
            "explain": lambda frame: self._model(frame).reasons(frame["question"], frame["items"]),
            "talk": self._talk,
        }
        self._aside: Mapping[str, Handler] = {"load": self._load, "extend": self._extend, "prepare": self._prepare}

    def run(self) -> None:
        """Answer until the socket closes."""
        threading.Thread(target=self._open_models, name="loader", daemon=True).start()
        self.wire.send({"ready": True, "pid": os.getpid()})
        while (frame := self.wire.receive()) is not None:
            if frame["do"] in self._aside:
                self._slow.put((self._aside[frame["do"]], frame))
            elif frame["do"] == "unload":
                self._slow.put((self._unload, frame))
            else:
                self._answer(self._at_once[frame["do"]], frame)

    def _answer(self, handler: Handler, frame: Frame) -> None:
        try:
            found = {"id": frame["id"], "ok": handler(frame)}
        except Exception as error:
            found = {"id": frame["id"], "error": told(error)}
        self.wire.send(found)

    def _open_models(self) -> None:
        while True:
            handler, frame = self._slow.get()
            try:
                self._answer(handler, frame)
            except OSError:
                return

    def _model(self, frame: Frame) -> Any:
        return self.opened[frame["version"]]

    def _prepare(self, frame: Frame) -> bool:
        from tongtu.serve.engine.opened import prepare

        prepare(frame["class"])
        return True

    def _load(self, frame: Frame) -> Any:
        from tongtu.serve.engine.opened import open_version

        model = open_version(frame)
        self.opened[frame["version"]] = model
        return model.facts()

    def _unload(self, frame: Frame) -> bool:
        return self.opened.pop(frame["version"], None) is not None

    def _extend(self, frame: Frame) -> int:
        model = self._model(frame)
        other, added = model.extended(frame["items"])
        if self.opened.get(frame["version"]) is model:
            self.opened[frame["version"]] = other
        return int(added)

    def _talk(self, frame: Frame) -> Any:
        from tongtu.serve.engine.talking import turn

        return turn(self._model(frame), frame, lambda stage: self.wire.send({"id": frame["id"], "part": {"stage": stage}}))


def told(error: Exception) -> dict[str, str]:
    """An error as the front hears of it: a user's mistake in its own words, any other with the traceback left in the log here."""
    if isinstance(error, TongtuError):
        return {"kind": type(error).__name__, "message": str(error)}
    log.exception("a question could not be answered", exc_info=error)
    return {"kind": "ModelFailed", "message": f"the model failed ({type(error).__name__}): the reason stands in the service's log"}


def end_with_parent(parent: int) -> None:
    """Let the system end this process when the one that started it is gone, however it went."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it went before the system knew
        os._exit(1)


def main() -> None:
    """Run a worker on the socket that was handed over."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    end_with_parent(parent)
    logging.basicConfig(format="%(asctime)s worker %(process)d %(levelname)s %(message)s")
    for stop in (signal.SIGINT, signal.SIGTERM):  # these reach the whole group; the front decides when its workers end
        signal.signal(stop, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH)
    with socket.socket(fileno=descriptor) as sock, contextlib.suppress(OSError):
        Worker(Wire(sock)).run()
    sys.stderr.flush()
    os._exit(0)  # the loader may be at work, and nothing it holds needs to be kept


if __name__ == "__main__":
    main()
