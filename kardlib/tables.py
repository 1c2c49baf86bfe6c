"""From predictions and rankings to rows of the paper's tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import numpy as np

from . import comparison
from .comparison import Comparison
from .errors import KardError
from .experiment import Experiment
from .methods import Method, main_methods, method
from .records import Prediction, Ranking, write_jsonl
from .runs import ResultRow
from .scoring import Score, accuracy, hits, outcomes, score
from .table_jobs import seeds_of

HITS = (1, 3, 5, 10)
# Who plays whom: the paper uses Flan-T5 on MedQA and T5 on the other two sets.
_PLAYS = {"mini-t5-base": "T5-base", "mini-t5-large": "T5-large", "mini-t5-xl": "T5-xl", "mini-opt": "OPT-350M"}
_REAL = {
    **{f"t5-v1_1-{size}": f"T5-{size}" for size in ("base", "large", "xl")},
    **{f"flan-t5-{size}": f"Flan-T5-{size}" for size in ("base", "large", "xl")},
    "opt-350m": "OPT-350M",
    "opt-iml-1.3b": "OPT-IML-1.3B",
}


def paper_student(student: str, paper_dataset: str) -> str | None:
    """The paper's name of a student, or of the one that a shipped model plays; None for any other model."""
    name = _PLAYS.get(student)
    if name is None:
        return _REAL.get(Path(student).name.lower())
    return f"Flan-{name}" if name.startswith("T5") and paper_dataset == "MedQA-USMLE" else name


def main_rows(
    experiment: Experiment, decodings: Sequence[str] = ("greedy",), folder: Path | None = None
) -> list[ResultRow]:
    """Rows of the main table (Table 1, or Table 2 for the sets that the paper has there).

    Greedy answers that were scored over the options come a second time as they were written (``answers`` is ``free``).

    Args:
        folder: of the run; the raw predictions of all seeds are written to its subfolder ``predictions``.
    """
    readings = [(d, experiment.settings.answers if d == "greedy" else "free") for d in decodings]
    readings += [("greedy", "free")] if ("greedy", "scored") in readings else []
    rows = []
    for decoding, answers in readings:
        for row in main_methods(experiment.told):
            if decoding != "greedy" and row.forced_rationale:
                continue
            runs = [experiment.predictions(row.name, seed, decoding) for seed in seeds_of(row, experiment)]
            line = accuracy_row(experiment, row, decoding, answers, accuracy(runs, answers == "free"))
            rows.append(line.model_copy(update={"predictions": keep_predictions(runs, folder)}) if folder else line)
    return rows


def keep_predictions(runs: Sequence[Sequence[Prediction]], folder: Path, name: str = "") -> str:
    """Write the raw predictions of all seeds below a run's folder and return the file.

    Args:
        name: of the row; method and decoding by default.
    """
    first = runs[0][0]
    name = "-".join(re.findall(r"\w+", (name or f"{first.method} {first.decoding}").lower()))
    file = folder / "predictions" / f"{name}.jsonl"
    write_jsonl(file, (prediction for run in runs for prediction in run))
    return str(file)


def accuracy_row(experiment: Experiment, row: Method, decoding: str, answers: str, value: Score) -> ResultRow:
    """The row of a method's accuracy, with the settings that tell it from its neighbours."""
    s, data = experiment.settings, experiment.data
    settings = {"l": s.l if row.training else None, "k": s.k if row.test_query != "none" else None, "answers": answers}
    settings["kappa_star"] = s.kappa_star if row.test_query == "reranker" else None
    settings["shots"] = _mean_shots(experiment, row, decoding) if row.examples else None
    settings = _unusual(experiment) | settings
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
        predictions=None,
        **_numbers(value),
    )


def _mean_shots(experiment: Experiment, row: Method, decoding: str) -> float:
    """Worked examples that the prompts of a row really showed: they may have room for fewer than ``shots``."""
    shown = experiment.shots(row.name, experiment.settings.seeds[0], decoding=decoding)
    mean = round(sum(shown) / len(shown), 1)
    return int(mean) if mean == int(mean) else mean


def hits_rows(experiment: Experiment, folder: Path | None = None) -> list[ResultRow]:
    """hits@k of BM25(question) and of the reranker over the same kappa* candidates (Fig. 4c).

    Args:
        folder: of the run; the first passages of each ranking are written to its subfolder ``predictions``.
    """
    if not experiment.told:
        return []
    rankings = rankings_of(experiment)
    truth = truth_of(experiment)
    files = {n: _keep_ranking(n, runs, truth, experiment, folder) if folder else None for n, runs in rankings.items()}
    return [
        _hits_row(experiment, name, k, score(hits(runs, truth, k))).model_copy(update={"predictions": files[name]})
        for k in HITS
        for name, runs in rankings.items()
    ]


