"""Decoding: what a student writes for a prompt, greedily or by majority vote over samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from .chat_template import causal_prompt, lead
from .decoding import SAMPLING, VOTES, end_tokens, tokens_alone
from .halves import in_halves
from .models import is_encoder_decoder, load_student, load_tokenizer
from .option_scores import Continuations, causal_scores, seq2seq_scores
from .padding import mask_of, pad_rows
from .progress import tell
from .readings import Readings
from .sampler import drawn, draws_itself


class Generator:
    """A student ready to write.

    Args:
        folder: name or folder of a seq2seq or causal model.
        source_tokens, target_tokens: limits for prompts and for what is written.
        batch: prompts at a time; sorted by length, so results depend on it only where sampling is on.
    """

    def __init__(self, folder: str, source_tokens: int, target_tokens: int, batch: int = 64) -> None:
        self._model = self._loaded(folder)
        self.tokenizer = load_tokenizer(folder)
        self._seq2seq = is_encoder_decoder(folder)
        self._source_tokens, self._target_tokens, self._batch = source_tokens, target_tokens, batch
        self._readings = Readings()

    def _loaded(self, folder: str) -> Any:
        model = load_student(folder).eval()
        self._ends = end_tokens(model.generation_config, load_tokenizer(folder))
        model.generation_config = tokens_alone(model.generation_config)
        return model

    def count(self, text: str) -> int:
        """Tokens of a text, for the prompt builder."""
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)

    def greedy(self, prompts: Sequence[str], forced: Sequence[str] | None = None) -> list[str]:
        """The most likely continuation of each prompt, one token at a time.

        Args:
            forced: for each prompt, text that the answer must start with; it is part of what is returned.
        """
        self._readings.forget()
        return [texts[0] for texts in self._write(prompts, forced, 1, seed=None)]

    def sample(self, prompts: Sequence[str], seed: int, count: int = VOTES) -> list[list[str]]:
        """``count`` samples for each prompt; the same for the same seed and batch size."""
        return self._write(prompts, None, count, seed)

    def likeliest(self, prompts: Sequence[str], begins: Sequence[str], options: Sequence[Sequence[str]]) -> list[int]:
        """The option that the student finds most likely to come next; arguments as for :meth:`option_scores`."""
        return [own.index(max(own)) for own in self.option_scores(prompts, begins, options)]

    def option_scores(
        self, prompts: Sequence[str], begins: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Mean log-likelihood of each option's tokens as what comes next, in nats per token.

        Args:
            begins: for each prompt, what the student has written so far (up to the answer mark), or "".
            options: for each prompt, the option texts.
        """
        rows = self._encoded(prompts)
        groups = [
            continuations(self.tokenizer, begin, texts, self._seq2seq)
            for begin, texts in zip(begins, options, strict=True)
        ]
        score = self._seq2seq_scores if self._seq2seq else self._causal_scores
        result: list[list[float]] = [[] for _ in prompts]
        for index in self._batches(rows, [begin for begin, _ in groups] if self._seq2seq else None):
            values = in_halves(lambda part: score([rows[i] for i in part], [groups[i] for i in part]), index)
            for i, own in zip(index, values, strict=True):
                result[i] = own
            tell(sum(map(bool, result)), len(prompts), "options scored")
        self._readings.forget()
        return result

    def _seq2seq_scores(self, sources: list[list[int]], groups: list[Continuations]) -> list[list[float]]:
        return seq2seq_scores(self._model, self.tokenizer.pad_token_id, sources, groups, self._readings.of(sources))

    def _causal_scores(self, sources: list[list[int]], groups: list[Continuations]) -> list[list[float]]:
        return causal_scores(self._model, self.tokenizer.pad_token_id, sources, groups)

    def _write(
        self, prompts: Sequence[str], forced: Sequence[str] | None, count: int, seed: int | None
    ) -> list[list[str]]:
        rows = self._encoded(prompts)
        # as in training: a causal student's targets start with a space, so that its first word is a word's own token
        first, gap = (opening(self.tokenizer), "") if self._seq2seq else ([], lead(self.tokenizer))
        starts = [first + self.tokenizer(gap + t, add_special_tokens=False).input_ids for t in forced or ()] or None
        result: list[list[str]] = [[] for _ in prompts]
        if seed is not None:
            self._start_from(seed)
        for index in self._batches(rows, starts):
            texts = in_halves(
                lambda part: self._batch_write(
                    [rows[i] for i in part], [starts[i] for i in part] if starts else None, count, seed is not None
                ),
                index,
            )
            for place, i in enumerate(index):
                result[i] = texts[place * count : (place + 1) * count]
            tell(sum(map(bool, result)), len(prompts), "answers written")
        return result

    def _start_from(self, seed: int) -> None:
        torch.manual_seed(seed)

    def _encoded(self, prompts: Sequence[str]) -> list[list[int]]:
        if self._seq2seq and prompts:
            return self.tokenizer(list(prompts), truncation=True, max_length=self._source_tokens).input_ids
        return [causal_prompt(self.tokenizer, prompt, self._source_tokens) for prompt in prompts]

    def _batches(self, rows: list[list[int]], starts: list[list[int]] | None) -> Iterator[list[int]]:
        """Indices of rows of about equal length; forced starts of one batch are of exactly equal length."""
        groups: dict[int, list[int]] = {}
        for i in range(len(rows)):
            groups.setdefault(len(starts[i]) if starts else 0, []).append(i)
        for group in groups.values():
            group.sort(key=lambda i: (len(rows[i]), i))
            yield from (group[cut : cut + self._batch] for cut in range(0, len(group), self._batch))

    @torch.inference_mode()
    def _batch_write(
        self, rows: list[list[int]], starts: list[list[int]] | None, count: int, sampled: bool
    ) -> list[str]:
        pad = self.tokenizer.pad_token_id
        if starts and not self._seq2seq:
            rows = [row + start for row, start in zip(rows, starts, strict=True)]
        inputs = pad_rows(rows, pad, left=not self._seq2seq).to(self._model.device)
        mask = mask_of(rows, left=not self._seq2seq).to(self._model.device)
        options: dict[str, Any] = {
            "max_new_tokens": self._target_tokens,
            "pad_token_id": pad,
            "eos_token_id": self._ends,
        }
        if starts and self._seq2seq:
            begin = self._model.generation_config.decoder_start_token_id
            options["decoder_input_ids"] = torch.tensor([[begin, *s] for s in starts], device=self._model.device)
        if sampled and draws_itself(self._model):
            written = drawn(self._model, inputs, mask, count, **options)
        else:
            options |= {"num_return_sequences": count, **(SAMPLING if sampled else {"do_sample": False})}
            written = self._model.generate(**self._read(rows, inputs, mask), attention_mask=mask, **options)
        if not self._seq2seq:
            written = written[:, inputs.shape[1] - (len(starts[0]) if starts else 0) :]
        return [text.strip() for text in self.tokenizer.batch_decode(written, skip_special_tokens=True)]

    def _read(self, rows: list[list[int]], inputs: Tensor, mask: Tensor) -> dict[str, Any]:
        """What ``generate`` starts from: the prompts, or what an encoder has made of them, which is kept."""
        if not self._seq2seq:
            return {"input_ids": inputs}
        states = self._model.get_encoder()(input_ids=inputs, attention_mask=mask).last_hidden_state
        self._readings.keep(rows, states)
        return {"encoder_outputs": BaseModelOutput(last_hidden_state=states)}


