"""Tables from records alone: what the paper printed, and beside it what was measured here."""

from __future__ import annotations

import csv
import html
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from .errors import KardError
from .presets import runs_root
from .runs import LATEST, PAPER_CSV, RECORD, ResultRow, RunRecord, read_record
from .unusual import unusual

Format = Literal["text", "json"]
HEADER = ("method", "paper", "here", "95 % CI", "n", "unparsed %")
HERE = HEADER.index("here")
PAPER_METRICS = {"share of failures": "cases of 30"}
"""What the paper counts where we give a share."""
CAUTION = (
    "In percent; accuracy unless another measure is named; ± is the standard deviation over seeds. "
    "paper: the paper's own number for its own student and data set (≈: read off a figure). "
    "here: what this run measured. "
    "A mini number stands beside the paper's, never in its column."
)
_OF_SEEDS = {"value", "sd", "seeds", "ci95", "parse_failures", "predictions"}
"""What a row says of the seeds that it is a mean over."""
ORACLE = "† oracle: uses a rationale of the test question, which nobody has in earnest."


@dataclass(frozen=True)
class PaperNumber:
    """A number of the paper, in percent; ``sd`` in points, or None where the paper gives none.

    Attributes:
        read_off: it is printed nowhere and was read off a figure, good to a few tenths.
    """

    table: str
    value: float
    sd: float | None
    read_off: bool = False

    def __str__(self) -> str:
        if self.read_off:
            return f"≈ {self.value:.1f}"
        return f"{self.value:.2f}" + (f" ± {self.sd:.2f}" if self.sd is not None else "")


@dataclass(frozen=True)
class Block:
    """Rows that belong under one heading, as text cells in the order of ``HEADER``."""

    title: str
    lines: list[tuple[str, ...]]
    rows: tuple[ResultRow, ...] = ()


def find_records(folders: Sequence[Path] = ()) -> list[RunRecord]:
    """The records that :func:`find_runs` finds."""
    return [read_record(path) for path in find_runs(folders)]


def find_runs(folders: Sequence[Path] = ()) -> list[Path]:
    """Records below the given folders, each a run or anything above runs; by default the latest of each notebook.

    Below a folder that has ``latest`` files only the runs that these name are taken, otherwise all runs.

    Raises:
        KardError: a folder is not there or holds no record.
    """
    paths: list[Path] = []
    for folder in [Path(f) for f in folders] or [runs_root()]:
        found = _records_below(folder)
        if not found:
            raise KardError(f"{folder}: there is no finished run in it")
        paths += found
    return list(dict.fromkeys(path.resolve() for path in paths))


def _records_below(folder: Path) -> list[Path]:
    if (folder / RECORD).is_file():
        return [folder / RECORD]
    named = [(mark.parent / mark.read_text(encoding="utf-8").strip() / RECORD) for mark in folder.rglob(LATEST)]
    return sorted(path for path in named if path.is_file()) or sorted(folder.rglob(RECORD))


def merge_rows(records: Iterable[RunRecord]) -> list[ResultRow]:
    """Rows of all records in order; one that two notebooks report alike, or with fewer seeds, appears once."""
    rows: dict[str, ResultRow] = {}
    alike: dict[str, list[ResultRow]] = {}
    for record in records:
        for row in record.results:
            if row_key(row) not in rows:
                rows[row_key(row)] = row
                alike.setdefault(row.model_dump_json(exclude=_OF_SEEDS), []).append(row)
    parts = {id(row) for group in alike.values() for row in group if any(_is_part(row, other) for other in group)}
    return [row for row in rows.values() if id(row) not in parts]


def _is_part(row: ResultRow, whole: ResultRow) -> bool:
    """Whether a row of the same cell has some of the seeds of another and no more."""
    return bool(row.seeds) and len(row.seeds) < len(whole.seeds) and Counter(row.seeds) <= Counter(whole.seeds)


def row_key(row: ResultRow) -> str:
    """The same for two rows that say the same; where their predictions lie does not count."""
    return row.model_dump_json(exclude={"predictions"})


def table_place(row: ResultRow) -> tuple[int, str]:
    """Sorts rows as the paper does: its tables, its figures, then what is ours."""
    return (0 if row.table.isdigit() else 1 if row.table.startswith("Fig") else 2), row.table


def merge_notes(records: Iterable[RunRecord]) -> list[str]:
    """Notes of all records, each once."""
    return list(dict.fromkeys(note for record in records for note in record.notes))


