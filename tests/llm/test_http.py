"""The HTTP client against a real server on this machine that behaves well and badly."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from chat_server import chat_server, tool_call

from tongtu.errors import BudgetError, ConfigError, LanguageModelError
from tongtu.llm.cached import CachedModel, _asked
from tongtu.llm.http import HTTPModel, Patience, from_name
from tongtu.llm.ledger import Budget, Ledger
from tongtu.llm.model import PromptRefused, Sampling, Tool, ToolCall, ask

QUICK = Patience(seconds=1.0, tries=3, pause=0.01, longest=0.5)


class Server(ThreadingHTTPServer):
    """Answers each prompt with its last word in capitals, after doing what `faults` says, one after another."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.under_way = self.most = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        server = self.server
        with server.lock:
            server.under_way += 1
            server.most = max(server.most, server.under_way)
            fault = server.faults.pop(0) if server.faults else ""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.bodies.append(body)
        server.keys.append(self.headers.get("Authorization"))
        try:
            self.answer(fault, body)
        finally:
            with server.lock:
                server.under_way -= 1

    def answer(self, fault: str, body: dict[str, Any]) -> None:
        word = body["messages"][-1]["content"].split()[-1].upper()
        if fault == "hang up":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault.isdecimal():
            self.send(int(fault), b'{"error": "no"}')
        elif fault == "schema":
            self.send(400, b'{"error": "response_format is not supported"}')
        elif fault == "later":
            self.send(429, b"{}", {"Retry-After": "0.3"})
        elif fault == "much later":
            self.send(429, b"{}", {"Retry-After": "900"})
        elif fault == "slow":
            time.sleep(1.5)
        elif fault == "uncounted":
            self.send(200, json.dumps({"choices": [{"message": {"content": word}, "finish_reason": "stop"}]}).encode())
        elif fault == "garbled":
            self.send(200, b"no gzip", {"Content-Encoding": "gzip"})
        elif fault == "nonsense":
            self.send(200, b"<html>welcome</html>")
        else:
            if fault == "pause":
                time.sleep(0.1)
            answer = {"choices": [{"message": {"content": word}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}
            self.send(200, json.dumps(answer).encode())

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def model(server: Server, patience: Patience = QUICK) -> HTTPModel:
    return HTTPModel("tiny", server.url, patience)


def test_asks_as_the_protocol_says(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGTU_LLM_KEY", "secret")
    asked = model(server)
    (found,) = asked.complete([ask("say yes", system="be brief")], Sampling(temperature=0.5, max_tokens=9, seed=3))
    assert (found.text, found.prompt_tokens, found.tokens, found.cut) == ("YES", 7, 1, False)
    assert server.bodies == [
        {
            "model": "tiny",
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "say yes"}],
            "temperature": 0.5,
            "max_tokens": 9,
            "seed": 3,
        }
    ]
    assert server.keys == ["Bearer secret"] and "secret" not in asked.name + asked.fingerprint + repr(vars(asked).get("_model"))


@pytest.mark.parametrize("faults", [["500"], ["429", "503"], ["later"], ["hang up"], ["slow"], ["hang up", "502"]])
def test_tries_again_after_what_may_pass(server: Server, faults: list[str]) -> None:
    server.faults = list(faults)
    started = time.monotonic()
    assert model(server).complete([ask("say yes")])[0].text == "YES"
    assert len(server.bodies) == len(faults) + 1
    if faults == ["later"]:
        assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(
    ("faults", "told", "asked"),
    [
        (["500"] * 9, "does not answer .HTTP 500", 3),
        (["much later"], "does not answer .HTTP 429", 1),
        (["401"], "refuses the key .HTTP 401.*TONGTU_LLM_KEY", 1),
        (["404"], "refuses .HTTP 404.*model's name", 1),
        (["nonsense"], "no chat completion", 1),
        (["garbled"] * 3, "does not answer", 3),
    ],
)
def test_gives_up_with_one_line(server: Server, faults: list[str], told: str, asked: int) -> None:
    server.faults = list(faults)
    with pytest.raises(LanguageModelError, match=told) as caught:
        model(server).complete([ask("say yes")])
    assert len(server.bodies) == asked and "\n" not in str(caught.value)


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(LanguageModelError, match="check that the server runs"):
        HTTPModel("tiny", f"http://127.0.0.1:{port}/v1", QUICK).complete([ask("say yes")])


@pytest.mark.parametrize("url", ["http://127.0.0.1:port/v1", "http://[::1/v1", "http://", "ftp://host/v1"])
def test_an_address_that_is_none_is_told_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match=r"one like http://127\.0\.0\.1:8000/v1"):
        from_name(f"openai:tiny@{url}")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("<think>\n[A] is a trap, [B] it is\n</think>\n\n[B]\n[A]", "[B]\n[A]"),
        ("[A] looks good, but\n</think>\n[B]", "[B]"),  # the chat template has opened it in the prompt
        ("<think>[A] or [B], that is", ""),  # cut off before the answer
        ("I think [A]", "I think [A]"),
    ],
)
def test_what_a_model_thinks_aloud_is_no_part_of_its_answer(written: str, text: str) -> None:
    with chat_server(lambda body: written) as server:
        assert HTTPModel("tiny", server.url).complete([ask("choose")])[0].text == text


