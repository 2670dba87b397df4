"""A PostgreSQL server of one's own for a drill: made, started, killed and removed here. Debian's programs are found where they lie."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Self

from _server import free_port


def found() -> Path | None:
    """The folder with PostgreSQL's programs, or None."""
    known = shutil.which("initdb")
    places = [Path(known).parent] if known else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


class Postgres:
    """A server on a free port that only this machine reaches; `url` is a store's address.

    As root it runs as the user postgres, since it refuses to run as root.
    """

    def __init__(self, folder: Path) -> None:
        bin = found()
        if bin is None:
            raise SystemExit("PostgreSQL's programs are not on this machine (Debian: postgresql)")
        self.bin, self.folder, self.port = bin, folder, free_port()
        self.url = f"postgresql+psycopg://tongtu@127.0.0.1:{self.port}/postgres"
        self._as: list[str] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            for part in self.folder.parents:
                if part.stat().st_uid == 0 and part.stat().st_mode & 0o777 == 0o700:  # of a temporary folder
                    part.chmod(0o711)
            self._as = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        self._run("initdb", "-D", str(self.folder / "data"), "-U", "tongtu", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop", check=False)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder}"
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-o", options, "-w", "start")

    def stop(self) -> None:
        """Stop it without waiting for its clients."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "fast", "-w", "stop")

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        command = [*self._as, str(self.bin / program), *arguments]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, cwd="/")
        if check and done.returncode:
            raise SystemExit(f"{program} failed: {done.stderr.strip()[-300:]}")
