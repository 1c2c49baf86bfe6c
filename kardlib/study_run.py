"""From the cells of a study to trained models, predictions and rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .experiment import Experiment, training_name
from .jobs import Job, Work, run_work
from .methods import method
from .runs import ResultRow
from .scoring import accuracy
from .studies import Cell
from .tables import accuracy_row, keep_predictions

STAGES = ("preparing", "pooling and adapting", "training", "reranking", "answering")
"""Jobs of one stage do not need each other."""


def stages_of(cells: Sequence[Cell]) -> dict[str, list[Work]]:
    """All jobs of some cells, stage by stage; jobs that cells share come more than once and are made once."""
    stages: dict[str, list[Work]] = {name: [] for name in STAGES}
    for cell in cells:
        for stage, job in _jobs(cell):
            stages[stage].append((cell.settings, job))
    return stages


def _jobs(cell: Cell) -> list[tuple[str, Job]]:
    row, settings = method(cell.method), cell.settings
    jobs = [("preparing", Job("verdicts" if settings.filter else "rationales"))]
    if row.test_query == "reranker":
        jobs.append(("pooling and adapting", Job("pools")))
    if row.oracle:
        jobs.append(("preparing", Job("rationales", {"show_gold": False})))
    for seed in cell.seeds:
        if row.test_query == "reranker":
            jobs += [("training", Job("reranker", {"seed": seed})), ("reranking", Job("reranked", {"seed": seed}))]
        if row.training and settings.dapt != "none":
            jobs.append(("pooling and adapting", Job("adapted", {"seed": seed})))
        if row.training:
            jobs.append(("training", Job("student", {"training": training_name(row), "seed": seed})))
        jobs.append(("answering", Job("predictions", {"name": row.name, "seed": seed})))
    return jobs


def make_cells(cells: Sequence[Cell]) -> None:
    """Make whatever the cells still lack, each artefact once, as many at a time as there are cores."""
    for stage, work in stages_of(cells).items():
        run_work(work, stage)


def cell_rows(cells: Sequence[Cell], folder: Path | None = None) -> list[ResultRow]:
    """One row a cell, under the name that the paper's table has for it; scored answers first, then as written.

    Args:
        folder: of the run; raw predictions of all seeds are written below it.
    """
    return [row for cell in cells for row in _rows(cell, folder)]


def _rows(cell: Cell, folder: Path | None) -> list[ResultRow]:
    experiment, row = Experiment(cell.settings), method(cell.method)
    runs = [experiment.predictions(row.name, seed) for seed in cell.seeds]
    name = f"{cell.settings.dataset} {Path(cell.settings.student).name} {cell.row}"
    file = keep_predictions(runs, folder, name) if folder else None
    readings = ["scored", "free"] if cell.settings.answers == "scored" else ["free"]
    return [
        accuracy_row(experiment, row, "greedy", answers, accuracy(runs, answers == "free")).model_copy(
            update={"table": cell.table, "method": cell.row, "predictions": file}
        )
        for answers in readings
    ]
