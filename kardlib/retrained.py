"""One cell that is trained and answered again, beside its shipped outputs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .comparison import mcnemar
from .errors import KardError
from .experiment import Experiment
from .jobs import threads
from .keys import Keys
from .presets import resolve
from .records import Prediction
from .shipped import read_set
from .studies import Cell, cells_of

CHANCE = 0.01
"""A cell made again differs from its shipped outputs where chance alone explains the gap in accuracy with less."""


@dataclass(frozen=True)
class Again:
    """A set that was made again, beside the shipped one.

    Attributes:
        different: questions with another rationale, answer, option or passages.
        shipped, here: right answers, as they count.
        p: exact McNemar test of the difference in right answers.
    """

    n: int
    different: int
    shipped: int
    here: int
    p: float


def compare_again(before: Sequence[Prediction], now: Sequence[Prediction]) -> Again:
    """Compare a shipped set with the same one made again.

    Raises:
        KardError: they are not of the same questions.
    """
    if [(p.question_id, p.gold) for p in before] != [(p.question_id, p.gold) for p in now]:
        raise KardError(f"{before[0].method}: the shipped set is not of the questions that are here")
    right = [(a.chosen == a.gold, b.chosen == b.gold) for a, b in zip(before, now, strict=True)]
    lost, won = sum(a and not b for a, b in right), sum(b and not a for a, b in right)
    different = sum(a != b for a, b in zip(before, now, strict=True))
    return Again(len(now), different, sum(a for a, _ in right), sum(b for _, b in right), mcnemar(won, lost))


def check_one() -> str | None:
    """:func:`check_cell` for one small cell: KARD (BM25) with one passage, Table 5, first seed."""
    cell = cells_of("5", resolve("mini"))[0]
    return check_cell(cell, cell.seeds[0])


def check_cell(cell: Cell, seed: int) -> str | None:
    """Train and answer one cell with one seed anew, all that is behind it included, and compare with its shipped set.

    Another machine may round differently and write other words for some questions; accuracy may differ by no more than
    chance explains.

    Returns:
        None, or one line that says how it differs, or that there is no shipped set.
    """
    import torch

    name = f"{cell.row} ({cell.settings.dataset}, {Path(cell.settings.student).name}, seed {seed})"
    file = Keys(cell.settings).shipped_file("predictions", name=cell.method, seed=seed)
    if not file.is_file():
        return f"{name}: there is no shipped set for the settings, data and models that are here"
    header, before = read_set(file)
    experiment = Experiment(cell.settings.model_copy(update={"retrain": True}))
    if not torch.cuda.is_available():
        torch.set_num_threads(threads(cell.settings))  # as it was made: sums round otherwise
    with tempfile.TemporaryDirectory(prefix="kard-again-", ignore_cleanup_errors=True) as folder:
        experiment.root = Path(folder)
        again = compare_again(before, experiment.predictions(cell.method, seed))
    if again.p >= CHANCE:
        return None
    told = f"{again.here} of {again.n} right where commit {header.commit[:10]} had {again.shipped}"
    return f"{name}: {told} (p = {again.p:.1g}; {again.different} answers differ)"
