"""A server on this machine that speaks OpenAI's chat protocol and answers as a function says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], dict[str, Any] | str | int | float]
"""From a body to a message, its text, an HTTP status of failure, or seconds (a float) to wait before an answer."""


class ChatServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.bodies = answer, list[dict[str, Any]]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        said = self.server.answer(body)
        if isinstance(said, float):
            time.sleep(said)
            said = "late"
        status = said if isinstance(said, int) else 200
        message = said if isinstance(said, dict) else {"role": "assistant", "content": str(said)}
        usage = {"prompt_tokens": 10, "completion_tokens": 2}
        content = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a client that did not wait

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def chat_server(answer: Answer) -> Iterator[ChatServer]:
    running = ChatServer(answer)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield running
    finally:
        running.shutdown()
        running.server_close()


def tool_call(name: str, arguments: dict[str, Any] | str) -> dict[str, Any]:
    """A message that calls a tool."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": name, "arguments": text}}]}
