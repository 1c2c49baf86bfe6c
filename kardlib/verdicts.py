"""Verdicts: each comparison of each claim, decided by the rows and raw predictions that were measured here.

A verdict is ``holds``, ``does not hold`` or ``undecided``, with its interval, for every set-up that has the rows; where
a row or its raw predictions are missing it is ``not run``, with the reason. Holm's correction runs over all comparisons
of one of the paper's tables, its data sets together; generated and real ones, students and splits are kept apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .claims import Cell, Claim, Here, InPaper, Selector, in_paper
from .comparison import Comparison, contrast, questions_needed, verdict_of, with_holm
from .errors import KardError
from .flips import predictions_file
from .presets import MINI_SETS
from .records import Prediction, Ranking, read_jsonl
from .runs import ResultRow
from .scoring import hits_at, outcomes
from .unusual import NAMED, unusual

Reading = Literal["scored", "free"]
Verdict = Literal["holds", "does not hold", "undecided", "not run"]
_USUAL = {"share": 1, "dapt": "none"}  # a row that does not name them has these
_MAIN = {"1", "2"}
_ALWAYS = NAMED | {"answers"}


Raw = Sequence[Prediction] | Sequence[Ranking]
Load = Callable[[ResultRow], "Raw | None"]


@dataclass(frozen=True)
class Setup:
    """What the rows of one comparison have in common.

    Attributes:
        mini: the students are the kit's own small models.
    """

    dataset: str
    split: str
    mini: bool

    def __str__(self) -> str:
        return f"{self.dataset} ({self.split}){', mini students' if self.mini else ''}"


@dataclass(frozen=True)
class Decision:
    """One comparison of one claim under one set-up.

    Attributes:
        setup: None where no row of the data set was measured at all.
        rows: measured rows in the order of ``cell.selectors``; None where one is missing.
        comparison: None where the verdict is ``not run``.
        note: why it was not run.
    """

    claim: Claim
    cell: Cell
    paper: InPaper
    setup: Setup | None = None
    rows: tuple[ResultRow | None, ...] = ()
    comparison: Comparison | None = None
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.comparison is None:
            return "not run"
        return verdict_of(self.comparison.ci95, self.cell.above, self.cell.below, self.comparison.p_holm)

    @property
    def needed(self) -> int | None:
        """Questions that it takes to find the paper's own gap at 80 % power, with the discordance measured here; None
        where there is no such gap, the claim is of another form, or nothing was measured."""
        one, gap = self.comparison, self.paper.gap
        if one is None or not one.discordance or gap <= 0 or (self.cell.above, self.cell.below) != (0.0, math.inf):
            return None
        return questions_needed(gap, max(one.discordance, gap))


def read_raw(row: ResultRow, folder: Path = Path()) -> Raw | None:
    """The raw outcomes that a row names, of all seeds; None where there are none.

    Args:
        folder: of the row's run; below the root of that, or else of the runs here, they are looked for.

    Raises:
        KardError: the file is there and cannot be read.
    """
    path = predictions_file(folder, row)
    if path is None:
        return None
    return read_jsonl(path, Ranking) if row.metric.startswith("hits@") else read_jsonl(path, Prediction)


def decide(
    claims: Sequence[Claim], rows: Sequence[ResultRow], reading: Reading = "scored", load: Load = read_raw
) -> list[Decision]:
    """Decide every comparison of every claim, in order, under each set-up that has rows of its data set.

    Args:
        rows: of any notebooks; greedy answers alone are looked at, as the paper's decoding is not known.
        reading: ``scored`` takes the likeliest option where options were scored and the text elsewhere; ``free`` the
            text everywhere.
        load: raw outcomes of a row; by default :func:`read_raw`.
    """
    rows = _of_reading([row for row in rows if row.decoding in (None, "greedy")], reading)
    tables = _Outcomes(load)
    decisions = []
    for claim in claims:
        for cell in claim.cells():
            blank = Decision(claim, cell, in_paper(cell), rows=(None,) * len(cell.selectors), note="no such row")
            decided = [_decide(replace(blank, setup=setup), rows, tables) for setup in _setups(cell, rows)]
            decisions += decided or [blank]
    return _corrected(decisions)


def _of_reading(rows: Sequence[ResultRow], reading: Reading) -> list[ResultRow]:
    """Rows as they are read; those that have no answers (hits@k) always belong."""
    scored = {(setup_of(row), row.student) for row in rows if row.settings.get("answers") == "scored"}
    wanted = {one: reading if one in scored else "free" for one in {(setup_of(row), row.student) for row in rows}}
    return [row for row in rows if row.settings.get("answers") in (None, wanted[(setup_of(row), row.student)])]


def setup_of(row: ResultRow) -> Setup:
    """The set-up of a row; one without a student counts as mini where its data set is."""
    return Setup(row.dataset, row.split, Path(row.student or row.dataset).name.startswith("mini-"))


def _setups(cell: Cell, rows: Iterable[ResultRow]) -> list[Setup]:
    return list(dict.fromkeys(setup_of(row) for row in rows if any(_matches(row, s) for s in cell.selectors)))


def _matches(row: ResultRow, wanted: Selector) -> bool:
    if (row.paper_dataset, row.paper_student or "-") != (wanted.dataset, wanted.student):
        return False
    here = wanted.here
    if row.metric not in (wanted.metric, here.metric):
        return False
    if row.table == wanted.table and row.method == wanted.method:
        return here.method is None or _settings_fit(row, here, named=True)
    if here.method is None:
        # a row that two of the paper's tables print alike is measured once; an ablation's row is not the main table's
        return row.method == wanted.method and {row.table, wanted.table} <= _MAIN | {"7"}
    return row.method == wanted.method or (row.method == here.method and _settings_fit(row, here))


def _settings_fit(row: ResultRow, here: Here, named: bool = False) -> bool:
    """Whether a row has the settings; one that bears the paper's name may leave them unsaid."""
    return all(
        row.settings.get(name, value if named else _USUAL.get(name)) == value for name, value in here.settings.items()
    )