def _keep_ranking(
    name: str,
    runs: Sequence[Mapping[str, tuple[str, ...]]],
    truth: Mapping[str, tuple[str, ...]],
    experiment: Experiment,
    folder: Path,
) -> str:
    file = folder / "predictions" / f"ranking-{name.lower()}.jsonl"
    write_jsonl(
        file,
        (
            Ranking(question_id=i, method=name, seed=seed, passages=ranked[i][: max(HITS)], truth=right)
            for seed, ranked in zip(experiment.settings.seeds, runs, strict=False)
            for i, right in truth.items()
        ),
    )
    return str(file)


def rankings_of(experiment: Experiment) -> dict[str, list[dict[str, tuple[str, ...]]]]:
    """Ids of the first passages by question id: of BM25 (one ranking) and of the reranker (one a seed)."""
    runs = [experiment.rankings(seed) for seed in experiment.settings.seeds]
    reranked = [{ranked.question_id: ranked.reranker for ranked in run} for run in runs]
    return {"BM25": [{ranked.question_id: ranked.bm25 for ranked in runs[0]}], "Reranker": reranked}


def truth_of(experiment: Experiment) -> dict[str, tuple[str, ...]]:
    """Ids of the passages that count as hits, by question id."""
    return {ranked.question_id: ranked.truth for ranked in experiment.rankings(experiment.settings.seeds[0])}


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
        settings=_unusual(experiment) | {"kappa_star": s.kappa_star},
        oracle=False,
        predictions=None,
        **_numbers(value) | {"parse_failures": None},
    )


def _unusual(experiment: Experiment) -> dict[str, object]:
    """Settings that are not the preset's, folders by their last name: they tell a run's rows from another run's."""
    changed = experiment.settings.changed()
    return {n: Path(v).name if n in ("encoder", "student") else v for n, v in changed.items()}


def _numbers(value: Score) -> dict[str, object]:
    return {
        "value": value.value,
        "sd": value.sd,
        "seeds": value.seeds,
        "ci95": (value.ci95[0], value.ci95[1]),
        "n": value.n,
        "parse_failures": value.parse_failures,
    }


def compare(experiment: Experiment, first: str, second: str, free: bool = False) -> Comparison:
    """Paired comparison of two methods' accuracy, first minus second; see :func:`kardlib.comparison.compare`.

    Args:
        free: of the answers as they were written.
    """
    tables = [
        outcomes([experiment.predictions(name, seed) for seed in seeds_of(method(name), experiment)], free)
        for name in (first, second)
    ]
    return comparison.compare(*tables)


def compare_hits(experiment: Experiment, k: int, only: Set[str] | None = None) -> Comparison:
    """Paired comparison in hits@k, reranker minus BM25; see :func:`kardlib.comparison.compare`.

    Args:
        only: ids of the questions that count; all where it is left out.
    """
    rankings = rankings_of(experiment)
    truth = {i: passages for i, passages in truth_of(experiment).items() if only is None or i in only}
    return comparison.compare(hits(rankings["Reranker"], truth, k), hits(rankings["BM25"], truth, k))


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
        covered.append(mini.needed(question) <= stated)
    return np.array(covered)


ASKED = {"never": (0, 0), "once": (1, 1), "2 to 5": (2, 5), "6 or more": (6, 10**9)}
"""Groups of test questions by how many training questions are about the same disease."""


def asked_in_training(experiment: Experiment) -> dict[str, set[str]]:
    """Ids of the reported questions in each group of ``ASKED``; a mini set only knows what a question is about.

    Raises:
        KardError: it is no mini set.
    """
    mini = experiment.data.mini
    if mini is None:
        raise KardError(f"{experiment.data.name}: only a mini set knows what a question is about")
    asked = Counter(mini.task.topic(q) for q in experiment.data.train)
    return {
        name: {q.id for q in experiment.data.test if low <= asked[mini.task.topic(q)] <= high}
        for name, (low, high) in ASKED.items()
    }


def by_frequency(experiment: Experiment, name: str) -> list[tuple[float, float, float]]:
    """Accuracy of a method in each group of ``ASKED``, with the ends of its interval, in percent; 0 where none is."""
    runs = [experiment.predictions(name, seed) for seed in seeds_of(method(name), experiment)]
    whiskers = []
    for group in asked_in_training(experiment).values():
        value = accuracy([[p for p in run if p.question_id in group] for run in runs]) if group else None
        whiskers.append((value.value, *value.ci95) if value else (0.0, 0.0, 0.0))
    return whiskers
