"""What is read once gives the scores of what is read anew for each option."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kardlib import option_scores
from kardlib.generate import Generator, continuations
from kardlib.mini import MiniSet
from kardlib.option_scores import causal_scores, seq2seq_scores, whole_scores
from kardlib.prompts import build_prompt
from kardlib.readings import Readings

Asked = tuple[list[list[int]], list[tuple[list[int], list[list[int]]]]]


@pytest.fixture(scope="module")
def questions(mini: MiniSet) -> list[tuple[str, tuple[str, ...]]]:
    """Prompts of uneven length, with options of uneven number and length."""
    more = "a much longer option of many words"
    return [
        (build_prompt(q, [p.text for p in mini.passages[: i % 4]]), (*q.options[: 2 + i % 3], more))
        for i, q in enumerate(mini.splits["test"][:9])
    ]


def asked_of(generator: Generator, questions: list[tuple[str, tuple[str, ...]]], begin: str, seq2seq: bool) -> Asked:
    groups = [continuations(generator.tokenizer, begin, options, seq2seq) for _, options in questions]
    return generator._encoded([prompt for prompt, _ in questions]), groups


def close(some: list[list[float]], others: list[list[float]]) -> bool:
    return [len(row) for row in some] == [len(row) for row in others] and all(
        row == pytest.approx(other, abs=1e-4) for row, other in zip(some, others, strict=True)
    )


@pytest.mark.parametrize("begin", ["", "It fits. So the answer is"])
def test_a_decoder_remembers_what_stands_before_the_options(
    tiny_opt: str, questions: list[tuple[str, tuple[str, ...]]], begin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator(tiny_opt, 256, 8)
    model, pad = generator._model, generator.tokenizer.pad_token_id
    sources, groups = asked_of(generator, questions, begin, seq2seq=False)
    heads = [[*source, *given] for source, (given, _) in zip(sources, groups, strict=True)]
    whole = whole_scores(model, pad, heads, groups)
    read: list[int] = []
    real = model.forward

    def counted(input_ids: torch.Tensor, **options: Any) -> Any:
        read.append(input_ids.numel())
        return real(input_ids=input_ids, **options)

    counted.__signature__ = option_scores.inspect.signature(real)  # type: ignore[attr-defined]
    monkeypatch.setattr(model, "forward", counted)
    assert close(causal_scores(model, pad, sources, groups), whole)
    assert sum(read) < 2 * sum(map(len, heads)) + sum(len(row) for _, rows in groups for row in rows) * 4
    assert len({round(value, 3) for row in whole for value in row}) > 20, "scores that differ, or a mix-up goes unseen"


def test_one_that_remembers_nothing_reads_all_of_it_again(
    tiny_opt: str, questions: list[tuple[str, tuple[str, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator(tiny_opt, 256, 8)
    model, pad = generator._model, generator.tokenizer.pad_token_id
    sources, groups = asked_of(generator, questions, "", seq2seq=False)
    usual, real = causal_scores(model, pad, sources, groups), model.forward

    def forgetful(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return real(input_ids=input_ids, attention_mask=attention_mask)

    monkeypatch.setattr(model, "forward", forgetful)
    assert close(causal_scores(model, pad, sources, groups), usual)


def test_what_was_read_for_the_answers_is_not_read_again_for_the_options(
    tiny_t5: str, questions: list[tuple[str, tuple[str, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, options = [prompt for prompt, _ in questions], [own for _, own in questions]
    begins = [f"It {'well ' * (i % 3)}fits. So the answer is" for i in range(len(prompts))]
    generator, read = Generator(tiny_t5, 256, 8, batch=4), []
    anew = generator.option_scores(prompts, begins, options)
    encoder = generator._model.get_encoder()
    real = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda *given, **named: read.append(1) or real(*given, **named))
    generator.greedy(prompts)
    count = len(read)
    assert count == 3 and close(generator.option_scores(prompts, begins, options), anew) and len(read) == count
    assert close(generator.option_scores(prompts, begins, options), anew) and len(read) > count, "then it is forgotten"


def test_states_of_an_encoder_that_are_kept(tiny_t5: str, questions: list[tuple[str, tuple[str, ...]]]) -> None:
    generator = Generator(tiny_t5, 256, 8)
    sources, groups = asked_of(generator, questions, "", seq2seq=True)
    states = torch.nn.utils.rnn.pad_sequence([torch.randn(len(row), 32) for row in sources], batch_first=True)
    readings = Readings()
    readings.keep(sources, states)
    assert torch.equal(readings.of(sources[2:5]), states[2:5, : max(map(len, sources[2:5]))])
    assert readings.of([*sources, [7, 7]]) is None, "one that was not read"
    small = Readings(most=len(sources[0]) * 32 * 4)
    small.keep(sources[:2], states[:2])
    assert small.of(sources[:1]) is not None and small.of(sources[1:2]) is None
    small.forget()
    assert small.of(sources[:1]) is None
    small.keep(sources[:1], states[:1])
    assert small.of(sources[:1]) is not None, "room again"
    model, pad = generator._model, generator.tokenizer.pad_token_id
    own = generator._read(sources, *_padded(sources, pad))["encoder_outputs"].last_hidden_state
    assert close(seq2seq_scores(model, pad, sources, groups, own), seq2seq_scores(model, pad, sources, groups))


def _padded(rows: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    return option_scores.pad_rows(rows, pad, left=False), option_scores.mask_of(rows)