def rows_meant(rows: Iterable[ResultRow], wanted: Selector, setup: Setup) -> list[ResultRow]:
    """All rows of a set-up that a filled-in selector may mean."""
    return [row for row in rows if _matches(row, wanted) and setup_of(row) == setup]


def nearest_row(meant: Iterable[ResultRow], wanted: Selector) -> ResultRow | None:
    """Of the rows that a selector may mean: one of the paper's name first, then of the selector's own table, then of a
    main table, then the one with the fewest settings that nobody asked for, then with most seeds."""

    def distance(row: ResultRow) -> tuple[bool, bool, bool, int, int]:
        asked = _ALWAYS | set(wanted.here.settings)
        unasked = sum(n not in asked and v not in (None, _USUAL.get(n)) for n, v in row.settings.items())
        other = row.method != wanted.method, row.table != wanted.table, row.table not in _MAIN
        return *other, unasked, -len(row.seeds)

    return min(meant, key=distance, default=None)


def _rows_of(cell: Cell, rows: Sequence[ResultRow], setup: Setup) -> tuple[tuple[ResultRow | None, ...], str]:
    """A row for each selector, all with the same settings that nobody asked for, as few as there are such rows.

    Returns:
        The rows, None where there is none; and, where there are rows of different settings only, these.
    """

    def unasked(row: ResultRow, wanted: Selector) -> str:
        return ", ".join(f"{n} = {v}" for n, v in sorted(unusual(row).items()) if n not in wanted.here.settings)

    meant = [[(unasked(row, s), row) for row in rows_meant(rows, s, setup)] for s in cell.selectors]
    variants = sorted({settings for some in meant for settings, _ in some}, key=lambda text: (len(text), text))
    for variant in variants:
        alike = [[row for settings, row in some if settings == variant] for some in meant]
        if all(alike):
            found = [nearest_row(some, s) for some, s in zip(alike, cell.selectors, strict=True)]
            return tuple(found), _named_otherwise(found, cell)
    found = [nearest_row((row for _, row in some), s) for some, s in zip(meant, cell.selectors, strict=True)]
    return tuple(found), " | ".join(variant or "as usual" for variant in variants)


def _named_otherwise(found: Sequence[ResultRow | None], cell: Cell) -> str:
    """Which of l, k and kappa* rows name that have them, where these differ and nobody asked for it."""
    named: dict[str, set[Any]] = {}
    for row, wanted in zip(found, cell.selectors, strict=True):
        for name in NAMED - set(wanted.here.settings):
            if row is not None and row.settings.get(name) is not None:
                named.setdefault(name, set()).add(row.settings[name])
    return ", ".join(f"{n} = {' or '.join(map(str, sorted(v)))}" for n, v in sorted(named.items()) if len(v) > 1)


