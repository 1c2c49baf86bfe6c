"""Knowing by heart against looking it up: methods compared by how often training asked about a question's topic.

From outputs that are there already; nothing is trained for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from .experiment import Experiment
from .methods import method
from .presets import MINI_SETS, Settings
from .scoring import Score, difference, outcomes
from .studies import STUDENTS, Cell, cells_of
from .tables import asked_in_training, seeds_of

SIZES = ("base", "large", "xl")
"""The three sizes of one family of students."""


def cells_by_student(settings: Settings, methods: Sequence[str]) -> dict[str, list[Cell]]:
    """The cells of Table 1 with these methods, by student, smallest first; none where the set is not generated, since
    only a generated set knows what a question is about."""
    students = [STUDENTS[settings.preset][size] for size in SIZES if size in STUDENTS[settings.preset]]
    cells = [c for c in cells_of("1", settings) if c.method in methods and c.settings.dataset in MINI_SETS]
    found = {student: [c for c in cells if c.settings.student == student] for student in students}
    return {student: of_student for student, of_student in found.items() if of_student}


def gaps_by_frequency(experiment: Experiment, first: str, second: str) -> dict[str, Score | None]:
    """Paired difference in accuracy, first minus second, in points, for each group of ``tables.ASKED``.

    Returns:
        By the group's name; None where no question is in it.
    """
    runs = {
        name: [experiment.predictions(name, seed) for seed in seeds_of(method(name), experiment)]
        for name in (first, second)
    }
    gaps: dict[str, Score | None] = {}
    for group, ids in asked_in_training(experiment).items():
        tables = [
            outcomes([[p for p in run if p.question_id in ids] for run in runs[name]]) for name in (first, second)
        ]
        gaps[group] = difference(*tables) if ids else None
    return gaps
