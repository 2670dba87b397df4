"""Downloads against a real server on this machine: resume after a cut, changed files, wrong hashes, refusals."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tongtu.data.fetch import Download, Wheel, get
from tongtu.errors import DataError

CONTENT = bytes(range(256)) * 4096


class Server(ThreadingHTTPServer):
    """Serves one file; `cut` ends that many answers half way, `tag` is the file's version, `ranges` whether parts can be asked for."""

    content = CONTENT
    tag = '"one"'
    cut = 0
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range", "")
        server.asked.append(wanted)
        if self.path != "/file.zip":
            self.send_error(404)
            return
        unchanged = server.ranges and self.headers.get("If-Range") == server.tag
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and unchanged else 0
        body = server.content[start:]
        if start and not body:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.tag)
        self.end_headers()
        if server.cut:
            server.cut -= 1
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


def download(server: Server, digest: str | None = None, path: str = "file.zip") -> Download:
    return Download("file.zip", (f"http://127.0.0.1:{server.server_port}/{path}",), digest)


def sha(content: bytes = CONTENT) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_download_is_checked_and_kept(server: Server, tmp_path: Path) -> None:
    path = get(download(server, sha()), tmp_path, quiet=True, pause=0.01)
    assert path.read_bytes() == CONTENT
    assert get(download(server, sha()), tmp_path, quiet=True, pause=0.01) == path and len(server.asked) == 1
    assert get(download(server, f"md5:{hashlib.md5(CONTENT).hexdigest()}"), tmp_path, quiet=True, pause=0.01) == path
    assert [file.name for file in tmp_path.iterdir()] == ["file.zip"]


def test_cuts_go_on_where_they_ended(server: Server, tmp_path: Path) -> None:
    server.cut = 2
    assert get(download(server, sha()), tmp_path, quiet=True, pause=0.01).read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=").removesuffix("-") or 0) for asked in server.asked]
    assert starts[0] == 0 < starts[1] < starts[2] < len(CONTENT)


def test_a_stopped_program_goes_on_in_the_next(server: Server, tmp_path: Path) -> None:
    server.cut = 100
    with pytest.raises(DataError, match="could not be fetched"):
        get(download(server, sha()), tmp_path, quiet=True, pause=0.01)
    part = (tmp_path / "file.zip.part").stat().st_size
    assert 0 < part < len(CONTENT)
    server.cut, before = 0, len(server.asked)
    assert get(download(server, sha()), tmp_path, quiet=True, pause=0.01).read_bytes() == CONTENT
    assert server.asked[before:] == [f"bytes={part}-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changed_in_between_is_taken_anew(ranges: bool, server: Server, tmp_path: Path) -> None:
    server.cut = 100
    with pytest.raises(DataError):
        get(download(server), tmp_path, quiet=True, pause=0.01)
    server.cut, server.content, server.tag, server.ranges = 0, CONTENT[::-1], '"two"', ranges
    assert get(download(server), tmp_path, quiet=True, pause=0.01).read_bytes() == CONTENT[::-1]


def test_a_wrong_hash_is_refused_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the file that was expected"):
        get(download(server, sha(b"other")), tmp_path, quiet=True, pause=0.01)
    assert list(tmp_path.iterdir()) == []


def test_the_first_hash_is_remembered(server: Server, tmp_path: Path) -> None:
    path = get(download(server), tmp_path, quiet=True, pause=0.01)
    assert (tmp_path / "file.zip.digest").read_text() == sha() + "\n"
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(DataError, match="delete it and fetch again"):
        get(download(server), tmp_path, quiet=True, pause=0.01)
    path.unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(DataError, match="not the file that was expected"):
        get(download(server), tmp_path, quiet=True, pause=0.01)


def test_every_refusal_is_named_and_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/file.zip"
    absent, good = (download(server, path=path).addresses[0] for path in ("absent", "file.zip"))
    with pytest.raises(DataError, match=r"refused.* nor from .*absent \(HTTP 404 Not Found\)") as caught:
        get(Download("file.zip", (closed, absent)), tmp_path, quiet=True, pause=0.01)
    assert "\n" not in str(caught.value)
    assert get(Download("file.zip", (closed, absent, good), sha()), tmp_path, quiet=True, pause=0.01).read_bytes() == CONTENT


def test_pip_says_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DataError, match="pip could not download tongtu-absent==1"):
        get(Wheel("tongtu-absent==1", "absent.whl", sha()), tmp_path)


def test_pip_gives_another_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zipfile

    name = "tiny_films-1.0-py3-none-any.whl"
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / name, "w") as wheel:
        wheel.writestr("tiny_films-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-films\nVersion: 1.0\n")
        wheel.writestr("tiny_films-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny_films-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    good = sha((index / name).read_bytes())
    assert get(Wheel("tiny-films==1.0", name, good), tmp_path / "cache").name == name
    with pytest.raises(DataError, match="package index gave another file"):
        get(Wheel("tiny-films==1.0", name, sha(b"published")), tmp_path / "other")
