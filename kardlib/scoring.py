"""Scores: accuracy with parse failures and intervals, hits@k. Values are in percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .errors import KardError
from .records import Prediction

RESAMPLES = 2000


@dataclass(frozen=True)
class Score:
    """A mean over seeds with its interval over questions.

    Attributes:
        value: mean over seeds, in percent.
        sd: standard deviation over seeds, in percent points; None for one seed.
        seeds: the value of each seed.
        ci95: bootstrap interval over questions, seeds nested in them.
        n: distinct questions.
        parse_failures: answers that named no option, over all seeds.
    """

    value: float
    sd: float | None
    seeds: list[float]
    ci95: list[float]
    n: int
    parse_failures: int = 0


def score(table: np.ndarray, parse_failures: int = 0) -> Score:
    """Score a table of outcomes, shape ``(seeds, questions)``, 1 for right and 0 for wrong."""
    if table.ndim != 2 or not table.size:
        raise KardError("nothing to score: there are no predictions")
    seeds = [float(100 * row.mean()) for row in table]
    return Score(
        value=float(np.mean(seeds)),
        sd=float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None,
        seeds=seeds,
        ci95=interval(table.mean(axis=0)),
        n=table.shape[1],
        parse_failures=parse_failures,
    )


def interval(per_question: np.ndarray) -> list[float]:
    """95 % percentile bootstrap of the mean over questions, in percent; seeds are already averaged per question.

    Where every question is right, or every one wrong, resampling shows no spread: Wilson's interval takes its place.
    """
    mean = float(per_question.mean())
    if np.ptp(per_question) == 0 and mean in (0.0, 1.0):
        n = len(per_question)
        wilson = stats.binomtest(int(mean * n), n).proportion_ci(method="wilson")
        return [100 * float(wilson.low), 100 * float(wilson.high)]
    if np.ptp(per_question) == 0 or len(per_question) < 2:
        return [100 * mean] * 2
    result = stats.bootstrap(
        (per_question,), np.mean, n_resamples=RESAMPLES, method="percentile", batch=100, rng=np.random.default_rng(0)
    )
    return [100 * float(result.confidence_interval.low), 100 * float(result.confidence_interval.high)]


def outcomes(runs: Sequence[Sequence[Prediction]], free: bool = False) -> np.ndarray:
    """Right or wrong, shape ``(seeds, questions)``; every run must answer the same questions, in any order.

    Args:
        free: read the text as written (one that names no option is wrong), whatever option was scored the likeliest.
    """
    ids = sorted(p.question_id for p in runs[0])
    rows = []
    for run in runs:
        by_id = {p.question_id: float((p.parsed if free else p.chosen) == p.gold) for p in run}
        if sorted(by_id) != ids:
            raise KardError("predictions of different seeds do not answer the same questions")
        rows.append([by_id[i] for i in ids])
    return np.array(rows)


def accuracy(runs: Sequence[Sequence[Prediction]], free: bool = False) -> Score:
    """Accuracy of one method over seeds, see :func:`outcomes`; texts that name no option are counted."""
    failures = sum(p.parsed is None for run in runs for p in run)
    return score(outcomes(runs, free), failures)


def hits_at(ranking: Sequence[str], truth: Sequence[str], k: int) -> bool:
    """hits@k: whether at least one truth passage is among the first k."""
    return bool(set(ranking[:k]) & set(truth))


def hits(rankings: Sequence[Mapping[str, Sequence[str]]], truth: Mapping[str, Sequence[str]], k: int) -> np.ndarray:
    """hits@k of every question, shape ``(seeds, questions)``, in the order of ``truth``."""
    return np.array([[float(hits_at(run[i], truth[i], k)) for i in truth] for run in rankings])
