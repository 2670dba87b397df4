"""How messages cross a socket: the length in four bytes, then JSON. Nothing that is read here can be code."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Mapping
from typing import Any

import orjson

LARGEST = 64 << 20
_LENGTH = struct.Struct(">I")
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS

Frame = dict[str, Any]


def packed(frame: Mapping[str, Any]) -> bytes:
    """The bytes of one frame; what JSON does not know becomes text.

    Raises:
        ValueError: If it is larger than `LARGEST`.
    """
    body = orjson.dumps(frame, default=str, option=_OPTIONS)
    if len(body) > LARGEST:
        raise ValueError(f"a message of {len(body):,} bytes is larger than {LARGEST:,}")
    return _LENGTH.pack(len(body)) + body


class Splitter:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes.

        Raises:
            ValueError: If what comes is no frame.
        """
        self._rest += data
        found: list[Frame] = []
        start = 0
        while len(self._rest) - start >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._rest, start)
            if size > LARGEST:
                raise ValueError(f"a message of {size:,} bytes is larger than {LARGEST:,}")
            stop = start + _LENGTH.size + size
            if len(self._rest) < stop:
                break
            found.append(orjson.loads(memoryview(self._rest)[start + _LENGTH.size : stop]))
            start = stop
        del self._rest[:start]
        return found


class Wire:
    """Frames over a blocking socket; several threads may send."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket, self._sending = sock, threading.Lock()
        self._splitter, self._ready = Splitter(), list[Frame]()

    def send(self, frame: Mapping[str, Any]) -> None:
        """Send one frame whole.

        Raises:
            OSError: If the other side is gone.
        """
        data = packed(frame)
        with self._sending:
            self._socket.sendall(data)

    def receive(self) -> Frame | None:
        """The next frame, or None when the other side is gone."""
        while not self._ready:
            try:
                data = self._socket.recv(1 << 18)
            except ConnectionError:
                return None
            if not data:
                return None
            self._ready = self._splitter.feed(data)
        return self._ready.pop(0)
