"""Language models behind OpenAI's chat protocol: vLLM, llama.cpp, Ollama, `transformers serve`, hosted ones.

Keys come from the environment alone and are never written anywhere: `TONGTU_LLM_KEY`, else `OPENAI_API_KEY`, which goes to OpenAI's own hosts only.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from tongtu.config import plain
from tongtu.errors import ConfigError, LanguageModelError
from tongtu.llm.model import Completion, PartlyAnswered, Prompt, PromptRefused, Sampling, ToolCall, most_tokens, without_thoughts

_AGAIN = {408, 409, 429, 500, 502, 503, 504}
_REFUSED = {400, 422, 501}
_THIS_PROMPT = {400, 413, 422}
KEY, OPENAI_KEY = "TONGTU_LLM_KEY", "OPENAI_API_KEY"
_OPENAI = ".openai.com"


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to try.

    Attributes:
        seconds: For one answer.
        tries: For one prompt, the first included.
        pause: Seconds before the second try; doubled each time, with some chance, and never less than the server asks for.
        longest: Most seconds of a pause; a server that asks for more is given up.
        at_once: Prompts under way at the same time.
    """

    seconds: float = 120.0
    tries: int = 5
    pause: float = 1.0
    longest: float = 60.0
    at_once: int = 8


class HTTPModel:
    """A `LanguageModel` on a server, which `CallsTools` until the server refuses them.

    Args:
        name: The model's name there.
        url: Where the server answers, up to "/v1".
        patience: How long to wait.
        transport: Of httpx; None for the network.
    """

    def __init__(self, name: str, url: str, patience: Patience = Patience(), transport: httpx.BaseTransport | None = None) -> None:
        if not _is_address(url):
            raise ConfigError(f"language model openai:{name}@{url}: the address must be one like http://127.0.0.1:8000/v1, or https://")
        self.name, self._model, self._patience = f"openai:{name}@{url}", name, patience
        key = _key(url)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=url.rstrip("/") + "/", headers=headers, timeout=patience.seconds, transport=transport)
        weakref.finalize(self, self._client.close)  # servers keep connections open, and nobody is asked to close a model
        self.fingerprint = hashlib.sha256(f"{name} at {url}".encode()).hexdigest()
        self.calls_tools = True

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling = Sampling()) -> list[Completion]:  # noqa: B008 (frozen)
        """See `LanguageModel.complete`; some prompts are under way at the same time. After a failure no further one begins.

        A server that does not count tokens is charged the most that they can be, so that a budget holds there too.
        """
        if not prompts:
            return []
        failed = threading.Event()

        def unless_failed(prompt: Prompt) -> Completion | None:
            if failed.is_set():
                return None
            try:
                return self._one(prompt, sampling)
            except BaseException:
                failed.set()
                raise

        with ThreadPoolExecutor(min(self._patience.at_once, len(prompts))) as pool:
            under_way = [pool.submit(unless_failed, prompt) for prompt in prompts]
        error = next((one.exception() for one in under_way if one.exception()), None)
        answers = [None if one.exception() else one.result() for one in under_way]
        if isinstance(error, LanguageModelError) and any(answers):
            raise PartlyAnswered(str(error), answers) from None
        if error is not None:
            raise error
        return [answer for answer in answers if answer is not None]

    def _one(self, prompt: Prompt, sampling: Sampling) -> Completion:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.text} for message in prompt],
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
        }
        if sampling.schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": sampling.schema, "strict": True}}
        if sampling.tools and self.calls_tools:
            body["tools"] = [{"type": "function", "function": plain(tool)} for tool in sampling.tools]
        answer = self._asked(body)
        if answer.status_code in _REFUSED and {"tools", "response_format"} & body.keys():  # a server that knows no schemas, or no tools
            answer = self._asked({name: value for name, value in body.items() if name not in ("tools", "response_format")})
            self.calls_tools = self.calls_tools and ("tools" not in body or answer.is_error)
        return self._read(answer, prompt, sampling)

    def _asked(self, body: dict[str, Any]) -> httpx.Response:
        """The first answer that is worth reading.

        Raises:
            LanguageModelError: If all tries fail, or the server refuses.
        """
        wait, last = self._patience.pause, ""
        for attempt in range(self._patience.tries):
            asked_for = 0.0
            try:
                answer = self._client.post("chat/completions", json=body)
                if answer.status_code not in _AGAIN:
                    return answer
                last, asked_for = f"HTTP {answer.status_code}", _seconds(answer.headers.get("Retry-After"))
            except httpx.RequestError as error:
                last = str(error) or type(error).__name__
            if attempt + 1 == self._patience.tries or asked_for > self._patience.longest:
                break
            time.sleep(min(max(wait * random.uniform(0.5, 1.5), asked_for), self._patience.longest))
            wait *= 2
        raise LanguageModelError(f"{self.name} does not answer ({last}): check that the server runs and the address is right, or try again later")

    def _read(self, answer: httpx.Response, prompt: Prompt, sampling: Sampling) -> Completion:
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise LanguageModelError(f"{self.name} refuses the key (HTTP {answer.status_code}): set {KEY} in the environment")
        if answer.is_error:
            said = f"{self.name} refuses (HTTP {answer.status_code}: {' '.join(answer.text.split())[:160]})"
            if answer.status_code in _THIS_PROMPT:
                raise PromptRefused(f"{said}: check the model's name, or ask less at once")
            raise LanguageModelError(f"{said}: check the model's name")
        try:
            found = answer.json()
            choice, used = found["choices"][0], found.get("usage") or {}
            text = str(choice["message"].get("content") or "")
            read = int(used.get("prompt_tokens") or most_tokens(prompt))
            written = int(used.get("completion_tokens") or min(len(text.encode()), sampling.max_tokens))
            calls = tuple(call for one in choice["message"].get("tool_calls") or () if (call := _call(one["function"])) is not None)
            return Completion(without_thoughts(text), read, written, choice.get("finish_reason") == "length", calls=calls)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise LanguageModelError(f"{self.name} answers what is no chat completion: check that the address is that of an OpenAI-compatible server") from None


def from_name(name: str, patience: Patience | None = None) -> HTTPModel:
    """The model that "openai:NAME@URL" means.

    Raises:
        ConfigError: If there is no address in it.
    """
    model, _, url = name.removeprefix("openai:").rpartition("@")
    if not model or not url:
        raise ConfigError(f"language model {name!r}: write openai:NAME@URL, for example openai:qwen@http://127.0.0.1:8000/v1")
    return HTTPModel(model, url, patience or Patience())


def _is_address(url: str) -> bool:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host)


def _call(function: Any) -> ToolCall | None:
    """A call as servers write it, with the arguments as a text of JSON (some give the object itself); None where they are no object."""
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None
    return ToolCall(str(function["name"]), arguments) if isinstance(arguments, dict) else None


def _key(url: str) -> str | None:
    """The key for a server: OpenAI's own goes to OpenAI alone, whatever address a model folder or an experiment of others may name."""
    host = httpx.URL(url).host
    own = os.environ.get(OPENAI_KEY) if f".{host}".endswith(_OPENAI) else None
    return os.environ.get(KEY) or own


def _seconds(header: str | None) -> float:
    """Seconds that Retry-After asks for, which holds a number or a date (RFC 9110, section 10.2.3)."""
    try:
        seconds = float(header or 0)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(str(header)).timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
