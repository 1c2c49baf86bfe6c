"""The paper's claims as data, and what the paper's own numbers say about them.

``data/claims.jsonl`` has one claim a line. It holds no number of the paper: a comparison names rows of
``data/paper_results.csv``, and the same names find the rows that were measured here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from scipy import stats

from .comparison import LEVEL, verdict_of
from .errors import KardError
from .records import Record, read_jsonl
from .report import PaperNumber, paper_numbers
from .runs import CLAIMS

PAPER_QUESTIONS = {"MedQA-USMLE": 1273, "StrategyQA": 687, "OpenbookQA": 500}
"""Test questions of the paper's data sets (its set-up, section 5)."""
RUNS = 3  # that the paper's standard deviations are over
IN_PAPER = {"holds": "yes", "does not hold": "no", "undecided": "inside the noise"}


class Here(Record):
    """How a row of this kit may be told where it does not bear the paper's name: method, metric and settings."""

    method: str | None = None
    metric: str | None = None
    settings: dict[str, Any] = {}


class Selector(Record):
    """One number: a row of ``paper_results.csv``, and by the same names a row measured here.

    Attributes:
        table, dataset, student: as in the file; None takes those of the place at which the contrast stands.
        here: another way to find the row measured here.
    """

    method: str = Field(min_length=1)
    table: str | None = None
    dataset: str | None = None
    student: str | None = None
    metric: str = "accuracy"
    here: Here = Here()

    def __str__(self) -> str:
        return self.method + (f", {self.metric}" if self.metric.startswith("hits") else "")


class Contrast(Record):
    """Sum of the numbers ``plus`` less the sum of the numbers ``minus``, claimed to lie between two bounds (points)."""

    plus: tuple[Selector, ...] = Field(min_length=1, max_length=2)
    minus: tuple[Selector, ...] = Field(default=(), max_length=2)
    above: float = 0.0
    below: float = math.inf

    @model_validator(mode="after")
    def _makes_sense(self) -> Contrast:
        if self.above >= self.below:
            raise ValueError(f"above: {self.above:g} is not smaller than below, {self.below:g}")
        if len(self.minus) not in (0, len(self.plus)) or (not self.minus and len(self.plus) > 1):
            raise ValueError("minus: as many numbers as in plus were expected, or none beside a single one")
        return self


class Place(Record):
    """Where in the paper a contrast is made: once for each of the students."""

    table: str = Field(min_length=1)
    dataset: str = Field(min_length=1)
    students: tuple[str, ...] = Field(min_length=1)


class Group(Record):
    """Contrasts, each made at every place."""

    places: tuple[Place, ...] = Field(min_length=1)
    contrasts: tuple[Contrast, ...] = Field(min_length=1)


