"""The HTTP client against a real server of language models, `transformers serve`, on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import polars as pl
import pytest
from tiny_causal import TEMPLATE, write_tiny_causal

from tongtu.core import Request
from tongtu.data.synthetic import attribute_world
from tongtu.errors import LanguageModelError
from tongtu.llm.cached import CachedModel
from tongtu.llm.http import HTTPModel, Patience
from tongtu.llm.local import open_local
from tongtu.llm.model import Message, Sampling, ask
from tongtu.systems.baselines.popular import Popular
from tongtu.systems.prompted.conversation import Conversation, ConversationConfig

for needed in ("fastapi", "uvicorn", "openai"):
    pytest.importorskip(needed, reason="needs pip install 'transformers[serving]'")

START_SECONDS = 90
PROMPTS = [ask(text) for text in ("jazz piano", "running shoes what next", "record", "what next piano")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_causal(tmp_path_factory.mktemp("model"), TEMPLATE)


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    told = tmp_path_factory.mktemp("log") / "serve.log"
    with told.open("w") as log:
        running = subprocess.Popen([*command, "--dtype", "float32"], env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(f"http://127.0.0.1:{port}/health", running, told)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        running.terminate()
        running.wait(30)


def _wait(address: str, running: subprocess.Popen[bytes], told: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and running.poll() is None:
        try:
            if httpx.get(address, timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"the server did not start: {told.read_text(encoding='utf-8')[-2000:]}")


@pytest.mark.slow
def test_a_server_answers_like_the_model_in_process(folder: Path, url: str) -> None:
    expected = open_local("tiny", folder).complete(PROMPTS, Sampling(max_tokens=8))
    assert len({one.text for one in expected}) > 1
    found = HTTPModel(str(folder), url, Patience(seconds=60, tries=1, at_once=2)).complete(PROMPTS, Sampling(max_tokens=8))
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.prompt_tokens for one in found] == [one.prompt_tokens for one in expected], "the server counts what it reads"
    assert all(one.tokens > 0 for one in found)


@pytest.mark.slow
def test_several_turns_and_a_schema_pass(folder: Path, url: str) -> None:
    turns = (Message("system", "record"), Message("user", "jazz"), Message("assistant", "piano"), Message("user", "what next"))
    asked = HTTPModel(str(folder), url, Patience(seconds=60, tries=1))
    (expected,) = open_local("tiny", folder).complete([turns], Sampling(max_tokens=8))
    for sampling in (Sampling(max_tokens=8), Sampling(max_tokens=8, schema={"type": "object"})):
        assert asked.complete([turns], sampling)[0].text == expected.text


@pytest.mark.slow
def test_a_model_the_server_lacks_is_told_in_one_line(url: str) -> None:
    with pytest.raises(LanguageModelError) as caught:
        HTTPModel("no/such/model", url, Patience(seconds=60, tries=1)).complete([ask("jazz")])
    assert "\n" not in str(caught.value) and "no/such/model" in str(caught.value)


@pytest.mark.slow
def test_a_conversation_keeps_its_form_whatever_a_tiny_model_writes(folder: Path, url: str, tmp_path: Path) -> None:
    data = attribute_world(users=60, items=30, length=9, seed=1).data
    model = CachedModel(HTTPModel(str(folder), url, Patience(seconds=60, tries=1)), file=tmp_path / "answers.sqlite")
    talk = Conversation(Popular().fit(data), model, Request(history=data.history(1)), ConversationConfig(max_tokens=8, candidates=4, max_history=2))
    talk.add_items(pl.DataFrame({"id": ["n1"], "text": ["a lighthouse"]}))
    replies = [talk.turn(text) for text in ("jazz piano", "no espresso", "why number 2?", "a lighthouse")]
    titles = dict(zip(data.items.ids, data.item_text, strict=True)) | {"n1": "a lighthouse"}
    for reply in replies:
        assert reply.outside or (reply.items and all(titles[item.id] == item.title for item in reply.items))
        assert "espresso" not in " ".join(item.title for item in reply.items) and (not reply.degraded or reply.notes["degraded"])
    assert not replies[2].used_recommender and [item.id for item in replies[2].items] == [replies[1].items[1].id]
