"""Open-loop load from a process of its own: requests leave when they are due, however slow the answers are.

Latencies count from the moment a request was due, so that time spent waiting for a free connection counts too. `_server.load` starts this file; each
answer becomes a row [second it was due, milliseconds, status, Retry-After, version, first item, milliseconds since it was sent]. Statuses below 0 are
no answers at all: `REFUSED` (no connection), `BROKEN` (lost before an answer) and `LATE` (none within the patience). A connection that was kept open and
turns out to be closed is replaced once, as every client does it (RFC 9110, section 9.2.2). With `--heed-ready` it behaves as a balancer does: nothing is
sent any more once /health/ready has said no.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

REFUSED, BROKEN, LATE = -1, -2, -3
_VERSION = re.compile(rb'"version":"([^"]*)"')
_FIRST = re.compile(rb'"items":\[\{"id":"([^"]*)"')
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_RETRY = re.compile(rb"\r\nretry-after: ([^\r]*)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: close", re.IGNORECASE)


class Connection:
    """One connection, opened when it is needed and again when it was closed."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> list[Any]:
        """[status, Retry-After, version, first item]."""
        for fresh in (self.streams is None, True):
            try:
                if self.streams is None:
                    self.streams = await asyncio.open_connection(self.host, self.port)
            except OSError:
                return [REFUSED, None, None, None]
            try:
                return await self._asked(request)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.close()
                begun = isinstance(error, asyncio.IncompleteReadError) and error.partial
                if fresh or begun:
                    return [BROKEN, None, None, None]
        raise AssertionError

    async def _asked(self, request: bytes) -> list[Any]:
        assert self.streams is not None
        reader, writer = self.streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        try:
            body = await reader.readexactly(int(length[1])) if length else b""
        except asyncio.IncompleteReadError as error:
            raise asyncio.IncompleteReadError(head + error.partial, None) from None
        if _CLOSE.search(head):
            self.close()
        status, retry = int(head[9:12]), _RETRY.search(head)
        version, first = (_VERSION.search(body), _FIRST.search(body)) if status == 200 else (None, None)
        return [status, *(None if found is None else found[1].decode() for found in (retry, version, first))]

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
        self.streams = None


async def run(options: argparse.Namespace) -> list[list[Any]]:
    requests = [raw(one, options) for one in json.loads(Path(options.requests).read_text())]
    due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    rows: list[list[Any]] = []
    began = time.perf_counter() + 0.1

    async def worker() -> None:
        connection = Connection(options.host, options.port)
        while True:
            when, request = await due.get()
            sent = time.perf_counter()
            try:
                async with asyncio.timeout(options.patience):
                    found = await connection.ask(request)
            except TimeoutError:
                connection.close()
                found = [LATE, None, None, None]
            now = time.perf_counter()
            rows.append([round(when - began, 4), round(1000 * (now - when), 3), *found, round(1000 * (now - sent), 3)])
            due.task_done()

    ready = asyncio.Event()
    ready.set()
    watcher = asyncio.create_task(watch(ready, options)) if options.heed_ready else None
    workers = [asyncio.create_task(worker()) for _ in range(options.connections)]
    for number in range(int(options.rate * options.seconds)):
        when = began + number / options.rate
        if (wait := when - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        if not ready.is_set():
            break
        due.put_nowait((when, requests[number % len(requests)]))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(options.patience + 5):
            await due.join()
    tasks = [*workers, *([watcher] if watcher else [])]
    for one in tasks:
        one.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    left = [[round(when - began, 4), 1000 * options.patience, LATE, None, None, None, 0.0] for when, _ in (due.get_nowait() for _ in range(due.qsize()))]
    return rows + left


async def watch(ready: asyncio.Event, options: argparse.Namespace) -> None:
    """Ask for readiness ten times a second, and tell when it is over."""
    request = raw(["GET", "/health/ready", None], options)
    while ready.is_set():
        if (await Connection(options.host, options.port).ask(request))[0] != 200:
            ready.clear()
        await asyncio.sleep(0.1)


def raw(request: list[Any], options: argparse.Namespace) -> bytes:
    """A request as it goes over the line."""
    method, path, body = request
    content = b"" if body is None else json.dumps(body).encode()
    key = f"authorization: Bearer {options.key}\r\n" if options.key else ""
    head = f"{method} {path} HTTP/1.1\r\nhost: {options.host}:{options.port}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n{key}\r\n"
    return head.encode() + content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--requests", required=True, help="a JSON file: [[method, path, body], ...], sent in turn")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--patience", type=float, default=10.0)
    parser.add_argument("--key", default="")
    parser.add_argument("--heed-ready", action="store_true")
    options = parser.parse_args()
    try:
        import uvloop

        rows = uvloop.run(run(options))
    except ImportError:
        rows = asyncio.run(run(options))
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