def _decide(blank: Decision, rows: Sequence[ResultRow], tables: _Outcomes) -> Decision:
    assert blank.setup is not None
    cell, (found, apart) = blank.cell, _rows_of(blank.cell, rows, blank.setup)
    missing = [str(s) for s, row in zip(cell.selectors, found, strict=True) if row is None]
    decision = replace(blank, rows=found, note=f"no row: {', '.join(dict.fromkeys(missing))}" if missing else "")
    present = [row for row in found if row is not None]
    if missing:
        return decision
    if apart:
        return replace(decision, note=f"the rows have different settings: {apart}")
    if not cell.minus:
        return _single(decision, present[0])
    raw = [table for row in present if (table := tables.of(row)) is not None]
    if len(raw) < len(present):
        return replace(decision, note="no raw predictions")
    aligned = _aligned(raw)
    if isinstance(aligned, str):
        return replace(decision, note=aligned)
    plus, minus = aligned[: len(cell.plus)], aligned[len(cell.plus) :]
    return replace(decision, comparison=contrast(plus, minus, cell.above, cell.below))


def _single(decision: Decision, row: ResultRow) -> Decision:
    """A claim about one number is decided by the interval that its row has."""
    if row.ci95 is None:
        return replace(decision, note="the row has no interval")
    one = Comparison(row.value, row.ci95, None, "interval of the row", row.n, tuple(row.seeds) or (row.value,))
    return replace(decision, comparison=one)


@dataclass(frozen=True)
class _Table:
    """Right (1) and wrong (0), shape ``(seeds, questions)``, with the seeds and the sorted questions' ids.

    Attributes:
        gives_value: their mean is the value that the row reports: nothing is missing, and nothing was read otherwise.
        truth: what is right, for each question.
    """

    seeds: tuple[int, ...]
    ids: tuple[str, ...]
    right: np.ndarray
    gives_value: bool
    truth: tuple[Any, ...]


class _Outcomes:
    """Tables of outcomes by row, each read once."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._known: dict[str, _Table | None] = {}

    def of(self, row: ResultRow) -> _Table | None:
        key = row.model_dump_json()
        if key not in self._known:
            raw = self._load(row)
            self._known[key] = _table(row, raw) if raw else None
        return self._known[key]


def _table(row: ResultRow, raw: Raw) -> _Table:
    seeds = tuple(sorted({one.seed for one in raw}))
    ids = tuple(sorted(one.question_id for one in raw if one.seed == seeds[0]))
    runs = [[one for one in raw if one.seed == seed] for seed in seeds]
    try:
        if isinstance(raw[0], Prediction):
            right = outcomes(runs, free=row.settings.get("answers") == "free")
        else:
            right = _hits(runs, ids, int(row.metric.removeprefix("hits@")))
    except KardError as error:
        raise KardError(f"{row.predictions or row.method}: {error}") from None
    truth = {one.question_id: one.gold if isinstance(one, Prediction) else one.truth for one in runs[0]}
    return _Table(seeds, ids, right, abs(100 * right.mean() - row.value) < 0.01, tuple(truth[i] for i in ids))


def _hits(runs: Sequence[Sequence[Ranking]], ids: Sequence[str], k: int) -> np.ndarray:
    by_id = [{one.question_id: float(hits_at(one.passages, one.truth, k)) for one in run} for run in runs]
    if any(sorted(run) != list(ids) for run in by_id):
        raise KardError("rankings of different seeds are not of the same questions")
    return np.array([[run[i] for i in ids] for run in by_id])


def _aligned(tables: Sequence[_Table]) -> list[np.ndarray] | str:
    """Outcomes over the same questions and seeds (a method of one seed meets them all), or why there are none."""
    if len({table.ids for table in tables}) > 1:
        return "the rows are of different questions"
    if len({table.truth for table in tables}) > 1:
        return "what is right differs between the rows: they are of different worlds"
    if not all(table.gives_value for table in tables):
        return "raw predictions do not give their row's value"
    several = [set(table.seeds) for table in tables if len(table.seeds) > 1]
    common = sorted(set.intersection(*several)) if several else []
    if several and not common:
        return "the rows have no seed in common"
    return [t.right[[t.seeds.index(s) for s in common]] if len(t.seeds) > 1 else t.right for t in tables]


def _corrected(decisions: Sequence[Decision]) -> list[Decision]:
    """Holm's correction over each of the paper's tables, its data sets together; see :func:`_family`."""
    families: dict[tuple[str, str, bool, bool], list[int]] = {}
    for number, decision in enumerate(decisions):
        if decision.comparison is not None and decision.setup is not None:
            families.setdefault(_family(decision.cell.table, decision.setup), []).append(number)
    corrected = list(decisions)
    for family in families.values():
        values = with_holm([one for i in family if (one := decisions[i].comparison) is not None])
        for number, value in zip(family, values, strict=True):
            corrected[number] = replace(decisions[number], comparison=value)
    return corrected


def _family(table: str, setup: Setup) -> tuple[str, str, bool, bool]:
    """What comparisons that are corrected together share: generated and real sets are different experiments."""
    return table, setup.split, setup.dataset in MINI_SETS, setup.mini
