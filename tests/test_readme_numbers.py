"""README's tables are what the shipped raw outputs come to, line by line.

After a ``kard ship`` this fails and its message holds the lines as they have to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from kardlib.experiment import Experiment
from kardlib.presets import REPOSITORY, resolve
from kardlib.report import blocks
from kardlib.runs import ResultRow
from kardlib.studies import cells_of
from kardlib.study_run import cell_rows
from kardlib.tables import hits_rows, main_rows

SETS = ("mini-strategyqa", "mini-openbookqa")


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setenv("KARD_RUNS", str(tmp_path))
    return Experiment(resolve("mini", retrain=False))


Cells = dict[tuple[str, str, str], tuple[str, ...]]


def cells_of_rows(rows: Sequence[ResultRow]) -> Cells:
    """Cells as the report has them (paper, here, interval, n, unparsed) by data set, README's name and reading."""
    return {
        (row.dataset, named(row), str(row.settings.get("answers", ""))): line[1:]
        for block in blocks(rows)
        for row, line in zip(block.rows, block.lines, strict=True)
    }


def named(row: ResultRow) -> str:
    about = f", {row.metric}" if row.metric != "accuracy" else ""
    return f"{row.method}{about}{' †' if row.oracle else ''}"


def main_lines(cells: Cells) -> list[str]:
    lines = []
    for (dataset, name, reading), (paper, here, interval, _, unparsed) in cells.items():
        if reading == "scored":
            written = cells[dataset, name, "free"][1]
            lines.append(f"| {name} | {paper} | {here} | {interval} | {written} | {unparsed} |")
    return lines


def hits_lines(cells: Cells) -> list[str]:
    return [f"| {name} | {' | '.join(line[:3])} |" for (_, name, _), line in cells.items()]


def lines_of_sets(cells: Cells) -> list[str]:
    names = dict.fromkeys(name for _, name, _ in cells)
    beside = {name: [" | ".join(cells[dataset, name, "scored"][:3]) for dataset in SETS] for name in names}
    return [f"| {name} | {' | '.join(both)} |" for name, both in beside.items()]


def test_every_line_of_its_tables_is_what_ships_comes_to(experiment: Experiment) -> None:
    base = [cell for cell in cells_of("2", experiment.settings) if cell.settings.student == "mini-t5-base"]
    expected = [
        *main_lines(cells_of_rows(main_rows(experiment))),
        *hits_lines(cells_of_rows(hits_rows(experiment))),
        *lines_of_sets(cells_of_rows(cell_rows(base))),
    ]
    assert len(expected) == 11 + 8 + 11 and not experiment.tally.count("made just now")
    lacking = [line for line in expected if line not in (REPOSITORY / "README.md").read_text().splitlines()]
    assert not lacking, "README should have\n" + "\n".join(lacking)
