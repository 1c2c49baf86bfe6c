"""README's tables are what the shipped raw outputs come to, line by line.

After a ``kard ship`` this fails and its message holds the lines as they have to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from kardlib.experiment import Experiment
from kardlib.presets import REPOSITORY, resolve
from kardlib.report import paper_number
from kardlib.runs import ResultRow
from kardlib.studies import cells_of
from kardlib.study_run import cell_rows
from kardlib.tables import hits_rows, main_rows

SETS = ("mini-strategyqa", "mini-openbookqa")


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path))
    return Experiment(resolve("mini", retrain=False))


def value_of(row: ResultRow) -> str:
    return f"{row.value:.1f}" + (f" ± {row.sd:.1f}" if row.sd is not None else "")


def interval_of(row: ResultRow) -> str:
    assert row.ci95
    return f"{row.ci95[0]:.1f} to {row.ci95[1]:.1f}"


def named(row: ResultRow) -> str:
    return f"{row.method} †" if row.oracle else row.method


def main_lines(rows: Sequence[ResultRow]) -> list[str]:
    written = {row.method: row for row in rows if row.settings["answers"] == "free"}
    lines = []
    for row in rows:
        if row.settings["answers"] == "scored":
            free = written[row.method]
            unparsed = 100 * (row.parse_failures or 0) / (row.n * len(row.seeds))
            cells = [paper_number(row) or "-", value_of(row), interval_of(row), value_of(free), f"{unparsed:.1f}"]
            lines.append(f"| {named(row)} | {' | '.join(map(str, cells))} |")
    return lines


def hits_lines(rows: Sequence[ResultRow]) -> list[str]:
    return [f"| {r.method}, {r.metric} | {paper_number(r)} | {value_of(r)} | {interval_of(r)} |" for r in rows]


def lines_of_sets(rows: Sequence[ResultRow]) -> list[str]:
    by_set = [{r.method: r for r in rows if r.dataset == name and r.settings["answers"] == "scored"} for name in SETS]
    lines = []
    for method, row in by_set[0].items():
        beside = (f"{paper_number(r) or '-'} | {value_of(r)} | {interval_of(r)}" for r in (row, by_set[1][method]))
        lines.append(f"| {named(row)} | {' | '.join(beside)} |")
    return lines


def test_every_line_of_its_tables_is_what_ships_comes_to(experiment: Experiment) -> None:
    base = [cell for cell in cells_of("2", experiment.settings) if cell.settings.student == "mini-t5-base"]
    expected = [
        *main_lines(main_rows(experiment)),
        *hits_lines(hits_rows(experiment)),
        *lines_of_sets(cell_rows(base)),
    ]
    assert len(expected) == 11 + 8 + 11 and not experiment.tally.count("made just now")
    lacking = [line for line in expected if line not in (REPOSITORY / "README.md").read_text().splitlines()]
    assert not lacking, "README should have\n" + "\n".join(lacking)
