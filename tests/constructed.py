"""Artefacts with the keys of real ones and next to nothing in them, for the tests of what looks at artefacts; and
experiments with predictions by hand, for the tests of what looks at answers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kardlib.dataset import DataSet
from kardlib.experiment import Experiment
from kardlib.jobs import Job
from kardlib.mini import MiniSet
from kardlib.presets import resolve
from kardlib.records import Prediction, Question
from kardlib.store import artefact
from kardlib.stored import lock_of
from kardlib.teacher import ScriptedTeacher


def put(experiment: Experiment, job: Job, content: str = "x", seconds: float | None = None) -> Path:
    """Make the artefact of a job, as if its making had taken some seconds."""

    def make(folder: Path) -> None:
        (folder / "model").mkdir()
        (folder / "model" / "content").write_text(content)

    folder = artefact(experiment.root, job.step, experiment.key(job.step, **job.arguments), make)
    if seconds is not None:
        end = (folder / "key.json").stat().st_mtime
        os.utime(lock_of(folder), (end - seconds, end - seconds))
    return folder


def put_all(experiment: Experiment, jobs: Iterable[Job]) -> list[Path]:
    """Make the artefacts of all jobs."""
    return [put(experiment, job) for job in jobs]


def experiment_on(mini: MiniSet, predictions: Iterable[Prediction] = (), **settings: Any) -> Experiment:
    """An experiment on a small mini set whose predictions are given by hand; it searches, and trains nothing.

    Its lists of questions are its own: tests share ``mini``.
    """
    one = Experiment(resolve("mini", dataset=mini.task.name, size="smoke", **settings))
    task, splits = mini.task, ([*mini.splits[name]] for name in ("train", "dev", "test"))
    one.__dict__["data"] = DataSet(task.name, task.paper_name, *splits, "test", mini.passages, mini=mini)
    made = list(predictions)
    told = ScriptedTeacher(mini).rationales(mini.splits["test"], 1, show_gold=False)

    def given(name: str, seed: int, decoding: str = "greedy", split: str = "test") -> list[Prediction]:
        return [p for p in made if (p.method, p.seed) == (name, seed)]

    one.__dict__["predictions"] = given
    one.__dict__["test_rationale"] = lambda: {r.question_id: r for r in told}
    return one


def answer(question: Question, method: str, chosen: int | None, **more: Any) -> Prediction:
    """A prediction by hand; its text names ``parsed``, by default the chosen option."""
    parsed = more.pop("parsed", chosen)
    text = "nothing" if parsed is None else question.options[parsed]
    told = {"seed": 0, "decoding": "greedy", "rationale": "", "answer": text} | more
    return Prediction(question_id=question.id, method=method, parsed=parsed, chosen=chosen, gold=question.gold, **told)
