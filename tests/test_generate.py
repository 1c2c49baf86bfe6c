"""Decoding: greedy text that depends on its prompt alone, forced beginnings, samples by seed, votes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kardlib.generate import Generator, majority
from kardlib.mini import MiniSet
from kardlib.prompts import ANSWER_MARK, build_prompt
from kardlib.student import Hyperparameters, Pair, encode_causal, encode_seq2seq


@pytest.fixture(params=["seq2seq", "causal"])
def folder(request: pytest.FixtureRequest, tiny_t5: str, tiny_opt: str) -> str:
    return tiny_t5 if request.param == "seq2seq" else tiny_opt


@pytest.fixture(scope="module")
def prompts(mini: MiniSet) -> list[str]:
    """Nine prompts of uneven length."""
    return [build_prompt(q, [p.text for p in mini.passages[: i % 4]]) for i, q in enumerate(mini.splits["test"][:9])]


def test_greedy_text_depends_on_its_prompt_alone(folder: str, prompts: list[str]) -> None:
    together = Generator(folder, 256, 12).greedy(prompts)
    assert len(set(together)) > 2, "the model ignores its prompt: this test would see nothing"
    assert together == Generator(folder, 256, 12, batch=2).greedy(prompts)
    assert together == [Generator(folder, 256, 12, batch=5).greedy([prompt])[0] for prompt in prompts]
    assert together[::-1] == Generator(folder, 256, 12, batch=4).greedy(prompts[::-1])


def test_greedy_text_is_the_argmax_of_the_model(folder: str, prompts: list[str]) -> None:
    generator = Generator(folder, 256, 6)
    model, tokenizer, seq2seq = generator._model, generator.tokenizer, "t5" in Path(folder).name
    text = generator.greedy(prompts[:1])[0]
    ids, written = torch.tensor(generator._encoded(prompts[:1])), []
    with torch.no_grad():
        for _ in range(6):
            if seq2seq:
                start = torch.tensor([[model.config.decoder_start_token_id, *written]])
                logits = model(input_ids=ids, decoder_input_ids=start).logits
            else:
                logits = model(input_ids=torch.cat([ids, torch.tensor([written], dtype=torch.long)], 1)).logits
            written.append(int(logits[0, -1].argmax()))
            if written[-1] == tokenizer.eos_token_id:
                break
    assert text == tokenizer.decode(written, skip_special_tokens=True).strip()


def test_forced_text_begins_the_answer_and_changes_what_follows(folder: str, prompts: list[str]) -> None:
    generator = Generator(folder, 256, 8, batch=4)
    forced = [f"bordema and kilalgy fit {'well ' * (i % 3)}. {ANSWER_MARK}" for i in range(len(prompts))]
    tokenizer = generator.tokenizer
    begins = [tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) for text in forced]
    written = generator.greedy(prompts, forced)
    assert all(text.startswith(begin) for text, begin in zip(written, begins, strict=True))
    assert any(len(text) > len(begin) for text, begin in zip(written, begins, strict=True))
    assert written == [generator.greedy([p], [f])[0] for p, f in zip(prompts, forced, strict=True)]


def test_forcing_the_models_own_beginning_changes_nothing(folder: str, prompts: list[str]) -> None:
    short, long = Generator(folder, 256, 4), Generator(folder, 256, 10)
    tokenizer = short.tokenizer
    checked = 0
    for prompt, begin, whole in zip(prompts, short.greedy(prompts), long.greedy(prompts), strict=True):
        back = tokenizer.decode(tokenizer(begin, add_special_tokens=False).input_ids)
        if begin and back == begin and len(tokenizer(begin, add_special_tokens=False).input_ids) == 4:
            assert Generator(folder, 256, 6).greedy([prompt], [begin])[0] == whole
            checked += 1
    assert checked


def test_samples_depend_on_the_seed(folder: str, prompts: list[str]) -> None:
    generator = Generator(folder, 256, 8)
    first, again, other = (generator.sample(prompts, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert [len(texts) for texts in first] == [5] * len(prompts)
    assert any(len(set(texts)) > 1 for texts in first), "five samples are never the same five times"


def test_count_is_what_a_prompt_takes_up(folder: str, prompts: list[str]) -> None:
    generator = Generator(folder, 10_000, 8)
    for prompt in prompts:
        assert generator.count(prompt) == len(generator._encoded([prompt])[0]) - 1  # one special token


def test_training_and_test_see_the_same_prompt(folder: str, prompts: list[str]) -> None:
    generator, hyper = Generator(folder, 256, 8), Hyperparameters(1e-3, 1, 1, 256, 8)
    encode = encode_seq2seq if "t5" in Path(folder).name else encode_causal
    for prompt in prompts:
        row = encode(generator.tokenizer, Pair(prompt, "x"), hyper)
        (asked,) = generator._encoded([prompt])
        assert row["input_ids"][: len(asked)] == asked


def byte_level_tokenizer(folder: Path) -> None:
    """A tokenizer as OPT's own: a word after a space is another token than a word at the beginning."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<pad>", "</s>"], show_progress=False)
    core.train_from_iterator(["bordema fits", "It is bordema", "So the answer is bordol"] * 5, trainer)
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>").save_pretrained(folder)