class Claim(Record):
    """One claim.

    Attributes:
        claim: one plain sentence.
        made_in: the paper's tables and figures that it rests on.
        groups: the comparisons that decide it, see :meth:`cells`.
        note: what a reader of the verdicts must know, a chosen margin above all.
    """

    id: str = Field(pattern="^[a-z0-9-]+$")
    claim: str = Field(min_length=1)
    made_in: str = Field(min_length=1)
    groups: tuple[Group, ...] = Field(min_length=1)
    note: str = ""

    def cells(self) -> list[Cell]:
        """Every single comparison of the claim, its selectors filled in from its place."""
        return [
            Cell(table=p.table, dataset=p.dataset, plus=_fill(c.plus, p, student), minus=_fill(c.minus, p, student),
                 above=c.above, below=c.below)
            for group in self.groups for c, p in product(group.contrasts, group.places) for student in p.students
        ]  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One comparison of a claim; every selector names its table, data set and student."""

    table: str
    dataset: str
    plus: tuple[Selector, ...]
    minus: tuple[Selector, ...]
    above: float = 0.0
    below: float = math.inf

    @property
    def selectors(self) -> tuple[Selector, ...]:
        return self.plus + self.minus

    def __str__(self) -> str:
        """In words; students are named at each side only where the sides differ."""
        first = self.plus[0]
        if len(self.plus) == 2:  # (a - b) - (c - d), where plus is a, d and minus is b, c
            other = self.minus[1]
            return f"{first} - {self.minus[0]}: gain of {first.student} > gain of {other.student}{self._bounds}"
        students = {s.student for s in self.selectors}
        told = (" - " if self._bounds else " > ").join(f"{s} ({s.student})" if len(students) > 1 else str(s)
                                                        for s in self.selectors)  # fmt: skip
        alone = f"{first.student}: " if len(students) == 1 and first.student != "-" else ""
        return f"{alone}{told}{self._bounds}"

    @property
    def _bounds(self) -> str:
        usual = (self.above, self.below) == (0.0, math.inf)
        return "" if usual else f" between {self.above:g} and {self.below:g}"


def _fill(selectors: Sequence[Selector], at: Place, student: str) -> tuple[Selector, ...]:
    usual = {"table": at.table, "dataset": at.dataset, "student": student}
    return tuple(
        s.model_copy(update={name: getattr(s, name) or value for name, value in usual.items()}) for s in selectors
    )


def read_claims(path: Path = CLAIMS) -> list[Claim]:
    """All claims, in order.

    Raises:
        KardError: names the line and the field at fault, or an id that occurs twice.
    """
    claims = read_jsonl(path, Claim)
    ids = [claim.id for claim in claims]
    twice = next((i for i in ids if ids.count(i) > 1), None)
    if twice:
        raise KardError(f"{path}: claim {twice} occurs twice")
    return claims


@dataclass(frozen=True)
class InPaper:
    """What the paper's own numbers say about a cell; see :func:`in_paper`.

    Attributes:
        numbers: of ``plus``, then of ``minus``.
        gap, half_width: in points.
        says: ``yes``, ``no`` or ``inside the noise``.
    """

    numbers: tuple[PaperNumber, ...]
    gap: float
    half_width: float
    says: str


def in_paper(cell: Cell) -> InPaper:
    """Judge a cell by the paper's numbers alone.

    The paper's predictions are not published, so its numbers cannot be paired. Each has the variance p(1 - p)/n of n
    test questions and, where the paper gives a standard deviation of its 3 runs, sd^2/3; the half width is 1.96 times
    the root of their sum. Pairing would make it smaller: "inside the noise" is the cautious reading.

    Raises:
        KardError: a selector names no row of ``paper_results.csv``.
    """
    numbers = [paper_row(selector) for selector in cell.selectors]
    signs = [1] * len(cell.plus) + [-1] * len(cell.minus)
    gap = sum(sign * number.value for sign, number in zip(signs, numbers, strict=True))
    variance = sum(map(_variance, numbers, cell.selectors))
    half_width = float(stats.norm.ppf(1 - LEVEL / 2)) * math.sqrt(variance)
    says = IN_PAPER[verdict_of((gap - half_width, gap + half_width), cell.above, cell.below)]
    return InPaper(tuple(numbers), gap, half_width, says)


def paper_row(selector: Selector) -> PaperNumber:
    """The paper's number of a filled-in selector, in percent (counts of cases too)."""
    key = (selector.dataset or "", selector.student or "-", selector.method, selector.metric)
    for number in paper_numbers().get(key, []):
        if number.table == selector.table:
            cases = _cases(selector.metric)
            return replace(number, value=100 * number.value / cases) if cases else number
    raise KardError(f"paper_results.csv: there is no row {', '.join((selector.table or '-', *key))}")


def _cases(metric: str) -> int | None:
    found = re.fullmatch(r"cases of (\d+)", metric)
    return int(found[1]) if found else None


def _variance(number: PaperNumber, selector: Selector) -> float:
    n = _cases(selector.metric) or PAPER_QUESTIONS[selector.dataset or ""]
    return number.value * (100 - number.value) / n + (number.sd or 0.0) ** 2 / RUNS
