"""Causal students through a vLLM server: the prompts that the kit has built, by the completions API.

The server is the user's own (``vllm serve FOLDER``). It is sent token ids, so that no template or start token of its
own is put around a prompt. It writes and does not score: with this engine answers are free text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai

from .decoding import TEMPERATURE, TOP_K, TOP_P
from .errors import KardError
from .generate import Generator
from .models import locate
from .teacher_client import NO_KEY, host_of

ADDRESS = "http://localhost:8000/v1"
ADDRESS_NAME, KEY_NAME = "KARD_VLLM", "VLLM_API_KEY"
"""Environment variables: where the server is, up to and including ``/v1``, and its key where it asks for one."""
ATTEMPTS, TIMEOUT = 3, 600.0


class ServedGenerator(Generator):
    """A causal student that a server holds; this process has its tokenizer alone.

    Args:
        folder, source_tokens, target_tokens: as of :class:`kardlib.generate.Generator`.
        batch: requests under way at a time.
        address: of the server; by default what ``KARD_VLLM`` says, else this machine's port 8000.

    Raises:
        KardError: the student is no causal model, or no server at the address serves it.
    """

    def __init__(
        self, folder: str, source_tokens: int, target_tokens: int, batch: int = 64, address: str | None = None
    ) -> None:
        super().__init__(folder, source_tokens, target_tokens, batch)
        if self._seq2seq:
            raise KardError(f"engine vllm: {Path(folder).name} is an encoder-decoder, which vLLM does not serve")
        address = address or os.environ.get(ADDRESS_NAME) or ADDRESS
        self._host, key = host_of(address), os.environ.get(KEY_NAME, "").strip()
        self._client = openai.OpenAI(api_key=key or NO_KEY, base_url=address, max_retries=ATTEMPTS, timeout=TIMEOUT)
        self._drawn = 0
        self._served = self._name_of(folder)

    def _loaded(self, folder: str) -> Any:
        return None

    def _name_of(self, folder: str) -> str:
        """What the server calls the student."""
        told = self._answer(lambda: self._client.get("/models", cast_to=bytes))
        wanted = {folder, locate(folder)}
        for model in told.get("data") or []:
            if wanted & {str(model.get("id")), str(model.get("root"))}:
                return str(model["id"])
        raise KardError(f"{self._host}: it does not serve the student; start it with: vllm serve {locate(folder)}")

    def _causal_scores(self, sources: Any, groups: Any) -> list[list[float]]:
        raise KardError("engine vllm: a server does not score options; set answers to free")

    def _start_from(self, seed: int) -> None:
        self._drawn = seed << 32

    def _batch_write(
        self, rows: list[list[int]], starts: list[list[int]] | None, count: int, sampled: bool
    ) -> list[str]:
        begins = starts or [[] for _ in rows]
        asked = [self._body([*row, *begin], count, sampled) for row, begin in zip(rows, begins, strict=True)]
        with ThreadPoolExecutor(self._batch) as pool:
            written = list(pool.map(self._complete, asked))
        heads = [self.tokenizer.decode(begin, skip_special_tokens=True) for begin in begins]
        return [(head + text).strip() for head, texts in zip(heads, written, strict=True) for text in texts]

    def _body(self, ids: list[int], count: int, sampled: bool) -> dict[str, Any]:
        """The JSON of one request. What it leaves out the server would take from the checkpoint's own defaults."""
        body: dict[str, Any] = {"model": self._served, "prompt": ids, "max_tokens": self._target_tokens}
        body |= {"temperature": 0.0, "repetition_penalty": 1.0, "min_p": 0.0}  # the last two are vLLM's own, as top_k
        if not sampled:
            return body
        seed = self._drawn
        self._drawn += count  # the server counts on from a request's seed for each of its samples
        return body | {"n": count, "temperature": TEMPERATURE, "top_p": TOP_P, "top_k": TOP_K, "seed": seed}

    def _complete(self, body: dict[str, Any]) -> list[str]:
        """The texts of one request, in the server's order."""
        told = self._answer(lambda: self._client.post("/completions", body=body, cast_to=bytes))
        count = body.get("n", 1)
        try:
            choices = sorted(told["choices"], key=lambda choice: choice["index"])
            texts = [str(choice["text"]) for choice in choices]
        except (KeyError, TypeError):
            texts = []
        if len(texts) != count:
            raise KardError(f"{self._host}: {len(texts)} texts came where {count} were asked for")
        return texts

    def _answer(self, ask: Callable[[], bytes]) -> dict[str, Any]:
        try:
            told = json.loads(ask())
        except openai.APIStatusError as error:
            reason = f"{error.status_code} {error.response.text}".replace("\n", " ")[:200]
        except openai.OpenAIError as error:
            reason = f"{type(error).__name__}; is 'vllm serve' running there? {ADDRESS_NAME} names another address"
        except ValueError:
            reason = "an answer that is no JSON"
        else:
            if isinstance(told, dict):
                return told
            reason = "an answer that is no object"
        raise KardError(f"{self._host}: {reason}")