@lru_cache(maxsize=1)
def paper_numbers() -> dict[tuple[str, str, str, str], list[PaperNumber]]:
    """The paper's numbers by (data set, student, method, metric)."""
    numbers: dict[tuple[str, str, str, str], list[PaperNumber]] = {}
    try:
        with open(PAPER_CSV, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                sd, read_off = float(row["sd"]) if row["sd"] else None, row["read_from"] == "pixels"
                key = (row["dataset"], row["student"], row["method"], row["metric"])
                numbers.setdefault(key, []).append(PaperNumber(row["table"], float(row["value"]), sd, read_off))
    except (OSError, KeyError, ValueError) as error:
        raise KardError(f"{PAPER_CSV.name}: cannot be read ({error})") from None
    return numbers


def paper_number(row: ResultRow) -> PaperNumber | None:
    """The paper's number that a row stands beside: same data set, student, method and metric, the same table first.

    How the paper's tables were decoded is not known; its numbers stand beside the greedy rows, once.
    """
    if row.decoding == "vote5":
        return None
    about = (row.paper_dataset or "", row.paper_student or "-", row.method)
    found = paper_numbers().get((*about, row.metric), [])
    if row.metric in PAPER_METRICS:
        cases = paper_numbers().get((*about, PAPER_METRICS[row.metric]), [])
        found = [replace(one, value=100 * one.value / 30) for one in cases]
    return next((number for number in found if number.table == row.table), found[0] if found else None)


def blocks(rows: Sequence[ResultRow]) -> list[Block]:
    """Group rows by table, data set, split, student and metric kind, in the order in which they come."""
    groups: dict[tuple[str, ...], list[ResultRow]] = {}
    for row in rows:
        answers = str(row.settings.get("answers", ""))
        groups.setdefault((row.table, row.dataset, row.split, row.student or "", answers), []).append(row)
    return [Block(_title(group), _lines(group), tuple(group)) for group in groups.values()]


def _title(rows: Sequence[ResultRow]) -> str:
    """What the rows have in common; what they do not is told with each."""
    row = rows[0]
    table = f"Table {row.table}" if row.table.isdigit() else row.table
    played = f" in the place of {row.paper_dataset}" if row.paper_dataset else ""
    student = f" | student {row.student}" if row.student else ""
    if row.student and row.paper_student not in (None, "-"):
        student += f" in the place of {row.paper_student}"
    reading = {"scored": " | the likeliest option counts", "free": " | the text as written counts"}
    told = reading.get(str(row.settings.get("answers", "")), "")
    shared = [f"{n}={v}" for n, v in unusual(row).items() if all(one.settings.get(n) == v for one in rows)]
    return f"{table} | {row.dataset} ({row.split}){played}{student}{told}{''.join(f' | {text}' for text in shared)}"


def _lines(rows: Sequence[ResultRow]) -> list[tuple[str, ...]]:
    names = sorted({name for row in rows for name in row.settings})
    told = [name for name in names if len({json.dumps(row.settings.get(name)) for row in rows}) > 1]
    return [_line(row, told, len({r.metric for r in rows}) > 1) for row in rows]


def _line(row: ResultRow, told: Sequence[str], tell_metric: bool) -> tuple[str, ...]:
    method = row.method + (" †" if row.oracle else "")
    if tell_metric or row.metric != "accuracy":
        method += f", {row.metric}"
    if row.decoding == "vote5":
        method += ", vote of 5"
    about = [f"{name}={row.settings[name]}" for name in told if row.settings.get(name) is not None]
    if about:
        method += f" ({', '.join(about)})"
    answers = row.n * max(1, len(row.seeds))
    here = f"{row.value:.1f}" + (f" ± {row.sd:.1f}" if row.sd is not None and len(row.seeds) > 1 else "")
    interval = f"{row.ci95[0]:.1f} to {row.ci95[1]:.1f}" if row.ci95 else "-"
    unparsed = "-" if row.parse_failures is None else f"{100 * row.parse_failures / answers:.1f}"
    return method, str(paper_number(row) or "-"), here, interval, str(row.n), unparsed


def footer(rows: Sequence[ResultRow], notes: Sequence[str] = ()) -> list[str]:
    """Lines that a table must not be read without."""
    return [CAUTION, *([ORACLE] if any(row.oracle for row in rows) else []), *notes]


def main_table(rows: Sequence[ResultRow], notes: Sequence[str] = ()) -> str:
    """The rows as plain text, the paper's column and ours side by side. Values in percent, ± in points."""
    parts: list[str] = []
    for block in blocks(rows):
        widths = [max(len(line[i]) for line in (HEADER, *block.lines)) for i in range(len(HEADER))]
        rule = "-+-".join("-" * width for width in widths)
        parts += [block.title, _format(HEADER, widths), rule]
        parts += [_format(line, widths) for line in block.lines] + [""]
    return "\n".join([*parts, *footer(rows, notes)])


def _format(line: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))]
    return " | ".join(cells).rstrip()


def main_table_html(
    rows: Sequence[ResultRow], notes: Sequence[str] = (), link: Callable[[ResultRow], str] | None = None
) -> str:
    """The rows as HTML tables, for a notebook's ``display(HTML(...))`` or for a page.

    Args:
        link: where the number of a row leads to.
    """
    parts: list[str] = []
    for block in blocks(rows):
        head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in HEADER)
        parts.append(f"<table><caption>{html.escape(block.title)}</caption><thead><tr>{head}</tr></thead><tbody>")
        for line, row in zip(block.lines, block.rows, strict=True):
            texts = [html.escape(cell) for cell in line]
            if link:
                texts[HERE] = f'<a href="{html.escape(link(row))}">{texts[HERE]}</a>'
            cells = "".join(f"<td>{text}</td>" for text in texts[1:])
            parts.append(f'<tr><th scope="row">{texts[0]}</th>{cells}</tr>')
        parts.append("</tbody></table>")
    parts += [f"<p>{html.escape(line)}</p>" for line in footer(rows, notes)]
    return "\n".join(parts)


def render(records: Sequence[RunRecord], form: Format = "text") -> str:
    """All rows of the records as a text, or as one JSON array of rows."""
    rows, notes = merge_rows(records), merge_notes(records)
    if form == "json":
        return json.dumps([row.model_dump(mode="json") for row in rows], indent=1, ensure_ascii=False)
    return main_table(rows, notes)
