"""From predictions and rankings to rows of the paper's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .errors import KardError
from .experiment import Experiment
from .jobs import Job, run_jobs
from .methods import METHODS, Method, method
from .mini import needed_facts
from .runs import ResultRow
from .scoring import Score, accuracy, difference, hits, outcomes, score

HITS = (1, 3, 5, 10)
# Who plays whom: the paper uses Flan-T5 on MedQA and T5 on the other two sets.
_PLAYS = {"mini-t5-base": "T5-base", "mini-t5-large": "T5-large", "mini-t5-xl": "T5-xl", "mini-opt": "OPT-350M"}


def paper_student(student: str, paper_dataset: str) -> str | None:
    """The paper's name of the student that a shipped model plays; None for any other model."""
    name = _PLAYS.get(student)
    return f"Flan-{name}" if name and name.startswith("T5") and paper_dataset == "MedQA-USMLE" else name


def training_jobs(experiment: Experiment) -> list[Job]:
    """One reranker and one student of each kind for every seed, the longest first."""
    seeds = experiment.settings.seeds
    students = [
        Job("student", {"training": name, "seed": seed})
        for name in ("KARD", "Reasoning Distillation", "KA Fine-tuning", "Fine-tuning")
        for seed in seeds
    ]
    return [Job("reranker", {"seed": seed}) for seed in seeds] + students


def seeds_of(row: Method, experiment: Experiment) -> tuple[int, ...]:
    """The seeds of a method: all, or one where nothing is trained and decoding is greedy."""
    return experiment.settings.seeds if row.training else experiment.settings.seeds[:1]


def main_jobs(experiment: Experiment, decodings: Sequence[str] = ("greedy",)) -> list[Job]:
    """Predictions of every method of the main table on the reported split."""
    return [
        Job("predictions", {"name": row.name, "seed": seed, "decoding": decoding})
        for decoding in decodings
        for row in METHODS
        for seed in seeds_of(row, experiment)
        if not (decoding != "greedy" and row.forced_rationale)
    ]


def make_main_table(experiment: Experiment, decodings: Sequence[str] = ("greedy",)) -> None:
    """Train and predict whatever the main table still lacks."""
    settings = experiment.settings
    prepare(experiment)
    run_jobs(settings, training_jobs(experiment), "training")
    run_jobs(settings, [Job("reranked", {"seed": seed}) for seed in settings.seeds], "reranking")
    run_jobs(settings, main_jobs(experiment, decodings), "answering")


def prepare(experiment: Experiment) -> None:
    """The steps that all others need, made before work is shared out."""
    experiment.rationales()
    experiment.test_rationale()
    if experiment.settings.filter:
        experiment.verdicts()
    experiment.pools()


def main_rows(experiment: Experiment, decodings: Sequence[str] = ("greedy",)) -> list[ResultRow]:
    """Rows of the main table (Table 1, or Table 2 for the sets that the paper has there)."""
    rows = []
    for decoding in decodings:
        for row in METHODS:
            if decoding != "greedy" and row.forced_rationale:
                continue
            runs = [experiment.predictions(row.name, seed, decoding) for seed in seeds_of(row, experiment)]
            rows.append(_accuracy_row(experiment, row, decoding, accuracy(runs)))
    return rows


def _accuracy_row(experiment: Experiment, row: Method, decoding: str, value: Score) -> ResultRow:
    s, data = experiment.settings, experiment.data
    settings = {"l": s.l if row.training else None, "k": s.k if row.test_query != "none" else None}
    settings["answers"] = s.answers if decoding == "greedy" else "free"
    settings["kappa_star"] = s.kappa_star if row.test_query == "reranker" else None
    first = experiment.folder("predictions", name=row.name, seed=s.seeds[0], decoding=decoding, split="test")
    return ResultRow(
        table="1" if data.paper_name == "MedQA-USMLE" else "2",
        dataset=data.name,
        paper_dataset=data.paper_name or None,
        split=data.test_split,
        student=s.student,
        paper_student=paper_student(s.student, data.paper_name),
        method=row.name,
        metric="accuracy",
        decoding=decoding,
        settings=settings,
        oracle=row.oracle,
        predictions=str(first / "predictions.jsonl"),
        **_numbers(value),
    )


def hits_rows(experiment: Experiment) -> list[ResultRow]:
    """hits@k of BM25(question) and of the reranker over the same kappa* candidates (Fig. 4c)."""
    rankings = rankings_of(experiment)
    truth = experiment.truth()
    return [
        _hits_row(experiment, name, k, score(hits(runs, truth, k))) for k in HITS for name, runs in rankings.items()
    ]


def rankings_of(experiment: Experiment) -> dict[str, list[dict[str, tuple[str, ...]]]]:
    """Ranked passage ids by question id: of BM25 (one ranking) and of the reranker (one a seed)."""
    seeds = experiment.settings.seeds
    return {
        "BM25": [{i: c.passages for i, c in experiment.candidates().items()}],
        "Reranker": [{i: c.passages for i, c in experiment.reranked(seed).items()} for seed in seeds],
    }


def _hits_row(experiment: Experiment, name: str, k: int, value: Score) -> ResultRow:
    s, data = experiment.settings, experiment.data
    return ResultRow(
        table="Fig 4c",
        dataset=data.name,
        paper_dataset=data.paper_name or None,
        split=data.test_split,
        student=None,
        paper_student="-",
        method=name,
        metric=f"hits@{k}",
        decoding=None,
        settings={"kappa_star": s.kappa_star},
        oracle=False,
        predictions=None,
        **_numbers(value),
    )


def _numbers(value: Score) -> dict[str, object]:
    return {
        "value": value.value,
        "sd": value.sd,
        "seeds": value.seeds,
        "ci95": (value.ci95[0], value.ci95[1]),
        "n": value.n,
        "parse_failures": value.parse_failures,
    }


def compare(experiment: Experiment, first: str, second: str) -> Score:
    """Paired difference in accuracy of two methods, first minus second, in points."""
    tables = [
        outcomes([experiment.predictions(name, seed) for seed in seeds_of(method(name), experiment)])
        for name in (first, second)
    ]
    return difference(*tables)


def compare_hits(experiment: Experiment, k: int) -> Score:
    """Paired difference in hits@k, reranker minus BM25, in points."""
    rankings, truth = rankings_of(experiment), experiment.truth()
    return difference(hits(rankings["Reranker"], truth, k), hits(rankings["BM25"], truth, k))


def coverage(experiment: Experiment, passages: Mapping[str, Sequence[str]], k: int) -> np.ndarray:
    """Whether the first k passages state every fact that a question needs, in the order of the reported questions.

    Only a mini set knows; no model ever sees this.
    """
    mini = experiment.data.mini
    if mini is None:
        raise KardError(f"{experiment.data.name}: only a mini set knows which facts a question needs")
    covered = []
    for question in experiment.data.test:
        stated = set().union(*(mini.facts[i] for i in passages[question.id][:k]))
        covered.append(needed_facts(mini.world, question) <= stated)
    return np.array(covered)
