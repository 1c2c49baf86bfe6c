"""From the cells of a study to trained models, predictions and rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .experiment import Experiment
from .jobs import Job, Work, run_work
from .keys import Keys
from .methods import method
from .runs import ResultRow
from .scoring import accuracy, outcomes
from .steps import missing
from .studies import STUDIES, Cell
from .tables import accuracy_row, keep_predictions
from .tally import Tally

STAGES: dict[str, tuple[str, ...]] = {
    "asking the teacher": ("rationales",),
    "filtering": ("verdicts",),
    "pooling, warming up": ("pools", "adapted", "retriever"),
    "training": ("reranker", "student", "rag"),
    "reranking": ("reranked",),
    "answering": ("predictions",),
}
"""The steps of each stage. They do not need each other; whatever they need is made at an earlier stage."""


def work_of(cells: Sequence[Cell]) -> dict[str, list[Work]]:
    """What is still to be made for some cells, by stage, each artefact once."""
    found: dict[Path, Work] = {}
    for cell in cells:
        asked = [Job("predictions", {"name": cell.method, "seed": seed}) for seed in cell.seeds]
        for folder, job in missing(Keys(cell.settings), asked).items():
            found.setdefault(folder, (cell.settings, job))
    return {stage: [work for work in found.values() if work[1].step in steps] for stage, steps in STAGES.items()}


def make_cells(cells: Sequence[Cell]) -> None:
    """Make whatever the cells still lack, as many artefacts at a time as there are cores."""
    for stage, work in work_of(cells).items():
        run_work(work, stage)


def ready(cell: Cell) -> bool:
    """Whether all answers of a cell are there, made here or shipped."""
    keys = Keys(cell.settings)
    return all(keys.has("predictions", name=cell.method, seed=seed) for seed in cell.seeds)


def outcomes_of(cell: Cell, free: bool = False) -> np.ndarray:
    """Right or wrong, shape ``(seeds, questions)``, see :func:`kardlib.scoring.outcomes`."""
    experiment = Experiment(cell.settings)
    return outcomes([experiment.predictions(cell.method, seed) for seed in cell.seeds], free)


def cell_rows(cells: Sequence[Cell], folder: Path | None = None, tally: Tally | None = None) -> list[ResultRow]:
    """The rows of the cells, under the names that the paper's table has; scored answers first, then as written.

    Args:
        folder: of the run; raw predictions of all seeds are written below it.
        tally: counts which of them were loaded and which were made.
    """
    return [row for cell in cells for row in _rows(cell, folder, tally)]


def _rows(cell: Cell, folder: Path | None, tally: Tally | None) -> list[ResultRow]:
    experiment, row = Experiment(cell.settings, tally), method(cell.method)
    runs = [experiment.predictions(row.name, seed) for seed in cell.seeds]
    name = f"{cell.settings.dataset} {Path(cell.settings.student).name} {cell.row}"
    file = keep_predictions(runs, folder, name) if folder else None
    beside = STUDIES[cell.table].stands_for if cell.table in STUDIES else ""
    stands = {"paper_student": beside} if beside else {}
    readings = ["scored", "free"] if cell.settings.answers == "scored" else ["free"]
    return [
        accuracy_row(experiment, row, "greedy", answers, accuracy(runs, answers == "free")).model_copy(
            update={"table": cell.table, "method": cell.row, "predictions": file} | stands
        )
        for answers in readings
    ]
