"""`tongtu serve` as a process of its own, over sockets: its start, bodies without a length, clients that leave, and its end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from served import fitted

from tongtu.errors import ConfigError
from tongtu.serve.run import bound


class Process:
    """A running `tongtu serve`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.lines: list[str] = []
        command = [sys.executable, "-m", "tongtu", "serve", *options, "--port", "0", "--store", f"sqlite:///{folder / 'store.db'}"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.port = self._port()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    def _port(self) -> int:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            for line in self.lines:
                if line.startswith("Page"):
                    return int(line.rstrip().rstrip("/").rpartition(":")[2])
            assert self.process.poll() is None, "".join(self.lines)
            time.sleep(0.05)
        raise AssertionError("it never said where it listens")

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def get(self, path: str) -> tuple[int, dict[str, object]]:
        with closing(self.connect()) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def post(self, body: bytes | Iterator[bytes]) -> tuple[int, str, bytes]:
        with closing(self.connect()) as connection:
            chunked = not isinstance(body, bytes)
            connection.request("POST", "/v1/recommend", body, {"Content-Type": "application/json"}, encode_chunked=chunked)
            answer = connection.getresponse()
            return answer.status, answer.headers["content-type"], answer.read()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def until_ready(self) -> None:
        until = time.monotonic() + 120
        while self.get("/health/ready")[0] != 200:
            assert time.monotonic() < until
            time.sleep(0.1)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    models = fitted(tmp_path_factory.mktemp("models"))[0]
    running = Process(tmp_path_factory.mktemp("run"), f"ease={models['ease']}", "--workers", "1", "--set", "linger=0.5", "--set", "drain=15")
    running.until_ready()
    yield running
    running.end()


def test_it_says_what_is_served_and_where(process: Process) -> None:
    text = "".join(process.lines)
    for begin in ("Models    ease (", "Page      http://127.0.0.1:", "API       http://", "Store     sqlite:///", "Access    open to everybody"):
        assert begin in text


def test_a_chunked_body_is_counted(process: Process) -> None:
    limit = 1 << 20
    event = b'{"history": [], "wish": "x", "k": 1}'

    def status(size: int) -> tuple[int, bytes]:
        body = event + b" " * (size - len(event))
        status, _, told = process.post(body[start : start + 60_000] for start in range(0, size, 60_000))
        return status, told

    assert status(limit)[0] == 200
    refused, told = status(limit + 1)
    assert refused == 413
    assert json.loads(told)["limit"] == {"name": "body", "value": limit}


def test_hostile_bodies_never_break_it(process: Process) -> None:
    bodies = [b"[" * 200_000, b'{"user":"\\ud800"}', b'{"k":1e999}', b'{"user":"\xff\xfe"}', b'{"k":' + b"9" * 100_000 + b"}", b"\x00", b'{"user":"a\\u0000"}']
    for body in bodies:
        status, kind, told = process.post(body)
        assert status in (400, 422), body[:40]
        assert kind == "application/problem+json"
        json.loads(told)


def test_a_client_that_leaves_is_noticed(process: Process) -> None:
    (worker,) = _children(process.process.pid)
    os.kill(worker, signal.SIGSTOP)
    try:
        body = b'{"k": 3}'
        with socket.create_connection(("127.0.0.1", process.port)) as sock:
            head = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            sock.sendall(head + body)
            time.sleep(0.4)
        left = time.monotonic()
        while not any('"status":499' in line for line in process.lines):
            assert time.monotonic() - left < 2, "the work went on"
            time.sleep(0.01)
        assert time.monotonic() - left < 1
    finally:
        if worker in _children(process.process.pid):
            os.kill(worker, signal.SIGCONT)
    process.until_ready()


def test_a_taken_port_is_told(process: Process) -> None:
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{process.port}"):
        bound("127.0.0.1", process.port)


def test_sigterm_under_load_drops_nothing(process: Process) -> None:
    stop, wrong, answered = threading.Event(), [], []
    refused: list[float] = []
    connections: list[http.client.HTTPConnection] = []

    def load() -> None:
        connection = process.connect()
        connections.append(connection)
        while not stop.is_set():
            try:
                if connection.sock is None:
                    connection.connect()
            except OSError:
                refused.append(time.monotonic())
                return
            try:
                connection.request("POST", "/v1/recommend", b'{"k": 3}', {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                answered.append(answer.status)
            except (OSError, http.client.HTTPException) as error:
                wrong.append(repr(error))
                return

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    began = time.monotonic()
    process.process.send_signal(signal.SIGTERM)
    time.sleep(0.15)
    assert process.get("/health/ready") == (503, {"status": "not ready", "reasons": ["it is being stopped"]})
    assert process.process.wait(20) == 0
    took = time.monotonic() - began
    stop.set()
    for thread in threads:
        thread.join()
    for connection in connections:
        connection.close()
    assert took < 15
    assert not wrong
    assert len(refused) == 6
    assert answered
    assert set(answered) <= {200, 503}
    assert not _children(process.process.pid)


def test_a_mistake_ends_with_2_and_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tongtu", "serve", "--port", "0", "--store", f"sqlite:///{tmp_path / 'other.db'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert "error: there is no model to serve" in done.stderr
    assert "Traceback" not in done.stderr


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            if int(stat[1]) == pid:
                found.append(int(entry.name))
    return found
