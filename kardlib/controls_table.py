"""What the controls show: accuracy under each of them, the paired difference, and how often the answer stays."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .comparison import Comparison, compare, with_holm
from .controls import CONTROLS, Control
from .experiment import Experiment
from .jobs import Job, run_jobs
from .methods import method, training_name
from .records import Prediction
from .runs import ResultRow
from .scoring import Score, accuracy, outcomes, score
from .steps import missing
from .tables import accuracy_row, keep_predictions

Run = Sequence[Prediction]
HEADER = (
    "input", "accuracy", "95 % CI", "less unchanged (95 % CI)", "p (Holm)", "detectable", "same option", "a reader ...",
)  # fmt: skip


def control_jobs(seeds: Sequence[int], name: str = "KARD (Reranker)") -> list[Job]:
    """All controls of a method."""
    return [Job("controls", {"control": way, "seed": seed, "name": name}) for seed in seeds for way in CONTROLS]


def make_controls(experiment: Experiment, name: str, seeds: Sequence[int]) -> None:
    """Make what the controls of a method still lack; its unchanged predictions are taken as made."""
    jobs = control_jobs(seeds, name)
    students = [Job("student", {"training": training_name(method(name)), "seed": seed}) for seed in seeds]
    lacking = missing(experiment, jobs)
    students = [job for job in students if experiment.folder(job.step, **job.arguments) in lacking]
    run_jobs(experiment.settings, students, "training")
    run_jobs(experiment.settings, jobs, "controls")


@dataclass(frozen=True)
class Effect:
    """What a control does to a method.

    Attributes:
        way: None for the unchanged input.
        gap: accuracy under the control against that of the unchanged input, on the same questions; None for the latter.
        same: share of questions with the same option as from the unchanged input; no option is never the same.
    """

    way: Control | None
    accuracy: Score
    gap: Comparison | None
    same: Score


def effect(way: Control | None, runs: Sequence[Run], unchanged: Sequence[Run], free: bool = False) -> Effect:
    """Compare answers with those to the unchanged input, seed by seed.

    Args:
        free: the option counts that the text names, else the one that was scored the likeliest.
    """
    gap = compare(outcomes(runs, free), outcomes(unchanged, free)) if way else None
    same = np.array([_same(run, before, free) for run, before in zip(runs, unchanged, strict=True)])
    return Effect(way, accuracy(runs, free), gap, score(same))


def _same(run: Run, before: Run, free: bool) -> list[float]:
    options = {p.question_id: p.parsed if free else p.chosen for p in before}
    answers = ((options[p.question_id], p.parsed if free else p.chosen) for p in run)
    return [float(old is not None and old == new) for old, new in answers]


def effects(experiment: Experiment, name: str, seeds: Sequence[int], free: bool = False) -> list[Effect]:
    """The unchanged input and every control of ``CONTROLS``, in that order; Holm's correction is over the controls."""
    unchanged = [experiment.predictions(name, seed) for seed in seeds]
    controls = [
        effect(way, [experiment.controls(way.name, seed, name) for seed in seeds], unchanged, free)
        for way in CONTROLS.values()
    ]
    corrected = with_holm([one.gap for one in controls if one.gap])
    controls = [replace(one, gap=gap) for one, gap in zip(controls, corrected, strict=True)]
    return [effect(None, unchanged, unchanged, free), *controls]


def control_rows(
    experiment: Experiment, name: str, seeds: Sequence[int], folder: Path | None = None
) -> list[ResultRow]:
    """Rows for the record, table ``controls``, named ``METHOD, CONTROL``; scored answers first, then as written.

    Args:
        folder: of the run; raw predictions of all seeds are written below it.
    """
    readings = ["scored", "free"] if experiment.settings.answers == "scored" else ["free"]
    rows = []
    for way in CONTROLS:
        runs = [experiment.controls(way, seed, name) for seed in seeds]
        called = f"{name}, {way}"
        file = keep_predictions(runs, folder, called) if folder else None
        for answers in readings:
            row = accuracy_row(experiment, method(name), "greedy", answers, accuracy(runs, answers == "free"))
            rows.append(row.model_copy(update={"table": "controls", "method": called, "predictions": file}))
    return rows


def effects_html(found: Sequence[Effect]) -> str:
    """One line a control, as an HTML table; values in percent, differences in points."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in HEADER)
    lines = "".join(_line(one) for one in found)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _line(one: Effect) -> str:
    named = html.escape(one.way.name if one.way else "unchanged")
    cells = [f"{one.accuracy.value:.1f}", "{:.1f} to {:.1f}".format(*one.accuracy.ci95)]
    if one.way and (gap := one.gap):
        cells += [
            str(gap),
            html.escape(gap.p_text),
            f"{gap.detectable:.1f}",
            f"{one.same.value:.1f}",
            html.escape(one.way.expects),
        ]
    else:
        cells += ["-"] * 5
    return f'<tr><th scope="row">{named}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