def continuations(tokenizer: Any, begin: str, options: Sequence[str], seq2seq: bool) -> Continuations:
    """Token ids of ``begin``, as far as all options share them, and of what follows them in each option."""
    first, gap = (opening(tokenizer), "") if seq2seq else ([], lead(tokenizer))
    texts = [begin, *(f"{begin} {option}" if begin else option for option in options)]
    ids = tokenizer([gap + text for text in texts], add_special_tokens=False).input_ids
    head, *rows = [first + own for own in ids]
    head = head if begin else first
    shared = len(head)
    while shared and any(row[:shared] != head[:shared] for row in rows):
        shared -= 1  # a tokenizer may merge across the seam
    return head[:shared], [row[shared:] for row in rows]


def opening(tokenizer: Any) -> list[int]:
    """Ids that a tokenizer puts before a target in training: BART's start token; of T5 none."""
    whole, bare = (tokenizer(text_target="x", add_special_tokens=special).input_ids for special in (True, False))
    return next((whole[:i] for i in range(len(whole)) if whole[i : i + len(bare)] == bare), [])


def majority(votes: Sequence[int | None]) -> int | None:
    """The most frequent parsed answer; of equals the one that came first; None only where nothing was parsed."""
    counts = Counter(vote for vote in votes if vote is not None)
    return counts.most_common(1)[0][0] if counts else None
