"""Causal students behind a server: what it is asked, and that its greedy texts are those of the same model here."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_chat import save_causal

from kardlib import vllm_engine
from kardlib.engines import generator_of
from kardlib.errors import KardError
from kardlib.generate import Generator
from kardlib.mini import MiniSet
from kardlib.models import load_student, load_tokenizer
from kardlib.prompts import ANSWER_MARK, build_prompt
from kardlib.vllm_engine import ServedGenerator


class Server(ThreadingHTTPServer):
    """Completions of one model, as a vLLM server gives them; ``answer`` takes their place where it is set."""

    daemon_threads = True
    folder, name = "", "served"
    answer: tuple[int, bytes] | None = None
    lock = threading.Lock()

    def __init__(self, folder: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.folder, self.model, self.tokenizer = folder, load_student(folder).eval(), load_tokenizer(folder)
        self.address = f"http://127.0.0.1:{self.server_port}/v1"

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        texts = [self.text(body, i) for i in range(body.get("n", 1))]
        choices = [{"index": i, "text": text, "finish_reason": "stop"} for i, text in enumerate(texts)]
        return {"object": "text_completion", "choices": choices[::-1]}

    def text(self, body: dict[str, Any], sample: int) -> str:
        """Greedy text, or a word that the seed alone decides; without what ends it, and with a space before it."""
        if body["temperature"] > 0:
            return f" word {random.Random(body['seed'] + sample).randrange(10**6)}"
        ids, told = list(body["prompt"]), len(body["prompt"])
        with self.lock, torch.inference_mode():
            while len(ids) < told + body["max_tokens"] and not {0, 2} & set(ids[told:]):
                ids.append(int(self.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        return self.tokenizer.decode(ids[told:], skip_special_tokens=True)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.reply(200, json.dumps({"data": [{"id": self.server.name, "root": self.server.folder}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append({"path": self.path, "key": self.headers["Authorization"]} | body)
        self.reply(*(self.server.answer or (200, json.dumps(self.server.complete(body)).encode())))

    def reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def prompts(mini: MiniSet) -> list[str]:
    return [build_prompt(q) for q in mini.splits["test"][:5]]


@pytest.fixture(scope="module")
def folder(prompts: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_causal(tmp_path_factory.mktemp("chat") / "qwen", prompts)


@pytest.fixture
def server(folder: str) -> Iterator[Server]:
    one = Server(folder)
    threading.Thread(target=one.serve_forever, daemon=True).start()
    yield one
    one.shutdown()
    one.server_close()


def test_greedy_texts_are_those_of_the_model_here(server: Server, folder: str, prompts: list[str]) -> None:
    usual, served = Generator(folder, 256, 8), ServedGenerator(folder, 256, 8, batch=2, address=server.address)
    assert served.greedy(prompts) == usual.greedy(prompts)
    forced = [f"It fits{' well' * (i % 2)}. {ANSWER_MARK}" for i in range(len(prompts))]
    assert served.greedy(prompts, forced) == usual.greedy(prompts, forced)
    assert served.count(prompts[0]) == usual.count(prompts[0])
    first = next(body for body in server.asked if body["prompt"] == usual._encoded(prompts[:1])[0])
    assert first["path"] == "/v1/completions" and first["model"] == "served" and first["max_tokens"] == 8
    assert first["temperature"] == 0 and first["repetition_penalty"] == 1, "not as the checkpoint would have it"
    assert "seed" not in first and "n" not in first


def test_samples_are_asked_for_as_the_authors_draw_them(server: Server, folder: str, prompts: list[str]) -> None:
    served = ServedGenerator(folder, 256, 8, batch=2, address=server.address)
    first = served.sample(prompts, seed=1)
    asked = list(server.asked)
    assert {(b["n"], b["top_k"], b["top_p"], b["temperature"]) for b in asked} == {(5, 50, 0.95, 1.0)}
    seeds = {body["seed"] + i for body in asked for i in range(5)}
    assert len(seeds) == 5 * len(prompts), "the server counts on from a seed: no two samples share one"
    assert served.sample(prompts, seed=1) == first != served.sample(prompts, seed=2)
    assert all(len(set(texts)) == 5 for texts in first)


def test_address_and_key_come_from_the_environment(
    server: Server, folder: str, prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARD_VLLM", server.address)
    monkeypatch.setenv("VLLM_API_KEY", "word")
    served = generator_of("vllm", folder, 256, 4)
    assert type(served) is ServedGenerator and served.greedy(prompts[:1])
    assert server.asked[0]["key"] == "Bearer word"


def test_options_are_not_scored(server: Server, folder: str, prompts: list[str]) -> None:
    with pytest.raises(KardError, match="does not score options; set answers to free"):
        ServedGenerator(folder, 256, 8, address=server.address).likeliest(prompts[:1], [""], [["a", "b"]])


BROKEN = {
    "400": ((400, b'{"error": {"message": "prompt too long"}}'), "400 .*prompt too long"),
    "no json": ((200, b"<html>"), "no JSON"),
    "a list": ((200, b"[]"), "no object"),
    "no choices": ((200, b"{}"), "0 texts came where 1"),
    "two choices": ((200, b'{"choices": [{"index": 0, "text": "a"}, {"index": 1, "text": "b"}]}'), "2 texts came"),
    "no text": ((200, b'{"choices": [{"index": 0}]}'), "0 texts came"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_bad_answer_is_one_line_with_the_host(
    broken: str, server: Server, folder: str, prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = ServedGenerator(folder, 256, 8, address=server.address)
    server.answer, match = BROKEN[broken]
    with pytest.raises(KardError, match=match) as caught:
        served.greedy(prompts)
    assert "127.0.0.1" in str(caught.value) and "\n" not in str(caught.value)


def test_another_model_no_server_and_a_t5_are_one_line(
    server: Server, folder: str, tiny_t5: str, tmp_path: Path, prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = save_causal(tmp_path / "other", prompts)
    with pytest.raises(KardError, match=f"does not serve the student; start it with: vllm serve {other}"):
        ServedGenerator(other, 256, 8, address=server.address)
    with pytest.raises(KardError, match="encoder-decoder"):
        ServedGenerator(tiny_t5, 256, 8, address=server.address)
    monkeypatch.setattr(vllm_engine, "ATTEMPTS", 0)
    with pytest.raises(KardError, match="KARD_VLLM names another address"):
        ServedGenerator(folder, 256, 8, address="http://127.0.0.1:9/v1")
    with pytest.raises(KardError, match="base_url"):
        ServedGenerator(folder, 256, 8, address="nowhere")
