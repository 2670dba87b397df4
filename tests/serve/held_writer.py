"""A writer that is busy."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from sqlalchemy import Connection

from tongtu.serve.store import Store


class Held:
    """Keeps the writer of a store busy until `free` is called, so that what comes meanwhile goes into one group."""

    def __init__(self, store: Store) -> None:
        self._go, busy = threading.Event(), threading.Event()

        def wait(_connection: Connection) -> None:
            busy.set()
            assert self._go.wait(60)

        self.job: Future[None] = store.writer.submit(wait)
        assert busy.wait(60)

    def free(self) -> None:
        self._go.set()
        self.job.result()
