"""What the tests of models share: tiny random models, texts to train on, and a training that is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kardlib import jobs, reranker_training, student
from kardlib.base_models import Phase, Recipe, new_model
from kardlib.mini import MiniSet
from kardlib.mini_tokenizer import Role, make_tokenizer
from kardlib.presets import SPLIT_SIZES, Settings, resolve
from kardlib.prompts import Pair, build_prompt, build_target
from kardlib.student import SaveByTime
from kardlib.teacher import ScriptedTeacher


def recipe(role: Role, **change: Any) -> Recipe:
    """The shape of a model of one layer."""
    shape = {"layers": 1, "heads": 2, "hidden": 64, "width": 64, "batch": 4, "phases": (Phase(2, 1e-3),)}
    return Recipe(**{"role": role} | shape | change)


def save_random(role: Role, folder: Path) -> str:
    """A tiny model whose random weights are large enough for what it writes to depend on what it reads."""
    model = new_model(recipe(role))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "embed" not in name and "shared" not in name:
                weight.mul_(4.0)
    model.save_pretrained(folder)
    make_tokenizer(role).save_pretrained(folder)
    return str(folder)


def uneven_pairs(mini: MiniSet, number: int) -> list[Pair]:
    """Training pairs of uneven length, with no passage to three and with a rationale or without."""
    questions = mini.splits["train"][:number]
    told = ScriptedTeacher(mini).rationales(questions, 1, show_gold=True)
    return [
        Pair(
            build_prompt(q, [p.text for p in mini.passages[: i % 4]]),
            build_target(q.answer_text, r.text if i % 3 else None),
        )
        for i, (q, r) in enumerate(zip(questions, told, strict=True))
    ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


def same_weights(first: Path, second: Path) -> bool:
    """Whether two saved models are equal to the last bit."""
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Killed(Exception):
    """Stands for the kill of a training process."""


def kill_training_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save a checkpoint after every step, and stop the next training for good at one of them."""

    class Kill(SaveByTime):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == step:
                raise Killed

    monkeypatch.setattr(student, "CHECKPOINT_SECONDS", -1)
    for module in (student, reranker_training):
        monkeypatch.setattr(module, "SaveByTime", Kill)


def watch_training(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Undo :func:`kill_training_at`; the list fills with the steps that the next training makes."""
    steps: list[int] = []

    class Watch(SaveByTime):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            steps.append(state.global_step)

    for module in (student, reranker_training):
        monkeypatch.setattr(module, "SaveByTime", Watch)
    return steps


@contextmanager
def smallest_runs(folder: Path, sizes: dict[str, int]) -> Iterator[None]:
    """Runs go to a folder of their own, in one process; smoke size is ``sizes``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KARD_RUNS", str(folder))
        patch.setenv("KARD_WORKERS", "1")
        patch.setitem(SPLIT_SIZES, "smoke", sizes)
        patch.setattr(jobs, "_experiments", {})
        yield


def smallest_settings(student: str, encoder: str) -> Settings:
    """An experiment of all steps that takes seconds."""
    return resolve(
        "mini", size="smoke", inventory="development", student=student, encoder=encoder, seeds=(0,), filter=False,
        l=2, k=3, kappa_star=20, kappa1=4, kappa2=6, pool=4, student_epochs=1, student_batch=8, reranker_epochs=1,
        source_tokens=110, target_tokens=16,
    )  # fmt: skip
