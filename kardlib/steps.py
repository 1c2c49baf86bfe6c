"""Which steps a step is made from, and so what is still to be made for a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .jobs import Job
from .keys import Keys
from .methods import method, training_name
from .presets import Settings
from .stored import KEY


def behind(job: Job, settings: Settings) -> list[Job]:
    """The steps that a step reads itself; none for a step that is not known here."""
    kept = Job("verdicts") if settings.filter else Job("rationales")
    if job.step == "verdicts":
        return [Job("rationales")]
    if job.step == "student" and settings.dapt != "none":
        return [kept, Job("adapted", {"seed": job.arguments["seed"]})]
    if job.step in ("pools", "student"):
        return [kept]
    if job.step == "reranker":
        return [Job("pools")]
    if job.step == "rag":
        return [kept, Job("retriever", {"seed": job.arguments["seed"]})]
    if job.step == "reranked":
        return [Job("reranker", {"seed": job.arguments["seed"]})]
    if job.step == "rankings":
        return [Job("reranked", job.arguments), Job("rationales", {"show_gold": False})]
    if job.step == "controls":
        name, seed = job.arguments["name"], job.arguments["seed"]
        student = Job("student", {"training": training_name(method(name)), "seed": seed})
        return [Job("predictions", {"name": name, "seed": seed}), student]
    return _behind_predictions(job, kept) if job.step == "predictions" else []


def _behind_predictions(job: Job, kept: Job) -> list[Job]:
    row, seed = method(job.arguments["name"]), job.arguments["seed"]
    split = {"split": job.arguments["split"]} if "split" in job.arguments else {}
    if row.test_query == "dense":
        return [Job("rag", {"seed": seed})]
    found = [Job("student", {"training": training_name(row), "seed": seed})] if row.training else [kept]
    found += [Job("reranked", {"seed": seed} | split)] if row.test_query == "reranker" else []
    return found + ([Job("rationales", {"show_gold": False})] if row.oracle else [])


def models_behind(step: str, arguments: dict[str, Any], settings: Settings) -> list[Job]:
    """The trained models that a step reads itself; a reranker's stand for it where its rankings are read."""
    return [job for job in behind(Job(step, arguments), settings) if job.step in ("student", "rag", "reranked")]


def all_behind(jobs: Sequence[Job], settings: Settings) -> list[Job]:
    """Jobs and all that they are made from, what is made first at the front, each once."""
    found: list[Job] = []
    waiting = list(jobs)
    while waiting:
        job = waiting.pop(0)
        if job in found:
            found.remove(job)  # something nearer to the end needs it too
        found.append(job)
        waiting += behind(job, settings)
    return found[::-1]


def missing(experiment: Keys, jobs: Sequence[Job]) -> dict[Path, Job]:
    """What is to be made so that all jobs are finished, by the folder that it will have; upstream steps last.

    What a finished step was made from is not asked for: a student whose answers are all there is not trained again, and
    one whose answers ship with the kit is not trained at all.
    """
    found: dict[Path, Job] = {}
    waiting = list(jobs)
    while waiting:
        job = waiting.pop(0)
        folder = experiment.folder(job.step, **job.arguments)
        if folder in found or (folder / KEY).exists():
            continue
        if experiment.shipped(job.step, **job.arguments) is None:
            found[folder] = job
            waiting += behind(job, experiment.settings)
    return found
