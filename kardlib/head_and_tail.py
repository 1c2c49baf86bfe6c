"""Knowing by heart against looking it up: methods compared by how often training asked about a question's topic.

From outputs that are there already; nothing is trained for it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from .comparison import Comparison, apart, compare
from .experiment import Experiment
from .leakage import by_frequency_alone
from .methods import method
from .presets import MINI_SETS, Settings
from .records import Prediction
from .scoring import outcomes
from .studies import STUDENTS, Cell, cells_of
from .table_jobs import seeds_of
from .tables import ASKED, asked_in_training

SIZES = ("base", "large", "xl")
"""The three sizes of one family of students."""
HEAD = list(ASKED)[-1]
"""The group of ``tables.ASKED`` that training asked about most."""


def cells_by_student(settings: Settings, methods: Sequence[str]) -> dict[str, list[Cell]]:
    """The cells of Table 1 with these methods, by student, smallest first; none where the set is not generated, since
    only a generated set knows what a question is about."""
    students = [STUDENTS[settings.preset][size] for size in SIZES if size in STUDENTS[settings.preset]]
    cells = [c for c in cells_of("1", settings) if c.method in methods and c.settings.dataset in MINI_SETS]
    found = {student: [c for c in cells if c.settings.student == student] for student in students}
    return {student: of_student for student, of_student in found.items() if of_student}


def gaps_by_frequency(experiment: Experiment, first: str, second: str) -> dict[str, Comparison]:
    """Paired comparison of two methods' accuracy in each group of ``tables.ASKED`` that has questions, by its name."""
    runs = {name: _runs(experiment, name) for name in (first, second)}
    groups = asked_in_training(experiment).items()
    return {group: compare(*(_outcomes(runs[name], ids) for name in (first, second))) for group, ids in groups if ids}


def head_above_frequent(experiment: Experiment, name: str) -> Comparison | None:
    """Accuracy of a method in the head against that of the answer most often seen in training; None without a head."""
    ids = asked_in_training(experiment)[HEAD]
    if not ids:
        return None
    asked = sorted((q for q in experiment.data.test if q.id in ids), key=lambda q: q.id)
    unread = [[by_frequency_alone(experiment.data.train, [q]) / 100 for q in asked]]
    return compare(_outcomes(_runs(experiment, name), ids), np.array(unread))


def gain_beyond_head(experiment: Experiment, first: str, second: str) -> dict[str, Comparison]:
    """How much more first gains over second in each rarer group than in the head, whose questions are others."""
    runs = {name: _runs(experiment, name) for name in (first, second)}
    groups = {group: ids for group, ids in asked_in_training(experiment).items() if ids}
    gain = {
        group: (_outcomes(runs[first], ids) - _outcomes(runs[second], ids)).mean(axis=0)
        for group, ids in groups.items()
    }
    head = gain.pop(HEAD, None)
    return {} if head is None else {group: apart(rare, head) for group, rare in gain.items()}


def _runs(experiment: Experiment, name: str) -> list[list[Prediction]]:
    return [experiment.predictions(name, seed) for seed in seeds_of(method(name), experiment)]


def _outcomes(runs: Sequence[Sequence[Prediction]], ids: Container[str]) -> np.ndarray:
    return outcomes([[p for p in run if p.question_id in ids] for run in runs])
