"""A private PostgreSQL server in a temporary folder, reachable only through a socket in it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg


@dataclass
class Postgres:
    """A server and where it lies."""

    folder: Path
    programs: Path
    process: subprocess.Popen[bytes] | None = None

    def new_database(self) -> str:
        """The address of a schema of its own: made at once, where a database takes a second."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(host=str(self.folder), user="tongtu", dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"postgresql+psycopg://tongtu@/postgres?host={self.folder}&options=-csearch_path%3D{name}"

    def start(self) -> None:
        # A crash of the machine is not among the tests; without its syncs a database is made in a tenth of the time.
        settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60", "-k", str(self.folder)]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen([self.programs / "postgres", "-D", self.folder / "data", *settings], stdout=log, stderr=log, cwd=self.folder, **owner())
        log.close()
        for _ in range(600):
            try:
                psycopg.connect(host=str(self.folder), user="tongtu", dbname="postgres").close()
                return
            except psycopg.OperationalError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        """As a crash does, without cleaning up."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)


@contextmanager
def postgres_cluster() -> Iterator[Postgres]:
    programs = find_programs()
    folder = Path(tempfile.mkdtemp(prefix="tongtu-pg-"))
    server = Postgres(folder, programs)
    try:
        if "user" in (runs_as := owner()):
            os.chown(folder, runs_as["user"], runs_as["group"])
        make = [programs / "initdb", "-D", folder / "data", "-U", "tongtu", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run(make, check=True, capture_output=True, cwd=folder, **runs_as)
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def find_programs() -> Path:
    on_path = [Path(found).parent for found in [shutil.which("initdb")] if found]
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    for folder in [*on_path, *packaged]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise AssertionError("no PostgreSQL server programs: install them (Debian: apt-get install postgresql)")


def owner() -> dict[str, Any]:
    """The server refuses to be root's."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
