"""``kard plan``'s estimate of a training and of written answers, against what then happens on the same machine.

The ratio says how far off the estimate was: measured seconds by expected ones, of the clock and, without a GPU, of the
processor, which other programs on the machine do not lengthen. Real OpenBookQA questions with passages
(``KARD_DATA``), a shipped student; a few dozen training steps and a few batches of answers.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from kardlib.calibration import trains_in_bf16
from kardlib.cost_plan import Costs, Wanted
from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.generate import Generator
from kardlib.jobs import Job, threads
from kardlib.methods import TRAININGS
from kardlib.models import token_counter
from kardlib.pairs import training_pairs
from kardlib.presets import Settings, resolve
from kardlib.prompts import Pair
from kardlib.sample_lengths import sample_of
from kardlib.splits import hash_share
from kardlib.step_costs import Work, cost
from kardlib.step_work import work_of
from kardlib.student import Hyperparameters, train_student

from .rows import Row, row, seconds

STEPS = 20
"""Training steps that are timed."""
QUESTIONS = 640
"""Whose answers are written."""
WRITTEN = 48


def rows() -> list[Row]:
    """The benchmark's rows; about two minutes."""
    if not os.environ.get("KARD_DATA"):
        raise KardError("KARD_DATA names no folder with OpenBookQA")
    settings = resolve("laptop", target_tokens=WRITTEN)
    if not torch.cuda.is_available():
        torch.set_num_threads(threads(settings, "student"))
    pairs = some_pairs(settings, STEPS * settings.student_batch)
    found = []
    for name, (told, clock, processor) in (
        ("training steps", training(settings, pairs)),
        ("answers", answers(settings, pairs)),
    ):
        found.append(row(f"kard plan: {name}, measured by expected", "its own estimate", told, clock, "s"))
        if not torch.cuda.is_available():
            busy = processor / threads(settings, "student")
            found.append(row(f"kard plan: {name}, processor time by expected", "its own estimate", told, busy, "s"))
    return found


def both(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of the processor, all threads together."""
    start = time.process_time()
    return seconds(call), time.process_time() - start


def some_pairs(settings: Settings, count: int) -> list[Pair]:
    """KARD's training pairs of so many questions, chosen by a hash; not those that the estimate's lengths are of."""
    experiment = Experiment(settings)
    questions = sorted(experiment.data.train, key=lambda q: hash_share(q.id, "plan estimate"))[:count]
    items = [(q, experiment.data.annotations[q.id]) for q in questions]
    limits = settings.source_tokens, settings.target_tokens
    return training_pairs(
        TRAININGS["KARD"], items, experiment.search, settings.k, token_counter(settings.student), *limits
    )


def expected(settings: Settings, job: Job, **change: object) -> float:
    """Seconds that the plan tells for a step, with fewer examples; the device is measured anew."""
    costs = Costs(again=True)
    sample = sample_of(settings)
    found = costs.of(Wanted("", settings, job, 1))
    work = work_of(job, settings, sample)
    assert found is not None and costs.own is not None and isinstance(work, Work)
    told, rates = found
    fewer = cost(replace(work, **change), told.shape, costs.own.memory, trains_in_bf16(told.shape.parameters))
    return fewer.seconds(rates)


def training(settings: Settings, pairs: list[Pair]) -> tuple[float, float, float]:
    """Expected and measured seconds of some training steps, loading and saving included in what is measured."""
    hyper = Hyperparameters.of(settings)
    told = expected(settings, Job("student", {"training": "KARD", "seed": 0}), examples=len(pairs) * hyper.epochs)
    with tempfile.TemporaryDirectory() as folder:
        out, work = Path(folder) / "model", Path(folder) / "work"
        return told, *both(lambda: train_student(settings.student, pairs, hyper, 0, out, work))


def answers(settings: Settings, pairs: list[Pair]) -> tuple[float, float, float]:
    """Expected and measured seconds of greedy answers of a student that is not trained, and so writes to the end."""
    name = "Base model with passages, untrained"
    told = expected(
        settings, Job("predictions", {"name": name, "seed": 0}), examples=min(QUESTIONS, len(pairs)), options=0
    )
    writer = Generator(settings.student, settings.source_tokens, settings.target_tokens)
    prompts = [pair.source for pair in islice(pairs, QUESTIONS)]
    return told, *both(lambda: writer.greedy(prompts))


def main() -> None:
    """Print the rows."""
    for one in rows():
        print(f"{one['name']}: {one['theirs']} s measured, {one['ours']} s expected, ratio {one['ratio']}")


if __name__ == "__main__":
    main()
