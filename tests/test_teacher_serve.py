"""Against a server that nobody here wrote: ``transformers serve`` with a tiny chat model that is made here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from teacher_asks import an_ask

from kardlib.teacher_client import Endpoint
from kardlib.teacher_counts import counts
from kardlib.teacher_limits import Limits
from kardlib.teacher_outcome import Report, Stopped
from kardlib.teacher_records import Ask, Sampling
from kardlib.teacher_run import collect_now
from kardlib.teacher_store import TeacherStore

pytest.importorskip("fastapi", reason="the extra transformers[serving] is not installed")
pytest.importorskip("uvicorn", reason="the extra transformers[serving] is not installed")

SECONDS_TO_START = 120
WORDS = "the fever is so it must be A B because of an old drug and which these no Question".split()
TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }} {% endfor %}{% if add_generation_prompt %}so{% endif %}"
)


def save_chat_model(folder: Path) -> None:
    """A random Llama of one layer; with so few words the end is drawn once in some twenty."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
    )
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.generation_config.do_sample = True
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and model name of a running ``transformers serve``."""
    folder = tmp_path_factory.mktemp("served") / "tiny-chat"
    save_chat_model(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    log = folder.parent / "log.txt"
    with open(log, "wb") as file:
        server = subprocess.Popen(command, env=os.environ | offline, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        server.kill()
        server.wait()


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"no answer within {SECONDS_TO_START} seconds: {log.read_text()[-2000:]}")


def fill(served: tuple[str, str], store: TeacherStore, asks: list[Ask], count: int) -> tuple[Report, Endpoint]:
    endpoint = Endpoint(served[0])
    return collect_now(asks, count, store, endpoint, Limits(concurrency=3), progress=False), endpoint


def test_samples_of_a_real_server(served: tuple[str, str], tmp_path: Path) -> None:
    asks = [an_ask(i, model=served[1], sampling=Sampling(max_tokens=60)) for i in range(4)]
    with TeacherStore(tmp_path / "teacher.sqlite", attempts=20) as store:
        report, endpoint = fill(served, store, asks, 3)
        assert report.stored == 12 and report.left == 0
        assert endpoint.takes_n is False  # it says nothing against n and gives one completion
        texts = [sample.text for ask in asks for sample in store.get(ask)]
        assert len(texts) == 12 and len(set(texts)) > 6
        assert {word for text in texts for word in text.split()} <= {*WORDS, "<unk>", "<s>"}
        told = counts(store)
        assert told.prompt_tokens > 0 and told.completion_tokens > 0 and "stop" in told.finish_reasons
        again, _ = fill(served, store, asks, 3)
        assert again.requests == 0
        more, _ = fill(served, store, asks, 5)
        assert more.stored == 8 and all([s.index for s in store.get(ask)] == [0, 1, 2, 3, 4] for ask in asks)


def test_a_completion_that_is_cut_off_does_not_count(served: tuple[str, str], tmp_path: Path) -> None:
    ask = an_ask(model=served[1], sampling=Sampling(max_tokens=1, temperature=0.01))
    with TeacherStore(tmp_path / "teacher.sqlite") as store:
        report, _ = fill(served, store, [ask], 1)
        assert report.not_good["length"] and counts(store).not_good >= 1


def test_a_wrong_address_is_told(served: tuple[str, str], tmp_path: Path) -> None:
    with TeacherStore(tmp_path / "teacher.sqlite") as store, pytest.raises(Stopped, match="address lacks its /v1"):
        fill((served[0].removesuffix("/v1"), ""), store, [an_ask(model=served[1])], 1)
