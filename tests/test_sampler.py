"""Samples of large vocabularies: the library's distribution, drawn in another way."""

from __future__ import annotations

import pytest
import torch
from transformers import LogitsProcessorList, TopKLogitsWarper, TopPLogitsWarper

from kardlib import sampler
from kardlib.decoding import TOP_K, TOP_P
from kardlib.generate import Generator
from kardlib.mini import MiniSet
from kardlib.prompts import build_prompt
from kardlib.sampler import DrawnToken, draws_itself


def test_the_tokens_and_their_shares_are_the_librarys() -> None:
    torch.manual_seed(0)
    row, ids = torch.randn(1, 400) * 2, torch.zeros(1, 1, dtype=torch.long)
    warpers = LogitsProcessorList([TopKLogitsWarper(TOP_K), TopPLogitsWarper(TOP_P)])
    right = warpers(ids, row).softmax(-1)[0]
    draws = 40_000
    drawn = DrawnToken()(ids.expand(draws, -1), row.expand(draws, -1))
    assert ((drawn == 0).sum(-1) == 1).all() and drawn.isinf().sum(-1).eq(399).all()
    found = torch.bincount(drawn.argmax(-1), minlength=400) / draws
    assert set(found.nonzero().flatten().tolist()) <= set(right.nonzero().flatten().tolist())
    assert 10 < int((right > 0).sum()) < TOP_K, "both limits must count"
    apart = float((found - right).abs().sum() / 2)
    assert apart < 0.02, "total variation; chance alone gives 0.4 sqrt(tokens / draws)"


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_samples_are_by_seed_and_from_the_models_tokens(
    kind: str, tiny_t5: str, tiny_opt: str, mini: MiniSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_t5 if kind == "seq2seq" else tiny_opt
    prompts = [build_prompt(q) for q in mini.splits["test"][:3]]
    usual = Generator(folder, 256, 6, batch=2)
    assert not draws_itself(usual._model), "the shipped models stay with the library's sampling"
    before = usual.sample(prompts, 0)
    monkeypatch.setattr(sampler, "LARGE", 100)
    generator = Generator(folder, 256, 6, batch=2)
    assert draws_itself(generator._model)
    first = generator.sample(prompts, 0)
    assert first == generator.sample(prompts, 0) != generator.sample(prompts, 1)
    assert first != before and [len(texts) for texts in first] == [5] * 3
    assert generator.greedy(prompts) == usual.greedy(prompts)
    monkeypatch.setattr(sampler, "TOP_K", 1)  # the likeliest alone: greedy texts, five of each, each with its prompt
    assert generator.sample(prompts, 0) == [[text] * 5 for text in usual.greedy(prompts)]
