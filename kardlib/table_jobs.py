"""The steps behind the main table: what is trained for it, in which order, and which predictions it rests on."""

from __future__ import annotations

from collections.abc import Sequence

from .experiment import Experiment
from .jobs import Job, run_jobs
from .methods import TRAININGS, Method, main_methods
from .presets import Settings
from .steps import missing


def training_jobs(experiment: Experiment) -> list[Job]:
    """One reranker and one student of each kind for every seed, the longest first."""
    seeds = experiment.settings.seeds
    students = [
        Job("student", {"training": name, "seed": seed})
        for name in ("KARD", "Reasoning Distillation", "KA Fine-tuning", "Fine-tuning")
        for seed in seeds
        if experiment.told or TRAININGS[name].target == "answer"
    ]
    return [Job("reranker", {"seed": seed}) for seed in seeds if experiment.told] + students


def reranking_jobs(settings: Settings) -> list[Job]:
    """One reranker a seed, and where that would leave a core idle, the first student beside them."""
    jobs = [Job("reranker", {"seed": seed}) for seed in settings.seeds]
    return [*jobs, Job("student", {"training": "KARD", "seed": settings.seeds[0]})] if len(jobs) % 2 else jobs


def seeds_of(row: Method, experiment: Experiment) -> tuple[int, ...]:
    """The seeds of a method: all, or one where nothing is trained and decoding is greedy."""
    return experiment.settings.seeds if row.training else experiment.settings.seeds[:1]


def main_jobs(experiment: Experiment, decodings: Sequence[str] = ("greedy",)) -> list[Job]:
    """Predictions of every method of the main table on the reported split."""
    return [
        Job("predictions", {"name": row.name, "seed": seed, "decoding": decoding})
        for decoding in decodings
        for row in main_methods(experiment.told)
        for seed in seeds_of(row, experiment)
        if not (decoding != "greedy" and row.forced_rationale)
    ]


def make_main_table(experiment: Experiment, decodings: Sequence[str] = ("greedy",)) -> None:
    """Train and predict whatever the main table still lacks; a model that nothing missing needs is not trained."""
    settings = experiment.settings
    answering = main_jobs(experiment, decodings)
    lacking = missing(experiment, [*ranking_jobs(experiment), *answering])
    if not lacking:
        return
    prepare(experiment)
    reranking = [Job("reranked", {"seed": seed}) for seed in settings.seeds]
    for title, jobs in (("training", training_jobs(experiment)), ("reranking", reranking), ("answering", answering)):
        run_jobs(settings, [j for j in jobs if experiment.folder(j.step, **j.arguments) in lacking], title)


def ranking_jobs(experiment: Experiment) -> list[Job]:
    """Rankings of every seed, for hits@k, whose truth is what a rationale finds."""
    return [Job("rankings", {"seed": seed}) for seed in experiment.settings.seeds if experiment.told]


def prepare(experiment: Experiment) -> None:
    """The steps that all others need, made before work is shared out."""
    if not experiment.told:
        return
    experiment.rationales()
    experiment.test_rationale()
    if experiment.settings.filter:
        experiment.verdicts()
    experiment.pools()
