"""An OpenAI-compatible server that misbehaves on purpose, and writes down every request.

What it answers depends on the seed, on the request's Idempotency-Key (which names ask, samples and attempt) and on how
often that key has been seen; not on the order in which requests arrive. Run as a program it prints its port and serves
until its input is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import hashlib
import json
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fault_batches import Batches

CLIENT_KINDS = {
    "429": "429", "429-bare": "429", "429-date": "429", "429-ms": "429", "500": "500", "503": "503",
    "drop": "connection", "cut": "connection", "blank": "malformed", "malformed": "malformed", "no-choices": "empty",
    "slow": "timeout", "trickle": "timeout", "no-n": "no n",
}  # fmt: skip
"""What the kit's client calls each of the server's faults."""
PASSING = tuple(kind for kind in CLIENT_KINDS if kind not in ("slow", "trickle", "no-n", "429-date"))
NOT_GOOD = ("length", "refusal", "empty", "filter")


@dataclass
class Behaviour:
    """How the server behaves.

    Attributes:
        latency: seconds before each answer.
        fault_rate: share of requests that meet one of ``faults``.
        bad_rate: share of completions that do not come to their own end.
        n: ``yes``, ``ignored`` (one choice comes) or ``refused`` (400).
        key: what the Authorization header must hold, if anything; an error tells it back, as some servers do.
        models: that it knows; any, where there are none.
        quota: completions until the quota is used up.
        random_texts: whether a text depends on the time of the request too, as a sampling server's does.
        slow: seconds of a slow answer.
        batches: see :mod:`fault_batches`.
    """

    latency: float = 0.0
    seed: int = 0
    fault_rate: float = 0.0
    faults: tuple[str, ...] = PASSING
    bad_rate: float = 0.0
    n: str = "yes"
    key: str = ""
    models: tuple[str, ...] = ()
    quota: int | None = None
    random_texts: bool = False
    slow: float = 5.0
    retry_after: float = 0.02
    batches: dict[str, Any] = field(default_factory=dict)


class Hang(Exception):
    """Close the connection without a word."""


class FaultServer:
    """Serves on a free port of this machine."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.log: list[dict[str, Any]] = []
        self.seen: Counter[str] = Counter()
        self.given = 0
        self.batches = Batches(self.choice, **behaviour.batches)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path, _ = first.split(" ")
                await self.answer(method, path, headers, body, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Hang:
            writer.transport.abort()
        finally:
            writer.close()

    async def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        """Route one request."""
        if path == "/log":
            return send(writer, 200, {"log": self.log, "batches": self.batches.log})
        if path.startswith(("/v1/files", "/v1/batches")):
            status, value = self.batches.answer(method, path, headers, body)
            if status == 0:
                raise Hang
            return send(writer, status, value)
        if path != "/v1/chat/completions":
            return send(writer, 404, {"detail": "Not Found"})
        await self.chat(json.loads(body), headers, writer)

    async def chat(self, asked: dict[str, Any], headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        """``/v1/chat/completions``."""
        key = headers.get("idempotency-key", "")
        self.seen[key] += 1
        record = {"at": time.time(), "key": key, "prompt": asked["messages"][-1]["content"], "n": asked.get("n", 1)}
        await asyncio.sleep(self.behaviour.latency)
        refusal = self.refusal(asked, headers)
        draw = random.Random(f"{self.behaviour.seed}-{key}-{self.seen[key]}")
        if refusal is not None:
            record["outcome"], status, value = refusal
            self.log.append(record)
            return send(writer, status, value)
        if draw.random() < self.behaviour.fault_rate:
            record["outcome"] = draw.choice(self.behaviour.faults)
            self.log.append(record)
            return await self.fault(record["outcome"], headers.get("authorization", ""), writer)
        count = 1 if self.behaviour.n == "ignored" else asked.get("n", 1)
        choices = [self.choice(key, place, asked) for place in range(count)]
        self.given += count
        self.log.append(record | {"outcome": "ok", "texts": [told(choice) for choice in choices]})
        send(writer, 200, completion(choices))

    def refusal(self, asked: dict[str, Any], headers: dict[str, str]) -> tuple[str, int, Any] | None:
        """What no waiting helps against."""
        behaviour, sent = self.behaviour, headers.get("authorization", "")
        if behaviour.key and sent != f"Bearer {behaviour.key}":
            return "401", 401, problem(f"Incorrect API key provided: {sent}", "invalid_api_key")
        if behaviour.models and asked["model"] not in behaviour.models:
            return "404", 404, problem(f"The model `{asked['model']}` does not exist", "model_not_found")
        if behaviour.quota is not None and self.given >= behaviour.quota:
            message = f"You exceeded your current quota. Your header was {sent}"
            return "quota", 429, problem(message, "insufficient_quota")
        if behaviour.n == "refused" and "n" in asked:
            return "no-n", 400, problem("Parameter 'n' is not supported", "unsupported_parameter", "n")
        return None

    def choice(self, key: str, place: int, asked: dict[str, Any]) -> dict[str, Any]:
        """A completion; the same for the same samples of the same prompt, however they are grouped."""
        identity, _, slots = key.partition("-")
        mark = f"{asked['messages']}-{identity}-{slots.split('_')[place]}"
        if self.behaviour.random_texts:
            mark += str(time.perf_counter_ns())
        draw = random.Random(mark)
        text = f"{hashlib.sha256(mark.encode()).hexdigest()[:16]} is why. " + "Facts follow. " * draw.randint(1, 20)
        kind = draw.choice(NOT_GOOD) if draw.random() < self.behaviour.bad_rate else "stop"
        message = {"role": "assistant", "content": {"empty": "", "filter": None, "refusal": None}.get(kind, text)}
        if kind == "refusal":
            message["refusal"] = "I cannot help with that."
        finish = {"length": "length", "filter": "content_filter"}.get(kind, "stop")
        return {"index": place, "message": message, "finish_reason": finish}

    async def fault(self, kind: str, sent: str, writer: asyncio.StreamWriter) -> None:
        """What may be over the next time."""
        behaviour = self.behaviour
        if kind in ("slow", "trickle"):
            begun = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n{"
            for _ in range(int(behaviour.slow / 0.05)):
                if kind == "trickle":
                    writer.write(begun)
                    begun = b" "
                await asyncio.sleep(0.05)
            raise Hang
        if kind == "drop":
            raise Hang
        if kind == "cut":
            writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{"choices"')
            await writer.drain()
            raise ConnectionError
        if kind in ("blank", "malformed", "no-choices"):
            body = {"blank": b"", "malformed": b'{"choices": [{"mess', "no-choices": b'{"choices": []}'}[kind]
            return send(writer, 200, body)
        headers = {
            "429": {"retry-after": str(behaviour.retry_after)},
            "429-ms": {"retry-after-ms": str(behaviour.retry_after * 1000)},
            "429-date": {"retry-after": email.utils.formatdate(time.time() + 1, usegmt=True)},
        }.get(kind, {})
        code = "rate_limit_exceeded" if kind[0] == "4" else "server_error"
        send(writer, int(kind[:3]), problem(f"Not now. Your header was {sent}", code), headers)


def told(choice: dict[str, Any]) -> list[str]:
    """Text and finish reason of a choice, for the log."""
    return [choice["message"]["content"] or "", choice["finish_reason"]]


def completion(choices: list[dict[str, Any]]) -> dict[str, Any]:
    """The body of a reply."""
    usage = {"prompt_tokens": 30, "completion_tokens": 11 * len(choices), "total_tokens": 30 + 11 * len(choices)}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}


def problem(message: str, code: str, param: str | None = None) -> dict[str, Any]:
    """The body of an error as OpenAI words it."""
    return {"error": {"message": message, "type": code, "param": param, "code": code}}


def send(writer: asyncio.StreamWriter, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
    """Write one response."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    lines = {"content-type": "application/json", "content-length": str(len(body))} | (headers or {})
    head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{name}: {text}\r\n" for name, text in lines.items())
    writer.write(head.encode() + b"\r\n" + body)


@dataclass
class Served:
    """A server that runs, as a test sees it."""

    url: str
    process: subprocess.Popen[str]

    def fetch(self) -> dict[str, Any]:
        """Everything that it has written down."""
        with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/log") as response:
            return json.load(response)

    def log(self) -> list[dict[str, Any]]:
        """Its requests for completions."""
        return self.fetch()["log"]

    def outcomes(self) -> Counter[str]:
        """How often each outcome occurred."""
        return Counter(record["outcome"] for record in self.log())


@contextlib.contextmanager
def serving(**behaviour: Any) -> Iterator[Served]:
    """A fault server in a process of its own."""
    command = [sys.executable, str(Path(__file__)), json.dumps(asdict(Behaviour(**behaviour)))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())
        yield Served(f"http://127.0.0.1:{port}/v1", process)
    finally:
        process.kill()
        process.communicate()


async def main(behaviour: Behaviour) -> None:
    """Serve until standard input ends."""
    server = await asyncio.start_server(FaultServer(behaviour).handle, "127.0.0.1", 0, limit=2**20, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(Behaviour(**given)))
