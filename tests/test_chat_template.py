"""Causal students of today: chat templates are honoured in training and at test time, and nothing else is added."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tiny_chat import SYSTEM, save_causal

from kardlib.chat_template import causal_prompt, chat_text, has_chat_template, lead, plain_prompt
from kardlib.few_shot import few_shot_prompt
from kardlib.generate import Generator, continuations
from kardlib.mini import MiniSet
from kardlib.models import load_student, load_tokenizer
from kardlib.prompts import Pair, build_prompt
from kardlib.student import Hyperparameters, encode_causal, train_student

HYPER = Hyperparameters(1e-3, 1, 2, 256, 24)


@pytest.fixture(scope="module")
def texts(mini: MiniSet) -> list[str]:
    return [build_prompt(q) for q in mini.splits["train"][:40]]


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def chat(request: pytest.FixtureRequest, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_causal(tmp_path_factory.mktemp("chat") / request.param, texts, request.param)


@pytest.fixture(scope="module")
def plain(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_causal(tmp_path_factory.mktemp("plain") / "llama-base", texts, "llama", chat=False)


def test_a_few_shot_prompt_is_one_message_in_the_models_template(chat: str, mini: MiniSet) -> None:
    generator, train = Generator(chat, 512, 8), mini.splits["train"]
    examples = [Pair(build_prompt(q), f"{q.id} fits. So the answer is {q.options[0]}.") for q in train[:2]]
    shown = few_shot_prompt(examples, mini.splits["test"][0], count=generator.count, max_tokens=512)
    assert shown.shots == 2
    message = [{"role": "user", "content": shown.text}]
    told = generator.tokenizer.apply_chat_template(
        message, add_generation_prompt=True, enable_thinking=False, return_dict=False
    )
    assert generator._encoded([shown.text])[0] == told
    written = generator.tokenizer.decode(told)
    assert written.count(SYSTEM) == 1 and written.endswith("<|im_start|>assistant\n"), (
        "open for the answer, no thinking"
    )


def test_what_is_cut_is_the_text_and_never_the_template(chat: str, texts: list[str]) -> None:
    tokenizer = load_tokenizer(chat)
    long = " ".join(texts[:9])
    ids = causal_prompt(tokenizer, long, 40)
    around = len(tokenizer(chat_text(tokenizer, ""), add_special_tokens=False).input_ids)
    assert around < len(ids) <= 40 + around + 2, "a cut may split a word's tokens anew"
    written = tokenizer.decode(ids)
    assert written.startswith("<|im_start|>system") and written.endswith("assistant\n")
    assert long[-60:] in written


def test_without_a_template_a_prompt_is_plain_text(plain: str, tiny_opt: str, texts: list[str]) -> None:
    for folder in (plain, tiny_opt):
        tokenizer = load_tokenizer(folder)
        assert not has_chat_template(tokenizer) and lead(tokenizer) == " "
        assert causal_prompt(tokenizer, texts[0], 256) == plain_prompt(tokenizer, texts[0], 256)
        assert tokenizer.decode(causal_prompt(tokenizer, texts[0], 256)[-20:]) == tokenizer.decode(
            tokenizer(texts[0]).input_ids[-20:]
        )


def test_a_student_is_trained_on_the_prompts_that_it_is_tested_with(chat: str, texts: list[str]) -> None:
    generator = Generator(chat, HYPER.source_tokens, 8)
    row = encode_causal(generator.tokenizer, Pair(texts[0], "It fits. So the answer is x."), HYPER)
    prompt = generator._encoded(texts[:1])[0]
    assert row["input_ids"][: len(prompt)] == prompt and row["labels"][: len(prompt)] == [-100] * len(prompt)
    answer = generator.tokenizer.decode(row["input_ids"][len(prompt) :])
    assert answer == "It fits. So the answer is x.<|im_end|>", (
        "a turn of its own: no space before it, its end behind it"
    )
    given, rows = continuations(generator.tokenizer, "It fits. So the answer is", ["x", "y."], seq2seq=False)
    assert generator.tokenizer.decode([*given, *rows[1]]) == "It fits. So the answer is y."


def test_training_and_loading_again_keeps_the_template(chat: str, texts: list[str], tmp_path: Path) -> None:
    pairs = [Pair(text, f"It is {i}.") for i, text in enumerate(texts[:4])]
    curve = train_student(chat, pairs, HYPER, 0, tmp_path / "out", tmp_path / "work")
    assert curve == [] or all(row["loss"] > 0 for row in curve)
    one, other = load_tokenizer(chat), load_tokenizer(str(tmp_path / "out"))
    assert causal_prompt(one, texts[0], 99) == causal_prompt(other, texts[0], 99)
    assert Generator(str(tmp_path / "out"), 256, 6).greedy(texts[:2]) != ["", ""]


def test_greedy_is_the_argmax_whatever_the_checkpoint_would_rather_do(chat: str, texts: list[str]) -> None:
    generator = Generator(chat, 256, 10, batch=3)
    found, model = generator.greedy(texts[:5]), load_student(chat).eval()
    assert model.generation_config.repetition_penalty == 5.0, "this test would see nothing"
    for text, prompt in zip(found, texts, strict=False):
        ids = generator._encoded([prompt])[0]
        start = len(ids)
        with torch.inference_mode():
            while len(ids) < start + 10 and not {0, 2} & set(ids[start:]):
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert text == generator.tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


def test_a_text_ends_at_any_of_the_checkpoints_end_tokens(chat: str, texts: list[str]) -> None:
    generator = Generator(chat, 256, 10)
    assert generator._ends == [0, 2] and generator.tokenizer.eos_token_id == 2
    written = generator.tokenizer(generator.greedy(texts[:1])[0], add_special_tokens=False).input_ids
    assert len(written) > 3
    early = copy.copy(generator)
    early._ends = [written[1]]
    assert len(early.greedy(texts[:1])[0]) < len(generator.greedy(texts[:1])[0])


def test_samples_do_not_follow_the_checkpoints_own_temperature(chat: str, texts: list[str]) -> None:
    """At the checkpoint's temperature of 0.1 and 7 tokens of choice, samples would all but be the same."""
    samples = Generator(chat, 256, 6).sample(texts[:1], seed=0, count=20)[0]
    assert len(set(samples)) > 15