def test_some_prompts_are_under_way_together_and_answers_keep_their_order(server: Server) -> None:
    server.faults = ["pause"] * 40
    words = [f"w{i}" for i in range(20)]
    found = model(server, Patience(seconds=5, at_once=4)).complete([ask(word) for word in words])
    assert [one.text for one in found] == [word.upper() for word in words]
    assert 2 <= server.most <= 4


def test_a_schema_is_sent_and_left_out_where_the_server_knows_none(server: Server) -> None:
    schema = {"type": "object"}
    model(server).complete([ask("yes")], Sampling(schema=schema))
    assert server.bodies[0]["response_format"]["json_schema"]["schema"] == schema
    server.faults = ["schema"]
    assert model(server).complete([ask("yes")], Sampling(schema=schema))[0].text == "YES"
    assert "response_format" not in server.bodies[-1]


@pytest.mark.parametrize(("fault", "of_this_prompt"), [("400", True), ("413", True), ("404", False), ("500", False)])
def test_a_refused_prompt_is_told_from_a_refused_model(server: Server, fault: str, of_this_prompt: bool, tmp_path: Path) -> None:
    server.faults = [fault] * 9
    with pytest.raises(LanguageModelError) as caught:
        CachedModel(model(server), file=tmp_path / "answers.sqlite").complete([ask("say yes")])
    assert isinstance(caught.value, PromptRefused) == of_this_prompt


def test_one_refused_prompt_loses_no_answer_that_was_paid_for(server: Server, tmp_path: Path) -> None:
    server.faults = ["", "", "", "404"]
    asked = CachedModel(model(server, Patience(at_once=1)), file=tmp_path / "answers.sqlite")
    prompts = [ask(f"w{i}") for i in range(10)]
    with pytest.raises(LanguageModelError, match="HTTP 404"):
        asked.complete(prompts)
    answered = len(server.bodies) - 1
    assert answered == 3, "after a failure no further prompt begins"
    assert (asked.ledger.calls, asked.ledger.tokens) == (answered, 8 * answered)
    found = asked.complete(prompts)
    assert [one.text for one in found] == [f"W{i}" for i in range(10)] and all(one.seconds > 0 for one in found)
    assert len(server.bodies) == 11, "each prompt was answered once, the refused one asked twice"


def test_a_budget_holds_for_a_server_that_does_not_count(server: Server, tmp_path: Path) -> None:
    server.faults = ["uncounted"] * 200
    ledger = Ledger(budget=Budget(tokens=3_000))
    asked = CachedModel(model(server), ledger, tmp_path / "answers.sqlite")
    with pytest.raises(LanguageModelError, match="would be exceeded"):
        for i in range(200):
            asked.complete([ask(f"w{i}")], Sampling(max_tokens=50))
    assert 10 < len(server.bodies) < 100 and 0 < ledger.tokens <= 3_000


