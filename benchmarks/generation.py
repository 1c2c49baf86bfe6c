"""Generation: five samples a question, in questions a second, against the authors' way: one question at a time, by
the library's own sampling.

The same model, prompts, distribution and precision (float32) in all; all cores. That the engines write the same greedy
texts is checked on a shipped model, whose texts mean something.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.flan_t5_small import SOURCE_TOKENS, model_folder, prompts
from benchmarks.rows import Row, row
from kardlib.ctranslate2_engine import CTranslate2Generator
from kardlib.decoding import SAMPLING, VOTES
from kardlib.errors import KardError
from kardlib.generate import Generator
from kardlib.mini import make_mini_medqa
from kardlib.models import load_student, load_tokenizer
from kardlib.presets import SPLIT_SIZES, resolve
from kardlib.prompts import build_prompt

QUESTIONS, ALONE, TARGET_TOKENS = 128, 12, 64
"""Questions that are answered in batches, those that are answered one at a time, and tokens of each text."""
CHECKED = "mini-t5-base"


def rows() -> list[Row]:
    """The benchmark's rows; some minutes on two cores."""
    folder = model_folder()
    asked = prompts(QUESTIONS, folder)
    name = f"generation, {VOTES} samples of {TARGET_TOKENS} tokens"
    against, unit = "one question at a time, transformers", "questions/s"
    few = sorted(asked, key=len)[:: QUESTIONS // ALONE]  # of all lengths
    theirs = speed(one_at_a_time(folder), few)
    usual = Generator(str(folder), SOURCE_TOKENS, TARGET_TOKENS)
    found = [row(f"{name}, transformers", against, speed(usual.sample, asked), theirs, unit, "ours/theirs")]
    if importlib.util.find_spec("ctranslate2"):
        fast = CTranslate2Generator(str(folder), SOURCE_TOKENS, TARGET_TOKENS, tell=refuse)
        found.append(row(f"{name}, CTranslate2", against, speed(fast.sample, asked), theirs, unit, "ours/theirs"))
    return [*found, *same_texts()]


Sample = Callable[[Sequence[str], int], list[list[str]]]
"""Five texts for each prompt, for a seed."""


def one_at_a_time(folder: Path) -> Sample:
    """The authors' way: a call of the library for each question, with five samples."""
    model, tokenizer = load_student(str(folder)).eval(), load_tokenizer(str(folder))
    options = SAMPLING | {"num_return_sequences": VOTES, "max_new_tokens": TARGET_TOKENS}

    @torch.inference_mode()
    def sample(asked: Sequence[str], seed: int) -> list[list[str]]:
        torch.manual_seed(seed)
        texts = []
        for prompt in asked:
            inputs = tokenizer(prompt, return_tensors="pt", truncation=True, max_length=SOURCE_TOKENS)
            written = model.generate(
                input_ids=inputs.input_ids.to(model.device),
                attention_mask=inputs.attention_mask.to(model.device),
                **options,
            )
            texts.append(tokenizer.batch_decode(written, skip_special_tokens=True))
        return texts

    return sample


def speed(sample: Sample, asked: Sequence[str], clock: Callable[[], float] = time.perf_counter) -> float:
    """Questions a second, after a call that is not timed; every question must have all its texts."""
    sample(asked[:2], 1)
    start = clock()
    texts = sample(asked, 0)
    taken = clock() - start
    if any(len(own) != VOTES or not all(own) for own in texts):
        raise KardError("a sample is empty: the speeds would not be of the same work")
    return len(asked) / taken


def same_texts() -> list[Row]:
    """Share of greedy texts of a shipped model that are the same in batches, or by CTranslate2, as one at a time."""
    s = resolve("mini")
    data = make_mini_medqa(s.world, s.inventory, SPLIT_SIZES["smoke"])
    passages = [passage.text for passage in data.passages]
    asked = [build_prompt(q, passages[3 * i : 3 * i + i % 4]) for i, q in enumerate(data.splits["test"])]
    options = (CHECKED, s.source_tokens, s.target_tokens)
    alone = Generator(*options, batch=1).greedy(asked)
    engines = {"transformers, in batches": Generator(*options)}
    if importlib.util.find_spec("ctranslate2"):
        engines["CTranslate2"] = CTranslate2Generator(*options, tell=refuse)
    against, found = "one question at a time, transformers", []
    for name, engine in engines.items():
        same = sum(a == b for a, b in zip(engine.greedy(asked), alone, strict=True)) / len(asked)
        found.append(row(f"{CHECKED}: same greedy texts, {name}", against, same, 1, "share", "ours/theirs"))
    return found


def refuse(line: str) -> None:
    """Another engine than the row names must not be what is measured."""
    raise KardError(line)
