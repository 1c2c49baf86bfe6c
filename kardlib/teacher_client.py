"""One request to an OpenAI-compatible endpoint: completions, or what went wrong.

The key comes from the environment and goes into the request's header, nowhere else. Nothing is tried again here: every
fault is the caller's to count (:mod:`kardlib.teacher_run`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import openai

from .errors import KardError
from .teacher_faults import Fault, NotAnswered, Refused, Unsupported, fault_of
from .teacher_records import Ask

OPENAI = "https://api.openai.com/v1"
KEY_NAME = "OPENAI_API_KEY"
LONGEST_REASON = 60
POOL = 16
"""Requests under way through one client: what it takes to find a free connection grows with their number."""
NO_KEY = "none"
"""What a local server, which asks for no key, is sent."""


@dataclass(frozen=True)
class Completion:
    """One choice of a reply: the raw text, and why it ended."""

    text: str
    finish_reason: str


@dataclass(frozen=True)
class Reply:
    """What one request brought: one or more completions, and the tokens that it is billed for."""

    completions: Sequence[Completion]
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Endpoint:
    """Where a teacher answers. Used as ``async with endpoint:`` within one event loop at a time.

    Args:
        base_url: up to and including ``/v1``, as of OpenAI, vLLM, Ollama, llama.cpp or ``transformers serve``.
        key_name: the environment variable that holds the key; another server than OpenAI's may do without.
        timeout: seconds of one request.
        takes_n: whether the server gives several completions for one request; None: found out by the first reply.

    Raises:
        KardError: the address is none, or OpenAI is asked and there is no key.
    """

    def __init__(
        self, base_url: str = OPENAI, key_name: str = KEY_NAME, timeout: float = 120.0, takes_n: bool | None = None
    ) -> None:
        self.host = host_of(base_url)
        if base_url.startswith(OPENAI) and not os.environ.get(key_name):
            raise KardError(f"{self.host}: the environment variable {key_name} is not set, and a key is needed")
        self.takes_n = takes_n
        self.key_name = key_name
        self._base_url = base_url
        self._timeout = timeout
        self._tokens_field = "max_tokens"
        self._clients: list[openai.AsyncOpenAI] = []
        self._busy: list[int] = []

    async def __aenter__(self) -> Endpoint:
        self._clients = [self._made()]
        self._busy = [0]
        return self

    async def __aexit__(self, *error: object) -> None:
        for client in self._clients:
            await client.close()
        self._clients, self._busy = [], []

    def _made(self) -> openai.AsyncOpenAI:
        key = os.environ.get(self.key_name, "").strip()
        if not all("!" <= character <= "~" for character in key):  # an error of the header would tell the key
            raise KardError(f"the environment variable {self.key_name}: a key is one word of letters, digits and signs")
        return openai.AsyncOpenAI(api_key=key or NO_KEY, base_url=self._base_url, max_retries=0, timeout=self._timeout)

    @property
    def client(self) -> openai.AsyncOpenAI:
        """A client of the ``openai`` package, while the endpoint is in use."""
        if not self._clients:
            raise RuntimeError("an Endpoint is used within 'async with'")
        return self._clients[0]

    @contextlib.contextmanager
    def _free_client(self) -> Iterator[openai.AsyncOpenAI]:
        """The first client with a connection to spare, else a new one."""
        place = next((place for place, busy in enumerate(self._busy) if busy < POOL), len(self._clients))
        if place == len(self._clients):
            self._clients.append(self._made())
            self._busy.append(0)
        self._busy[place] += 1
        try:
            yield self._clients[place]
        finally:
            if self._busy:  # else the endpoint has been closed meanwhile
                self._busy[place] -= 1

    async def complete(self, ask: Ask, count: int, key: str) -> Reply:
        """Ask once. The reply holds 1 to ``count`` completions; fewer than ``count`` where the server has no ``n``.

        Args:
            key: names these samples and this attempt, and is sent as Idempotency-Key: a gateway that knows the header
                does not bill a request twice that was repeated after a fault.

        Raises:
            Fault: it may work the next time.
            Refused: it will not, for any ask.
        """
        asked = count if self.takes_n is not False else 1
        body = self.body(ask, asked)
        try:
            async with asyncio.timeout(self._timeout):  # the client's own limit is one between two bytes
                reply = await self._send(body, ask.model, key)
        except TimeoutError:
            raise Fault("timeout") from None
        except Unsupported as unsupported:
            self._adapt(unsupported.field, body)
            raise Fault(f"no {unsupported.field}", retry_after=0) from None
        except NotAnswered as refusal:
            return Reply([Completion("", refusal.reason)])
        if asked > 1:
            self.takes_n = len(reply.completions) > 1
        return Reply(reply.completions[:asked], reply.prompt_tokens, reply.completion_tokens)

    def _adapt(self, field: str, body: dict[str, Any]) -> None:
        if field == "n" and "n" in body:
            self.takes_n = False
        elif field == "max_tokens" and "max_tokens" in body:
            self._tokens_field = "max_completion_tokens"  # newer models of OpenAI know it by this name only
        else:
            raise Refused(f"{self.host}: the server does not take {field!r} and does not say what it takes", "400")

    def body(self, ask: Ask, count: int) -> dict[str, Any]:
        """The JSON of one request; ``n`` and ``stop`` only where they say something."""
        sampling = ask.sampling
        body: dict[str, Any] = {
            "model": ask.model,
            "messages": [message.model_dump() for message in ask.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._tokens_field: sampling.max_tokens,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if count > 1:
            body["n"] = count
        return body

    async def _send(self, body: dict[str, Any], model: str, key: str) -> Reply:
        headers = {"Idempotency-Key": key}
        try:  # the bytes as they are: typed parameters and typed replies cost more time than all else together
            with self._free_client() as client:
                content = await client.post("/chat/completions", body=body, cast_to=bytes, options={"headers": headers})
            return reply_of(content)
        except openai.OpenAIError as error:
            fault = told_by(error, self.host, model, self.key_name)
        raise fault  # outside the handler, so that no traceback leads to the request and its headers


def host_of(base_url: str) -> str:
    """What errors may say of an address: no path, no query, no credentials.

    Raises:
        KardError: it is no address.
    """
    try:
        parts = urlsplit(base_url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    except ValueError:  # of the port or of the brackets
        pass
    raise KardError("base_url: an address such as http://localhost:8000/v1 was expected")


def told_by(error: openai.OpenAIError, host: str, model: str, key_name: str) -> Exception:
    """The exception of the kit that stands for one of the ``openai`` package."""
    if isinstance(error, openai.APITimeoutError):
        return Fault("timeout")
    if isinstance(error, openai.APIStatusError):
        return fault_of(error.status_code, error.response.headers, _parsed(error), host, model, key_name)
    return Fault("connection")


def _parsed(error: openai.APIStatusError) -> Any:
    try:
        return json.loads(error.response.content)
    except ValueError:
        return error.response.text


def reply_of(content: bytes) -> Reply:
    """Read the JSON of a chat completion.

    Raises:
        Fault: it is ``malformed``, or ``empty``: without a single choice.
    """
    try:
        value = json.loads(content)
        choices, usage = value.get("choices"), value.get("usage") or {}
        completions = [_completion(choice) for choice in choices or []]
        tokens = (int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise Fault("malformed") from None
    if not completions:
        raise Fault("empty")
    return Reply(completions, *tokens)


def _completion(choice: dict[str, Any]) -> Completion:
    """A refusal is a text of its own; it is kept under a finish reason that does not count as good."""
    message = choice["message"]
    if message.get("refusal"):
        return Completion(_clean(str(message["refusal"])), "refusal")
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "".join(str(part.get("text", "")) for part in content)
    return Completion(_clean(content), str(choice.get("finish_reason") or "unknown")[:LONGEST_REASON])


def _clean(text: str) -> str:
    """Half of a surrogate pair cannot be stored; it becomes U+FFFD. All else stays as it is."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