TOOL = Tool(name="look", description="Look something up.", parameters={"type": "object", "properties": {"query": {"type": "string"}}})


def test_tools_go_out_and_calls_come_back() -> None:
    said = tool_call("look", {"query": "tea"})
    said["tool_calls"] += [tool_call("look", "{broken")["tool_calls"][0], tool_call("look", "[1]")["tool_calls"][0]]
    with chat_server(lambda body: said if "tools" in body else "plain") as running:
        asked = HTTPModel("tiny", running.url, QUICK)
        (found,) = asked.complete([ask("tea?")], Sampling(tools=(TOOL,)))
        assert found.calls == (ToolCall("look", {"query": "tea"}),) and found.text == "" and asked.calls_tools
        function = {"name": "look", "description": TOOL.description, "parameters": TOOL.parameters}
        assert running.bodies[0]["tools"] == [{"type": "function", "function": function}]
        assert asked.complete([ask("tea?")])[0].calls == () and "tools" not in running.bodies[1]


def test_a_server_without_tools_is_asked_without_them_ever_after() -> None:
    with chat_server(lambda body: 400 if "tools" in body else "plain") as running:
        asked = HTTPModel("tiny", running.url, QUICK)
        assert [asked.complete([ask(word)], Sampling(tools=(TOOL,)))[0].text for word in ("a", "b")] == ["plain", "plain"]
        assert not asked.calls_tools and ["tools" in body for body in running.bodies] == [True, False, False]
    with chat_server(lambda body: 404) as running:
        asked = HTTPModel("tiny", running.url, QUICK)
        with pytest.raises(LanguageModelError):
            asked.complete([ask("a")], Sampling(tools=(TOOL,)))
        assert asked.calls_tools, "another refusal says nothing of tools"


def test_calls_are_cached_and_old_answers_are_found(tmp_path: Path) -> None:
    with chat_server(lambda body: tool_call("look", {"query": "tea"}) if "tools" in body else "plain") as running:
        for _ in range(2):
            asked = CachedModel(HTTPModel("tiny", running.url, QUICK), file=tmp_path / "answers.sqlite")
            assert asked.calls_tools and asked.complete([ask("tea?")], Sampling(tools=(TOOL,)))[0].calls == (ToolCall("look", {"query": "tea"}),)
            assert asked.complete([ask("tea?")])[0].text == "plain"
        assert len(running.bodies) == 2
        tight = CachedModel(HTTPModel("tiny", running.url, QUICK), Ledger(budget=Budget(tokens=100)), tmp_path / "tight.sqlite")
        tight.complete([ask("a")], Sampling(max_tokens=1))
        with pytest.raises(BudgetError):
            tight.complete([ask("b")], Sampling(max_tokens=1, tools=(TOOL,)))
    assert "tools" not in _asked(Sampling()) and _asked(Sampling(tools=(TOOL,)))["tools"]


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://api.openai.com/v1", "Bearer own"),
        ("https://eu.api.openai.com/v1", "Bearer own"),
        ("https://api.openai.com.example.org/v1", None),
        ("https://notopenai.com/v1", None),
        ("http://127.0.0.1:8000/v1", None),
    ],
)
def test_the_key_of_openai_goes_to_openai_alone(url: str, sent: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TONGTU_LLM_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "own")
    heard: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        heard.append(request.headers.get("Authorization"))
        return httpx.Response(200, json={"choices": [{"message": {"content": "yes"}}]})

    HTTPModel("m", url, transport=httpx.MockTransport(answer)).complete([ask("?")])
    monkeypatch.setenv("TONGTU_LLM_KEY", "given")
    HTTPModel("m", url, transport=httpx.MockTransport(answer)).complete([ask("?")])
    assert heard == [sent, "Bearer given"]
