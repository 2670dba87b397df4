"""Settings of every test run."""

from __future__ import annotations

import os

# The tests' networks are tiny: a second thread only waits, and on a busy machine two that wait for each other take many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