def test_a_forced_beginning_has_the_tokens_that_training_gave_it(
    tiny_opt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    byte_level_tokenizer(tmp_path / "tokenizer")
    generator = Generator(tiny_opt, 256, 4)
    generator.tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "tokenizer")
    forced, seen = "bordema fits", []
    real = generator._model.generate
    monkeypatch.setattr(
        generator._model, "generate", lambda **given: seen.append(given["input_ids"][0].tolist()) or real(**given)
    )
    text = generator.greedy(["Question: x"], [forced])[0]
    row = encode_causal(generator.tokenizer, Pair("Question: x", f"{forced} So"), Hyperparameters(1, 1, 1, 256, 99))
    assert row["input_ids"][: len(seen[0])] == seen[0]
    assert text.startswith(forced)


# --- options by likelihood --------------------------------------------------------------------------------------------


@torch.no_grad()
def mean_log_likelihood(generator: Generator, prompt: str, begin: str, option: str) -> float:
    """Of an option's tokens behind a beginning, one token after the other, without a batch."""
    tokenizer, model, seq2seq = generator.tokenizer, generator._model, generator._seq2seq

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    source, written, values = torch.tensor(generator._encoded([prompt])), ids(begin), []
    for token in ids(f"{begin} {option}")[len(written) :]:
        if seq2seq:
            start = torch.tensor([[model.config.decoder_start_token_id, *written]])
            logits = model(input_ids=source, decoder_input_ids=start).logits
        else:
            logits = model(input_ids=torch.cat([source, torch.tensor([written], dtype=torch.long)], 1)).logits
        values.append(torch.log_softmax(logits[0, -1], -1)[token].item())
        written.append(token)
    return sum(values) / len(values)


@pytest.fixture(scope="module")
def options(mini: MiniSet) -> list[tuple[str, ...]]:
    """Of uneven number and length."""
    long = "a much longer option of many words"
    return [(*q.options[: 2 + i % 3], long) for i, q in enumerate(mini.splits["test"][:9])]


@pytest.mark.parametrize("begin", ["", f"bordema and kilalgy fit. {ANSWER_MARK}"])
def test_the_likeliest_option_has_the_highest_mean_log_likelihood(
    folder: str, prompts: list[str], options: list[tuple[str, ...]], begin: str
) -> None:
    generator = Generator(folder, 256, 8, batch=4)
    begins = [f"{'well ' * (i % 3)}{begin}" if begin else "" for i in range(len(prompts))]
    found = generator.likeliest(prompts, begins, options)
    for prompt, b, group, choice in zip(prompts, begins, options, found, strict=True):
        values = [mean_log_likelihood(generator, prompt, b, option) for option in group]
        assert values[choice] == pytest.approx(max(values), abs=1e-4)
    assert len(set(found)) > 1, "always the same place: this test would not see a mix-up"
    alone = [generator.likeliest([p], [b], [o])[0] for p, b, o in zip(prompts, begins, options, strict=True)]
    assert found == alone


def test_the_order_of_options_does_not_matter(folder: str, prompts: list[str], options: list[tuple[str, ...]]) -> None:
    generator = Generator(folder, 256, 8)
    begins = [f"It is so. {ANSWER_MARK}"] * len(prompts)
    first, back = (generator.likeliest(prompts, begins, part) for part in (options, [o[::-1] for o in options]))
    assert [o[i] for o, i in zip(options, first, strict=True)] == [
        o[::-1][i] for o, i in zip(options, back, strict=True)
    ]


def test_majority() -> None:
    assert majority([1, 2, 2, None, 0]) == 2
    assert majority([2, 1, 1, 2]) == 2 and majority([1, 2, 2, 1]) == 1, "of equals the first"
    assert majority([None, None, 3]) == 3, "a vote that could not be read does not count"
    assert majority([None, None]) is None and majority([]) is None
    assert majority([0, 0, None]) == 0
